"""Start the process of a job on a verified snapshot of the code, or refuse to.

    python -u -c LINE SNAPSHOT DIGEST MODULE ARGUMENT...

LINE executes the snapshot's copy of this file if its SHA-256 is DIGEST. `main` reads every file of the snapshot
once, checks names and contents against the snapshot's name, and runs MODULE. From then on the package is imported
only from these bytes, never from sys.path, an editable install or a `.pyc`. PYTHONPATH stays as the user set it.
Processes of multiprocessing get the same bytes.

Only the standard library is imported here: nothing else is trusted yet.
"""

import contextlib
import errno
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing.spawn
import os
import pwd
import runpy
import socket
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

PACKAGE = "caltech_exp"
"""The only package in a snapshot."""
INDEX = "files.sha256"
"""Lists every file of a snapshot in the format of sha256sum(1); the start of its SHA-256 names the snapshot."""
NAME_DIGITS = 16
THIS = "caltech_exp/bootstrap.py"
STALE_TRIES = 5
STALE_SECONDS = 0.1
BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

Answer = TypeVar("Answer")

LINE = f"""\
import hashlib,json,os,sys,types
path=sys.argv[1]+"/{THIS}"
try:
 with open(path,"rb") as file:code=file.read()
except OSError:code=b""
if hashlib.sha256(code).hexdigest()!=sys.argv[2]:
 reason="snapshot "+sys.argv[1]+": {THIS} is missing or was changed; submit again, which restores it"
 ids=[os.environ.get(name,"") for name in ("SLURM_ARRAY_JOB_ID","SLURM_ARRAY_TASK_ID")]
 job="_".join(ids) if all(ids) else os.environ.get("SLURM_JOB_ID","queue")
 if os.environ.get("SUBMITIT_EXECUTOR")!="slurm":job=os.environ.get("SUBMITIT_LOCAL_JOB_ID","queue")
 try:
  with open(sys.argv[-1]+"/"+job+"_refused.json","w") as file:json.dump(dict(reason=reason,job=job),file)
 except OSError:pass
 sys.exit("error: "+reason)
start=types.ModuleType("caltech_exp.bootstrap")
sys.modules[start.__name__]=start
exec(compile(code,path,"exec"),vars(start))
start.main()
"""
"""For `python -c`. It records a refusal itself if the snapshot lacks this file (see `refuse`)."""

IN_A_CHILD = f"""\
import sys,types
start=types.ModuleType("{THIS.removesuffix(".py").replace("/", ".")}")
sys.modules[start.__name__]=start
exec(compile(files["{THIS}"],path,"exec"),vars(start))
start.Finder(folder,files).install()
"""


class UntrustedError(Exception):
    """A file that must not be executed: which one and why (`problem`), and what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem


running: "Finder | None" = None
"""The snapshot that this process runs; None in a checkout or an installation."""


class Finder(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Imports the package of a snapshot from memory. `files` maps relative paths to contents."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.folder = folder
        self.files = files

    def install(self) -> None:
        """Make this the first finder of the package, and forget the modules that are imported already."""
        global running
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            if name != __name__:
                del sys.modules[name]
        sys.meta_path.insert(0, self)
        running = self
        prepare = multiprocessing.spawn.get_preparation_data

        def with_snapshot(name: str) -> dict[str, Any]:
            return {**prepare(name), "caltech_exp_snapshot": _InAChild(self)}

        # Processes started by spawn and forkserver receive this first; forked ones have it already.
        multiprocessing.spawn.get_preparation_data = with_snapshot

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Raises ModuleNotFoundError for a module that the snapshot lacks, so that no other finder is asked."""
        if fullname.partition(".")[0] != PACKAGE:
            return None
        place, is_package = self._place(fullname)
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=str(self.folder / place), is_package=is_package
        )
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [str((self.folder / place).parent)]
        return spec

    def _place(self, fullname: str) -> tuple[str, bool]:
        base = fullname.replace(".", "/")
        for place, is_package in ((f"{base}/__init__.py", True), (f"{base}.py", False)):
            if place in self.files:
                return place, is_package
        raise ModuleNotFoundError(f"the snapshot {self.folder} has no module {fullname}", name=fullname)

    def get_filename(self, fullname: str) -> str:
        return str(self.folder / self._place(fullname)[0])

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.files[self._place(fullname)[0]])

    def is_package(self, fullname: str) -> bool:
        return self._place(fullname)[1]

    def get_data(self, path: str) -> bytes:
        """The content of a file of the snapshot, by its whole path."""
        try:
            return self.files[Path(path).relative_to(self.folder).as_posix()]
        except (KeyError, ValueError):
            raise FileNotFoundError(path) from None


class _InAChild:
    """Installs the finder in a child process when unpickled there, before anything of the package."""

    def __init__(self, finder: Finder) -> None:
        self.names = {
            "folder": finder.folder,
            "files": finder.files,
            "path": str(finder.folder / THIS),
            "__name__": __name__,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (IN_A_CHILD, self.names)


def main() -> None:
    """Run the command line's module on the snapshot's code; exits with status 2 if the snapshot is refused."""
    folder, _, module, *arguments = sys.argv[1:]
    record = Path(sys.argv[-1])
    try:
        Finder(Path(folder), verified_files(Path(folder))).install()
    except UntrustedError as error:
        refuse(record, str(error))
    if os.path.isdir(record):  # noqa: PTH112 (Path.is_dir may raise for long text)
        with contextlib.suppress(IsADirectoryError):
            (record / refusal_name()).unlink(missing_ok=True)  # left by an earlier start of this job
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def refuse(folder: Path, reason: str) -> None:
    """Exit with status 2; the reason goes to the log and, for status.py, to the submission's folder."""
    record = {
        "reason": reason,
        "job": job_id(),
        "host": socket.gethostname(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if os.path.isdir(folder):  # noqa: PTH112 (as above)
        try:
            (folder / refusal_name()).write_text(json.dumps(record), encoding="utf-8")
        except OSError as error:
            print(f"{folder / refusal_name()} cannot be written ({error.strerror})", file=sys.stderr)
    print(f"error: {reason}", file=sys.stderr, flush=True)
    sys.exit(2)


def refusal_name(job: str = "") -> str:
    """The name of the file that records a job's refusal; by default of this process's job."""
    return f"{job or job_id()}_refused.json"


def job_id() -> str:
    """This process's job id as submitit knows it; `queue` for the process of this machine's queue."""
    read = os.environ.get
    if read("SUBMITIT_EXECUTOR") != "slurm":
        return read("SUBMITIT_LOCAL_JOB_ID", "queue")
    array, index = read("SLURM_ARRAY_JOB_ID"), read("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else read("SLURM_JOB_ID", "queue")


def verified_files(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of a snapshot's files. Raises UntrustedError if they do not match its name."""

    def refused(problem: str, remedy: str = "submit again, which restores it") -> UntrustedError:
        return UntrustedError(f"snapshot {folder}: {problem}", remedy)

    try:
        for owned in (folder.parent, folder):
            check_own_folder(owned)
        index = read_own(folder / INDEX)
        if hashlib.sha256(index).hexdigest()[:NAME_DIGITS] != folder.name:
            raise refused(f"{INDEX} was changed")
        lines = (line.partition("  ") for line in index.decode().splitlines())
        digests = {path: digest for digest, _, path in lines}
        paths = set(list_files(folder))
        for path in sorted(digests.keys() - paths):
            raise refused(f"{path} is missing")
        for path in sorted(paths - digests.keys() - {INDEX}):
            raise refused(f"{path} does not belong to it", "remove that file and submit again")
        files = {path: read_own(folder / path) for path in digests}
    except FileNotFoundError as error:
        raise refused(f"{_inside(folder, error.filename)} is missing") from None
    except OSError as error:
        raise refused(f"{_inside(folder, error.filename)} cannot be read ({error.strerror})") from None
    for path, content in files.items():
        if hashlib.sha256(content).hexdigest() != digests[path]:
            raise refused(f"{path} was changed")
    return files


def _inside(folder: Path, path: object) -> str:
    place = Path(str(path))
    return str(place.relative_to(folder)) if folder in place.parents else "it"


def list_files(folder: Path) -> list[str]:
    """Relative paths of all files in a snapshot, without hidden and compiled files, which are never read.

    Raises UntrustedError for a link, or a folder that others may write.
    """
    paths = []
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith(".") or entry.name == "__pycache__":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    check_own_folder(path)
                    folders.append(path)
                else:
                    paths.append(path.relative_to(folder).as_posix())
    return paths


def look_again(read: Callable[[], Answer]) -> Answer:
    """What `read` returns; tried again while NFS says ESTALE, as it does for a file that was just replaced."""
    for _ in range(STALE_TRIES):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        time.sleep(STALE_SECONDS)
    return read()


def read_own(path: Path) -> bytes:
    """The content of a file to execute or unpickle.

    Raises UntrustedError for a link, another user's file, or one that others may write.
    """
    return look_again(lambda: _read_own(path))


def _read_own(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink():
            raise UntrustedError(f"{path} is a link", "put the file itself there and submit again") from None
        raise
    with os.fdopen(handle, "rb") as file:
        _check_own(path, os.fstat(handle))
        return file.read()


def check_own_folder(path: Path) -> None:
    """Raises UntrustedError for a link, another user's folder, or one that others may write."""
    _check_own(path, path.lstat(), folder=True)


def _check_own(path: Path, status: os.stat_result, *, folder: bool = False) -> None:
    kind, is_kind = ("folder", stat.S_ISDIR) if folder else ("file", stat.S_ISREG)
    if not is_kind(status.st_mode):
        raise UntrustedError(f"{path} is not a {kind}", "remove it and submit again")
    if status.st_uid != os.geteuid():
        raise UntrustedError(
            f"{path} belongs to {user_name(status.st_uid)}, not to {user_name(os.geteuid())} who would execute it",
            "submit again",
        )
    if status.st_mode & BY_OTHERS:
        raise UntrustedError(f"{path} can be written by other users", "chmod go-w it and submit again")


def user_name(number: int) -> str:
    """A user's name, or `user 1000` if it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def command(folder: Path, digest: str, module: str, arguments: Sequence[str] = ()) -> tuple[str, ...]:
    """Python's arguments to run a module of the snapshot; `digest` is the SHA-256 of its bootstrap.py."""
    return ("-u", "-c", LINE, str(folder), digest, module, *arguments)


def own_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The command of another process on the same code as this one, whatever PYTHONPATH or an installation hold."""
    if running:
        digest = hashlib.sha256(running.files[THIS]).hexdigest()
        return [sys.executable, *command(running.folder, digest, module, arguments)]
    checkout = str(Path(__file__).resolve().parent.parent)
    return [sys.executable, "-c", ON_A_CHECKOUT, checkout, module, *arguments]


ON_A_CHECKOUT = (
    "import runpy,sys;_,place,module,*words=sys.argv;sys.path.insert(0,place);sys.argv[1:]=words;"
    "runpy.run_module(module,run_name='__main__',alter_sys=True)"
)
