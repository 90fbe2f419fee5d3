"""Results that were read before, so that one new result costs reading one file.

One file in the output folder: a line with a digest of all that follows, then arrays and a JSON text. An entry
counts only for a file of the same size, time and inode; the whole file counts only if its digest is right and the
code that reads results is the code that wrote it. Otherwise it is as if there were none.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from caltech_exp import config, confusion, record, results
from caltech_exp.config import RunConfig
from caltech_exp.provenance import CodeVersion
from caltech_exp.results import DataRecord, Device
from reports import outcome
from reports.outcome import COLUMNS, Epochs, Outcome

SHARED: dict[str, Any] = {
    "config": RunConfig,
    "data": DataRecord,
    "device": Device,
    "libraries": dict[str, str],
    "code": CodeVersion,
}
"""Fields that many runs have in common: each value is written once."""
FLOATS = (
    "first_loss",
    "val_accuracy",
    "best_val_accuracy",
    "test_loss",
    "test_accuracy",
    "wall_seconds",
    "images_per_second",
    "energy_joules",
)
PLAIN = ("run_id", "seed", "status", "job", "host", "started", "attempts", "peak_memory_bytes")
READERS = (config, confusion, record, results, outcome)


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file is known again: size in bytes, time of its last change in nanoseconds, inode."""

    size: int
    mtime: int
    inode: int


def stamp(path: str | Path) -> Stamp | None:
    """The file's stamp, None if there is no such file or it cannot be looked at."""
    try:
        found = os.stat(path)  # noqa: PTH116 (12,000 runs notice a Path for each)
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


Known = dict[str, tuple[Stamp, Outcome]]
"""Path of a result file -> its stamp when it was read, and what it held."""


def load(path: Path) -> Known:
    """What `path` holds; nothing if it is not there, damaged, or written by other code."""
    try:
        with path.open("rb") as file:
            head, content = file.readline().decode(errors="replace").split(), file.read()
    except OSError:
        return {}
    if head != _head(content).split():
        return {}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        text = json.loads(arrays["text"].tobytes())
        stamps, lengths, floats, epochs = (arrays[name] for name in ("stamps", "lengths", "floats", "epochs"))
    shared = {
        name: [TypeAdapter(kind).validate_python(value) for value in text[name]] for name, kind in SHARED.items()
    }
    ends = np.cumsum(lengths).tolist()
    numbers = [[None if number != number else number for number in row] for row in floats.tolist()]  # NaN is none
    known: Known = {}
    for row, (plain, indices, end, length) in enumerate(
        zip(text["plain"], text["shared"], ends, lengths.tolist(), strict=True)
    ):
        fields = dict(zip(PLAIN, plain, strict=True)) | dict(zip(FLOATS, numbers[row], strict=True))
        for name, index in zip(SHARED, indices, strict=True):
            fields[name] = shared[name][index]
        one = Outcome(epochs=Epochs(epochs[end - length : end]), **fields)
        known[text["paths"][row]] = (Stamp(*stamps[row].tolist()), one)
    return known


def save(path: Path, known: Mapping[str, tuple[Stamp, Outcome]]) -> None:
    """Write `known` for the next `load`. Raises OSError."""
    outcomes = [one for _, one in known.values()]
    tables = [_Values(kind) for kind in SHARED.values()]
    text = {
        "paths": list(known),
        "plain": [[getattr(one, name) for name in PLAIN] for one in outcomes],
        "shared": [
            [table.index(getattr(one, name)) for name, table in zip(SHARED, tables, strict=True)]
            for one in outcomes
        ],
    }
    text |= {name: table.written for name, table in zip(SHARED, tables, strict=True)}
    arrays = {
        "text": np.frombuffer(json.dumps(text).encode(), dtype=np.uint8),
        "stamps": np.array([(s.size, s.mtime, s.inode) for s, _ in known.values()], dtype=np.int64).reshape(-1, 3),
        "lengths": np.array([len(one.epochs) for one in outcomes], dtype=np.int64),
        "floats": np.array(
            [[getattr(one, name) for name in FLOATS] for one in outcomes], dtype=np.float64
        ).reshape(-1, len(FLOATS)),
        "epochs": np.concatenate([np.empty((0, len(COLUMNS))), *(one.epochs.table for one in outcomes)]),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    content = buffer.getbuffer()
    _replace(path, f"{_head(content)}\n".encode(), content)


class _Values:
    """The distinct values of a field, numbered as they come."""

    def __init__(self, kind: Any) -> None:
        self.adapter = TypeAdapter(kind)
        self.numbers: dict[str, int] = {}
        self.by_object: dict[int, int] = {}
        self.written: list[Any] = []

    def index(self, value: Any) -> int:
        known = self.by_object.get(id(value))
        if known is not None:
            return known
        plain = self.adapter.dump_python(value, mode="json")
        key = json.dumps(plain, sort_keys=True)
        if key not in self.numbers:
            self.numbers[key] = len(self.written)
            self.written.append(plain)
        self.by_object[id(value)] = self.numbers[key]
        return self.numbers[key]


def _head(content: bytes | memoryview) -> str:
    """Names the reading code and the content: `caltech_exp-results <hex> <hex>`."""
    code = hashlib.blake2b(digest_size=16)
    for module in (*READERS, None):
        code.update(Path(module.__file__ or "" if module else __file__).read_bytes())
    return f"caltech_exp-results {code.hexdigest()} {hashlib.blake2b(content, digest_size=16).hexdigest()}"


def _replace(path: Path, head: bytes, content: memoryview) -> None:
    """In one step, but without waiting for the disk: what a crash leaves of it has a wrong digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head)
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
