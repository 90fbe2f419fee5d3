"""What a submission leaves beside its manifest: a copy of the source, and a record of the environment.

RUNS/sources/<user id>/<hash>/   the package, snapshot.json with its version, and files.sha256

files.sha256 lists every other file with its SHA-256; the snapshot is named after the SHA-256 of files.sha256. So
the name stands for every byte: a task runs the snapshot only if it is complete (caltech_exp/bootstrap.py).
Submissions of the same code share a snapshot. Users do not: what a task executes belongs to the user who submitted
it. A snapshot may be removed once no job of its submissions is left.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

from caltech_exp.bootstrap import (
    INDEX,
    NAME_DIGITS,
    PACKAGE,
    THIS,
    UntrustedError,
    check_own_folder,
    list_files,
    read_own,
)
from caltech_exp.cli import UserError
from caltech_exp.files import close_to_others, folder_if_it_succeeds, make_own_folder, new_file, umask
from caltech_exp.machine import nvidia_driver
from caltech_exp.provenance import CHECKOUT, SNAPSHOT, CodeVersion, Snapshot
from caltech_exp.records import StrictRecord, write_record

ENVIRONMENT = "environment.json"
VARIABLES = (
    "CALTECH101_ROOT",
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LOADEDMODULES",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "PYTORCH_CUDA_ALLOC_CONF",
    "SLURM_CLUSTER_NAME",
    "SLURM_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_HOME",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
)
"""The only variables that are recorded: an environment may also hold passwords and tokens."""


class Environment(StrictRecord):
    """The environment of the command that submitted.

    packages     name -> version of every installed distribution, as `pip freeze` lists them
    modules      loaded by environment modules or Lmod, in their order
    conda        name of the conda environment, if there is one
    cuda_driver  version of this machine's NVIDIA driver; None without one
    variables    the VARIABLES that are set
    """

    host: str
    system: str
    python: str
    executable: str
    packages: dict[str, str]
    modules: tuple[str, ...]
    conda: str | None
    cuda_driver: str | None
    variables: dict[str, str]


def describe_environment() -> Environment:
    """The environment of this process."""
    variables = {name: _text(os.environ[name]) for name in VARIABLES if name in os.environ}
    return Environment(
        host=socket.gethostname(),
        system=platform.platform(),
        python=platform.python_version(),
        executable=_text(sys.executable),
        packages=_packages(),
        modules=tuple(name for name in variables.get("LOADEDMODULES", "").split(":") if name),
        conda=variables.get("CONDA_DEFAULT_ENV"),
        cuda_driver=nvidia_driver(),
        variables=variables,
    )


def write_environment(folder: Path) -> None:
    """Write environment.json into the folder of a submission. Raises OSError."""
    write_record(folder, ENVIRONMENT, describe_environment())


def _packages() -> dict[str, str]:
    """Name -> version; of several with one name the first on sys.path counts, as for `import`."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and version:  # a half-removed one has none
            found.setdefault(name, version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _text(value: str) -> str:
    """The value with invalid bytes escaped: a record is UTF-8."""
    return value.encode(errors="backslashreplace").decode()


SOURCES = "sources"


def snapshots_folder(runs: Path) -> Path:
    """The folder of this user's snapshots in a study."""
    return runs / SOURCES / str(os.geteuid())


def take_snapshot(runs: Path, code: CodeVersion, checkout: Path = CHECKOUT) -> Snapshot:
    """A snapshot of the running code: a new one appears complete or not at all.

    In an existing one missing or changed files are restored, so that waiting tasks can run it. Raises OSError if
    it cannot be written, UserError if it holds a file that does not belong to it.
    """
    files = _files(checkout)
    files[SNAPSHOT] = code.model_copy(update={"source": None}).model_dump_json(indent=1).encode() + b"\n"
    index = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files)).encode()
    name = hashlib.sha256(index).hexdigest()[:NAME_DIGITS]
    files[INDEX] = index
    code = code.model_copy(update={"source": name})
    folder = snapshots_folder(runs) / name
    digest = hashlib.sha256(files.get(THIS, b"")).hexdigest()
    with folder_if_it_succeeds(folder.parent):
        make_own_folder(folder.parent)
        if os.path.lexists(folder):
            _restore(folder, files)
            return Snapshot(folder, code, digest, new=False)
        half = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
        try:
            with contextlib.suppress(OSError):
                half.chmod(0o755 & ~umask())  # the group may read it
            for path, content in files.items():
                _write(half, path, content)
            half.rename(folder)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return Snapshot(folder, code, digest, new=True)


def _restore(folder: Path, files: Mapping[str, bytes]) -> None:
    """Restore missing and changed files. Raises UserError for a file that does not belong to the snapshot."""
    try:
        _close(folder)
        for path in sorted({*list_files(folder)} - files.keys()):
            raise UserError(f"snapshot {folder}: {path} does not belong to it; remove that file")
        for path, content in files.items():
            try:
                is_right = read_own(folder / path) == content
            except (FileNotFoundError, UntrustedError):
                is_right = False
            if not is_right:
                _write(folder, path, content)
    except UntrustedError as error:
        raise UserError(f"snapshot {folder}: {error}") from None


def _close(folder: Path) -> None:
    """Remove other users' permission to write from the snapshot and its folders."""
    subfolders = (Path(path) for path, _, _ in os.walk(folder))
    for path in (folder, *(path for path in subfolders if path != folder)):
        with contextlib.suppress(OSError):
            close_to_others(path)
        check_own_folder(path)


def _files(root: Path) -> dict[str, bytes]:
    """Relative path -> content of the package's files, without hidden files and bytecode."""
    files = {}
    for path in sorted((root / PACKAGE).rglob("*")):
        parts = path.relative_to(root).parts
        if not any(part == "__pycache__" or part.startswith(".") for part in parts) and path.is_file():
            files["/".join(parts)] = path.read_bytes()
    return files


def _write(folder: Path, path: str, content: bytes) -> None:
    """Write a read-only file, which nobody edits by mistake, in place of any other of its name."""
    file_path = folder / path
    for parent in reversed(file_path.relative_to(folder).parents[:-1]):
        make_own_folder(folder / parent)
    with new_file(file_path, mode=0o444, flush=False) as file:
        file.write(content)
