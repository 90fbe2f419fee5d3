"""What a submission runs and was made in: a copy of the source, and a record of the environment.

RUNS/sources/<user id>/<hash>/   the package, snapshot.json with its version, and files.sha256

files.sha256 lists every other file with its SHA-256, and the snapshot's name is the start of its own. The name
stands for every byte: a task runs the snapshot only if all of it is there (caltech_exp/bootstrap.py). Submissions
of the same code share a snapshot. Users do not: what a task executes belongs to the user who submitted it. A
snapshot may be removed once no job of its submissions is left.
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
"""The only variables that are kept: a user's environment holds passwords and tokens too."""


class Environment(StrictRecord):
    """The environment of the command that submitted.

    packages     name -> version of every installed distribution, as `pip freeze` lists them
    modules      loaded by environment modules or Lmod, in their order
    conda        name of the conda environment; None outside of one
    cuda_driver  version of this machine's NVIDIA driver; None without one
    variables    those of VARIABLES that are set
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
    """Leave environment.json in the folder of a submission. Raises OSError."""
    write_record(folder, ENVIRONMENT, describe_environment())


def _packages() -> dict[str, str]:
    """The first of a name on sys.path counts, as it does for `import`."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and version:  # a half-removed one has none
            found.setdefault(name, version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _text(value: str) -> str:
    """The value with bytes that are no text as escapes: a record is UTF-8."""
    return value.encode(errors="backslashreplace").decode()


SOURCES = "sources"


def snapshots_folder(runs: Path) -> Path:
    """Where this user's snapshots in a study lie."""
    return runs / SOURCES / str(os.geteuid())


def take_snapshot(runs: Path, code: CodeVersion, checkout: Path = CHECKOUT) -> Snapshot:
    """A snapshot of the running code, made in one step unless it is there.

    Of one that is there, files that are missing or were changed are restored: tasks that wait for it run again.
    Raises OSError if it cannot be written, UserError if something lies in it that does not belong there.
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
                half.chmod(0o755 & ~umask())  # others of the group may read it
            for path, content in files.items():
                _write(half, path, content)
            half.rename(folder)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return Snapshot(folder, code, digest, new=True)


def _restore(folder: Path, files: Mapping[str, bytes]) -> None:
    """Bring back what is not as it was. Raises UserError for what does not belong there, and stays."""
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
    """Take other users' permission to write from the snapshot and the folders in it."""
    check_own = [folder, *(Path(place) for place, _, _ in os.walk(folder) if Path(place) != folder)]
    for place in check_own:
        with contextlib.suppress(OSError):
            close_to_others(place)
        check_own_folder(place)


def _files(root: Path) -> dict[str, bytes]:
    """Relative path -> content of all files of the package, without hidden ones and what Python compiles."""
    files = {}
    for path in sorted((root / PACKAGE).rglob("*")):
        parts = path.relative_to(root).parts
        if not any(part == "__pycache__" or part.startswith(".") for part in parts) and path.is_file():
            files["/".join(parts)] = path.read_bytes()
    return files


def _write(folder: Path, path: str, content: bytes) -> None:
    """A file that is not edited by mistake, in place of whatever has its name."""
    place = folder / path
    for parent in reversed(place.relative_to(folder).parents[:-1]):
        make_own_folder(folder / parent)
    with new_file(place, mode=0o444, flush=False) as file:
        file.write(content)
