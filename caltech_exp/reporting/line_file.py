"""A CSV of many runs, of which only the lines of new runs are written anew.

With thousands of runs' lines on disk, formatting numbers is what takes time. The lines of a run that has not
changed are copied from the file of the report before; where they stand is kept in an index, which begins with a
checksum of itself and the file. If that is wrong, all is written anew.
"""

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from caltech_exp.files import new_file, write_atomically

Lines = tuple[str, str, Callable[[], str]]
"""A run's id, what changes with its lines, and how to make them, each with its line feed."""
Places = dict[str, tuple[str, int, int]]
"""Run id -> what changes with its lines, where they begin in the file and how long they are, in bytes."""
_PLACES = TypeAdapter(Places)


def write_lines(path: Path, index: Path, heading: str, entries: Iterable[Lines], code: bytes) -> None:
    """Write `heading` and the lines of all `entries` to `path`, unless it holds just that. Raises OSError.

    index  remembers where the lines of every run stand in `path`
    code   stands for all that decides how lines are made
    """
    start = zlib.crc32(heading.encode(), zlib.crc32(code))
    old, places = _before(path, index, start)
    first = heading.encode()
    parts: list[bytes | slice] = [first]  # a slice is of the old file
    where: Places = {}
    at = len(first)
    for name, digest, make in entries:
        known, begin, length = places.get(name, (None, 0, 0))
        last = parts[-1]
        if known != digest:
            lines = make().encode()
            parts.append(lines)
            length = len(lines)
        elif isinstance(last, slice) and last.stop == begin:
            parts[-1] = slice(last.start, begin + length)
        else:
            parts.append(slice(begin, begin + length))
        where[name] = (digest, at, length)
        at += length
    if old and where == places:
        return
    index_text = _PLACES.dump_json(where)
    checksum = zlib.crc32(index_text, start)
    with new_file(path) as file:
        for part in parts:
            content = old[part] if isinstance(part, slice) else part
            file.write(content)
            checksum = zlib.crc32(content, checksum)
    index.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(index, b"%d\n" % checksum + index_text)


def _before(path: Path, index: Path, start: int) -> tuple[memoryview, Places]:
    """The file and the places in it, if the index is of this very file; else nothing."""
    try:
        checksum, _, text = index.read_bytes().partition(b"\n")
        content = memoryview(path.read_bytes())
        if checksum == b"%d" % zlib.crc32(content, zlib.crc32(text, start)):
            return content, _PLACES.validate_json(text)
    except (OSError, ValidationError):
        pass
    return memoryview(b""), {}
