"""The source that a submission's tasks run: a copy, so that editing the checkout changes no job that waits.

RUNS/sources/<hash>/   the packages, as they stand on a task's PYTHONPATH, and snapshot.json with their version

The name is a hash of every file in it and of the version, commit included. Submissions of the same code share a
snapshot; it may be removed once no job of its submissions is left.
"""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.errors import UserError
from caltech_exp.files import folder_if_it_succeeds
from caltech_exp.provenance import CHECKOUT, SNAPSHOT, CodeVersion

SOURCES = "sources"
PACKAGES = ("caltech_exp", "jobs", "reports")
NO_CODE = ("__pycache__", "reproduction")
"""Folders of the packages without code: what Python compiles, and kept results (reports/reproduction)."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of the source. `new` tells that this submission made it."""

    folder: Path
    code: CodeVersion
    new: bool

    def forget(self) -> None:
        """Remove it if this submission made it, and the folder of all of them if it is empty then."""
        if self.new:
            shutil.rmtree(self.folder, ignore_errors=True)
            if not any(self.folder.parent.iterdir()):
                self.folder.parent.rmdir()


def python_path(source: Path) -> str:
    """PYTHONPATH with that source first: a process runs the code that started it, wherever that was done."""
    rest = os.environ.get("PYTHONPATH", "")
    return f"{source}{os.pathsep}{rest}" if rest else str(source)


def check_python_path(runs: Path) -> None:
    """Raises UserError for a folder of runs whose snapshots PYTHONPATH could not name."""
    if ":" in str(runs):
        raise UserError(f"runs folder {str(runs)!r}: PYTHONPATH cannot hold ':'; use another name")


def take_snapshot(runs: Path, code: CodeVersion, checkout: Path = CHECKOUT) -> Snapshot:
    """A snapshot of the running code, made in one step unless it is there.

    Raises OSError if it cannot be written, UserError if somebody has changed the one that is there.
    """
    files = _files(checkout)
    code = code.model_copy(update={"source": None})
    name = _name(files, code)
    code = code.model_copy(update={"source": name})
    folder = runs / SOURCES / name
    if folder.exists():
        if _name(_files(folder), code.model_copy(update={"source": None})) != name:
            raise UserError(f"the snapshot {folder} was changed; remove it once no job of it is left")
        return Snapshot(folder, code, new=False)
    with folder_if_it_succeeds(folder.parent):
        half = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
        try:
            half.chmod(0o755)  # others of the group may run or read it
            for path, content in files.items():
                _write(half / path, content)
            _write(half / SNAPSHOT, code.model_dump_json(indent=1).encode() + b"\n")
            half.rename(folder)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return Snapshot(folder, code, new=True)


def _files(root: Path) -> dict[str, bytes]:
    """Relative path -> content of all files of the packages, without hidden ones and NO_CODE."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            parts = path.relative_to(root).parts
            if not any(part in NO_CODE or part.startswith(".") for part in parts) and path.is_file():
                found["/".join(parts)] = path.read_bytes()
    return found


def _name(files: dict[str, bytes], code: CodeVersion) -> str:
    digest = hashlib.sha256(code.model_dump_json().encode())
    for path, content in files.items():
        digest.update(f"\n{len(path)} {path} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    """A file that is not edited by mistake."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
