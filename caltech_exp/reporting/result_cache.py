"""Results that were read before, so that one new result costs reading one file.

One file in the output folder, of parts: a head that names the part, the epochs as numbers, then a JSON text of all
else. What is new is added as a part of its own, and of two entries for a result file the later counts.

An entry counts only for a result file of the same size, time and inode; a part only if its checksum is right, the
code that reads results is the code that wrote it, and both hold for all parts before it. What does not count is as
if it were not there.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import from_json

from caltech_exp import config, records
from caltech_exp.config import RunConfig
from caltech_exp.files import Stamp, new_file
from caltech_exp.provenance import CodeVersion
from caltech_exp.reporting import outcome, recall
from caltech_exp.reporting.outcome import COLUMNS, Epochs, Outcome
from caltech_exp.study import results
from caltech_exp.study.results import DataRecord, Device

SHARED: dict[str, Any] = {
    "config": RunConfig,
    "data": DataRecord,
    "device": Device,
    "libraries": dict[str, str],
    "code": CodeVersion,
    "earlier_code": tuple[CodeVersion, ...],
}
"""Fields that many runs have in common: each value is written once."""
PLAIN = tuple(name for name in Outcome._fields if name not in SHARED and name != "epochs")
READERS = (config, results, records, results, outcome, recall)
MOST_PARTS = 40
"""So many parts, and all are written as one again."""
HEAD = 128
"""Bytes of a part's head."""
NUMBER = np.dtype("<f8")


Known = dict[str, tuple[Stamp, Outcome]]
"""Path of a result file -> its stamp when it was read, and what it held."""


@dataclass(frozen=True)
class Kept:
    """What a file holds.

    parts  how many of it count
    whole  whether there is nothing else in it
    """

    known: Known = field(default_factory=dict)
    parts: int = 0
    whole: bool = True


def load(path: Path) -> Kept:
    """What `path` holds; nothing if it is not there, damaged, or written by other code."""
    try:
        rest = memoryview(path.read_bytes())
    except OSError:
        return Kept()
    known: Known = {}
    parts, code = 0, _code()
    while rest and (part := _part(rest, code)):
        numbers, text, rest = part
        known |= _entries(numbers, from_json(bytes(text)))
        parts += 1
    return Kept(known, parts, whole=not rest)


def save(path: Path, known: Known) -> None:
    """Write `known` for the next `load`, in one step, but without waiting for the disk: what a crash leaves of it
    has a wrong checksum. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, flush=False) as file:
        file.write(_written(known))


def add(path: Path, known: Known) -> None:
    """Add `known` to what a `load` found whole. Raises OSError."""
    with path.open("ab") as file:
        file.write(_written(known))


def _part(content: memoryview, code: str) -> tuple[memoryview, memoryview, memoryview] | None:
    """Numbers and text of the part that `content` begins with, and what follows it; None if it does not count."""
    head = bytes(content[:HEAD])
    sizes = [int(word) for word in head.split()[2:4] if word.isdigit()]
    if len(sizes) != 2:
        return None
    middle, end = HEAD + sizes[0], HEAD + sum(sizes)
    if end > len(content) or head != _head(code, sizes[0], content[HEAD:end]):
        return None
    return content[HEAD:middle], content[middle:end], content[end:]


def _entries(numbers: memoryview, text: dict[str, Any]) -> Known:
    """What a part holds, field by field: 12,000 runs notice a dictionary for each."""
    columns = {name: text[name] for name in PLAIN}
    for name, kind in SHARED.items():
        values = [TypeAdapter(kind).validate_python(value) for value in text[name]]
        columns[name] = [values[number] for number in text[f"{name} of run"]]
    table = np.frombuffer(numbers, dtype=NUMBER).reshape(-1, len(COLUMNS))
    ends = np.cumsum(text["lengths"], dtype=np.int64).tolist()
    columns["epochs"] = [
        Epochs(table[end - length : end]) for end, length in zip(ends, text["lengths"], strict=True)
    ]
    outcomes = (Outcome(*row) for row in zip(*(columns[name] for name in Outcome._fields), strict=True))
    stamps = (Stamp(*numbers) for numbers in text["stamps"])
    return dict(zip(text["paths"], zip(stamps, outcomes, strict=True), strict=True))


def _written(known: Known) -> bytes:
    """`known` as a part."""
    outcomes = [one for _, one in known.values()]
    text: dict[str, Any] = {
        "paths": list(known),
        "stamps": [found for found, _ in known.values()],
        "lengths": [len(one.epochs) for one in outcomes],
    }
    text |= {name: [getattr(one, name) for one in outcomes] for name in PLAIN}
    for name, kind in SHARED.items():
        values = _Values(kind)
        text[f"{name} of run"] = [values.index(getattr(one, name)) for one in outcomes]
        text[name] = values.written
    numbers = b"".join(one.epochs.table.astype(NUMBER).tobytes() for one in outcomes)
    encoded = json.dumps(text).encode()
    content = numbers + encoded + b" " * (-len(encoded) % NUMBER.itemsize)  # the next part's numbers are aligned
    return _head(_code(), len(numbers), content) + content


def _head(code: str, numbers: int, content: bytes | memoryview) -> bytes:
    """Of a part: the code that wrote it, bytes of its numbers and of its text, checksum."""
    sizes = f"{numbers} {len(content) - numbers}"
    return f"caltech_exp-results {code} {sizes} {zlib.crc32(content, numbers):08x}\n".encode().ljust(HEAD)


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


def _code() -> str:
    """Stands for the code that reads results."""
    digest = hashlib.blake2b(digest_size=16)
    for module in (*READERS, None):
        digest.update(Path(module.__file__ or "" if module else __file__).read_bytes())
    return digest.hexdigest()
