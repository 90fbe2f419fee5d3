"""Which code and which libraries computed a result."""

import contextlib
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import caltech_exp
from caltech_exp.bootstrap import command
from caltech_exp.child_environment import ask_tool
from caltech_exp.records import StrictRecord

LIBRARIES = ("torch", "torchvision", "submitit", "pillow", "numpy")
CHECKOUT = Path(caltech_exp.__file__).resolve().parent.parent
"""The folder of the running code: a checkout, what `pip` installed, or the snapshot that a task runs from."""
SNAPSHOT = "snapshot.json"
"""In a snapshot (submission/snapshot.py): its CodeVersion, whose `source` is the name of the folder."""
BUILD = Path(caltech_exp.__file__).with_name("_build.json")
"""In a wheel: the CodeVersion that setup.py built it from."""
GIT_SECONDS = 20.0


class CodeVersion(StrictRecord):
    """The package's version and, in a git checkout, its commit and whether anything was uncommitted.

    source  name of the snapshot that tasks run from, a hash of all its files; None for code that is no snapshot
    """

    version: str
    commit: str | None
    dirty: bool | None
    source: str | None = None

    def __str__(self) -> str:
        """`0.1.0 (1234567890ab, uncommitted changes, source 0123456789ab)`; a clean commit says all by itself."""
        words = [self.commit[:12] if self.commit else "no git checkout"]
        words += ["uncommitted changes"] if self.dirty else []
        words += [f"source {self.source[:12]}"] if self.source and (self.dirty or not self.commit) else []
        return f"{self.version} ({', '.join(words)})"


@dataclass(frozen=True)
class Origin:
    """Where a run is executed from: submission, job id, log file, version of the running code."""

    submission: str
    job: str
    log: str
    code: CodeVersion


def code_version() -> CodeVersion:
    """The version of the running code.

    A snapshot has the version of the code it was taken of, a wheel that of the commit it was built from. Files
    that git does not track, such as results, leave it clean. Raises OSError or pydantic.ValidationError for a
    snapshot or a wheel that somebody has damaged.
    """
    if (CHECKOUT / SNAPSHOT).exists():
        taken = CodeVersion.model_validate_json((CHECKOUT / SNAPSHOT).read_bytes())
        return taken.model_copy(update={"source": CHECKOUT.name})
    if BUILD.exists():
        return CodeVersion.model_validate_json(BUILD.read_bytes())
    commit = _git("rev-parse", "HEAD") if (CHECKOUT / ".git").exists() else None
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return CodeVersion(
        version=caltech_exp.__version__, commit=commit, dirty=None if changes is None else bool(changes)
    )


def _git(*arguments: str) -> str | None:
    """What git says of the checkout; None if it says nothing.

    Its code runs already, so it may belong to somebody else (safe.directory). No repository around it counts.
    """
    settings = ("-c", f"safe.directory={CHECKOUT}", "-c", "core.fsmonitor=false")  # which would start a daemon
    command = ["git", "--no-pager", *settings, "-C", str(CHECKOUT), *arguments]
    printed = ask_tool(
        command,
        GIT_SECONDS,
        GIT_CEILING_DIRECTORIES=str(CHECKOUT.parent),
        GIT_OPTIONAL_LOCKS="0",  # it writes nothing
        GIT_TERMINAL_PROMPT="0",
    )
    return None if printed is None else printed.strip()


def library_versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries that can change a result."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@dataclass(frozen=True)
class Snapshot:
    """A copy of the source.

    digest  SHA-256 of the file by which its processes start (caltech_exp/bootstrap.py)
    new     whether this submission made it
    """

    folder: Path
    code: CodeVersion
    digest: str
    new: bool

    def command(self, module: str, *arguments: str) -> tuple[str, ...]:
        """What follows the name of Python to run a module of the snapshot."""
        return command(self.folder, self.digest, module, arguments)

    def forget(self) -> None:
        """Remove it if this submission made it, and the folders around it that are empty then."""
        if self.new:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()
                self.folder.parent.parent.rmdir()
