"""All epochs of all runs as one tidy CSV, of which only the lines of new runs are written anew.

With a hundred thousand runs' lines on disk, formatting numbers is what takes time. The lines of a run that has not
changed are copied from the file of the report before; where they stand, and a digest of the file, is kept in an
index. If the digest is wrong, all is written anew.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from caltech_exp.files import write_atomically
from reports.outcome import COLUMNS, Outcome

HEADINGS = ",".join(("run_id", "epoch", *COLUMNS)) + "\n"
_INDEX = TypeAdapter(tuple[str, dict[str, tuple[str, int, int]]])


def write_epochs(path: Path, index: Path, outcomes: Iterable[Outcome]) -> None:
    """Write `path`, a line per run and epoch, empty for a loss that was not finite. Raises OSError.

    index  remembers where the lines of every run stand in `path`
    """
    old, places = _before(path, index)
    parts, where, at = [HEADINGS.encode()], {}, len(HEADINGS)
    for one in outcomes:
        digest = hashlib.blake2b(one.epochs.table.tobytes(), digest_size=16).hexdigest()
        known, start, length = places.get(one.run_id, ("", 0, 0))
        lines = old[start : start + length] if known == digest else _lines(one).encode()
        parts.append(bytes(lines))
        where[one.run_id] = (digest, at, len(lines))
        at += len(lines)
    if old and where == places:
        return
    content = b"".join(parts)
    write_atomically(path, content)
    index.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(index, _INDEX.dump_json((_digest(content), where)))


def _before(path: Path, index: Path) -> tuple[memoryview, dict[str, tuple[str, int, int]]]:
    """The file and the places in it, if the index is of this very file; else nothing."""
    try:
        digest, places = _INDEX.validate_json(index.read_bytes())
        content = path.read_bytes()
    except (OSError, ValidationError):
        return memoryview(b""), {}
    return (memoryview(content), places) if _digest(content) == digest else (memoryview(b""), {})


def _digest(content: bytes) -> str:
    """Of the file, and of this code that lays it out."""
    return hashlib.blake2b(content + Path(__file__).read_bytes(), digest_size=16).hexdigest()


def _lines(one: Outcome) -> str:
    lines = []
    for number, row in enumerate(one.epochs.table.tolist(), start=1):
        cells = ",".join("" if value != value else repr(value) for value in row)  # NaN is nothing
        lines.append(f"{one.run_id},{number},{cells}\n")
    return "".join(lines)
