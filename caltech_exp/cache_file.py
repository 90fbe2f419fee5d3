"""Files that only save time: what was read before, known again by its stamp, or nothing at all.

A line with a digest of all that follows, then the content. The file counts only if its digest is right and the
code that reads it is the code that wrote it. Otherwise it is as if there were none.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from caltech_exp.files import look_again, new_file


class Stamp(NamedTuple):
    """By what a file is known again: size in bytes, time of its last change in nanoseconds, inode."""

    size: int
    mtime: int
    inode: int


def stamp(path: str | Path) -> Stamp | None:
    """The file's stamp, None if there is no such file or it cannot be looked at."""
    try:
        found = look_again(lambda: os.stat(path))  # noqa: PTH116 (12,000 runs notice a Path for each)
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def load_content(path: Path, readers: Iterable[ModuleType]) -> bytes | None:
    """What `save_content` wrote; None if it is not there, damaged, or written where `readers` were other code."""
    try:
        with path.open("rb") as file:
            head, content = file.readline().decode(errors="replace").split(), file.read()
    except OSError:
        return None
    return content if head == _head(content, readers).split() else None


def save_content(path: Path, content: bytes | memoryview, readers: Iterable[ModuleType]) -> None:
    """Write `content` for the next `load_content`. Raises OSError.

    In one step, but without waiting for the disk: what a crash leaves of it has a wrong digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, flush=False) as file:
        file.write(f"{_head(content, readers)}\n".encode())
        file.write(content)


def _head(content: bytes | memoryview, readers: Iterable[ModuleType]) -> str:
    """Names the reading code and the content: `caltech_exp-results <hex> <hex>`."""
    code = hashlib.blake2b(digest_size=16)
    for path in (*(module.__file__ for module in readers), __file__):
        code.update(Path(path or "").read_bytes())
    return f"caltech_exp-results {code.hexdigest()} {hashlib.blake2b(content, digest_size=16).hexdigest()}"
