"""The source that a submission's tasks run: a copy, so that editing the checkout changes no job that waits.

RUNS/sources/<user id>/<hash>/   the packages, snapshot.json with their version, and files.sha256

files.sha256 lists every other file with its SHA-256, and the snapshot's name is the start of its own. The name
stands for every byte: a task runs the snapshot only if all of it is there (caltech_exp/bootstrap.py). Submissions
of the same code share a snapshot. Users do not: what a task executes belongs to the user who submitted it. A
snapshot may be removed once no job of its submissions is left.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.bootstrap import (
    INDEX,
    NAME_DIGITS,
    PACKAGES,
    THIS,
    UntrustedError,
    check_own_folder,
    command,
    list_files,
    read_own,
)
from caltech_exp.errors import UserError
from caltech_exp.files import close_to_others, folder_if_it_succeeds, make_own_folder, umask
from caltech_exp.provenance import CHECKOUT, SNAPSHOT, CodeVersion

SOURCES = "sources"
NO_CODE = ("__pycache__", "reproduction")
"""Folders of the packages without code: what Python compiles, and kept results (reports/reproduction)."""


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
    """Relative path -> content of all files of the packages, without hidden ones and NO_CODE."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            parts = path.relative_to(root).parts
            if not any(part in NO_CODE or part.startswith(".") for part in parts) and path.is_file():
                found["/".join(parts)] = path.read_bytes()
    return found


def _write(folder: Path, path: str, content: bytes) -> None:
    """A file that is not edited by mistake, in place of whatever has its name."""
    place = folder / path
    for parent in reversed(place.relative_to(folder).parents[:-1]):
        make_own_folder(folder / parent)
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        with contextlib.suppress(OSError):
            Path(temporary).chmod(0o444 & ~umask())
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
