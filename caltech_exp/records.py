"""The base of everything that is written down: frozen, and strict about what it holds.

Others may write into a study, so what a record says becomes part of a path, a command or a line on the screen only
in these forms.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from caltech_exp.bootstrap import look_again
from caltech_exp.cli import one_line, shown
from caltech_exp.files import write_atomically

PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=255)]
"""A name that is one part of a path and no option of a command, as of a submission."""
FileName = Annotated[str, StringConstraints(pattern=r"^[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*$", max_length=255)]
"""A name that is one part of a path. One that is no run's (study.RUN_FOLDER) is passed over."""
JobId = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.+-]*)?$", max_length=64)]
"""A job's id: of Slurm (`1234_5`), of this machine's queue (`local-0`) or of submitit. Empty if unknown."""
HostName = Annotated[str, StringConstraints(pattern=r"^[\w.:()-]*$", max_length=255)]
"""As process.host_name gives it; empty where there is none."""
RecordedPath = Annotated[str, StringConstraints(max_length=4096)]
"""To be shown. It is not opened: it may name any file (manifest.recorded_log)."""


class StrictRecord(BaseModel):
    """A record without unknown fields, unchanged once made. Raises pydantic.ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SCHEMA_VERSION = 1

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Corrupt:
    """A file that should hold a record and does not; its run counts as missing. The reason is one line.

    is_newer  whether a newer version of caltech_exp wrote it: then it is left as it is
    """

    path: Path
    reason: str
    is_newer: bool = False

    def __post_init__(self) -> None:  # it repeats what stands in the file
        object.__setattr__(self, "reason", one_line(shown(self.reason, 300)))

    def complaint(self, remedy: str) -> str:
        """The file and what is wrong with it, with what to do about a damaged one."""
        if self.is_newer:
            return f"{self.path} was {self.reason}"
        return f"{self.path} is damaged ({self.reason}); {remedy}"


def newer(path: Path, sign: str) -> Corrupt:
    """What is said of a file that a newer version wrote, known by `sign`."""
    return Corrupt(path, f"made by a newer version of caltech_exp ({sign}); this version reads 1; update", True)


def write_record(folder: Path, name: str, record: BaseModel) -> Path:
    """Write a record as `folder/name`, whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_atomically(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path, kind: type[Record]) -> Record | Corrupt | None:
    """The record in `path`, None if there is no such file, Corrupt if it is anything else than that record.

    A newer version wrote it if its schema version is higher, or if nothing is wrong with it but fields that this
    version does not know.
    """
    try:
        text = look_again(path.read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Corrupt(path, error.strerror or str(error))
    if not text.strip():
        return Corrupt(path, "the file is empty")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        first = errors[0]
        place = shown(".".join(str(part) for part in first["loc"]))
        if (version := _schema_version(text)) > SCHEMA_VERSION:
            return newer(path, f"schema {shown(version)}")
        if all(one["type"] == "extra_forbidden" for one in errors):
            return newer(path, f"with {place}")
        if place == "schema_version":
            return Corrupt(path, f"schema version {shown(first['input'])}, this code reads {SCHEMA_VERSION}")
        if first["type"] == "json_invalid":
            return Corrupt(path, f"it is not whole JSON ({first['ctx']['error']})")
        reason = first["msg"].removeprefix("Value error, ")
        return Corrupt(path, f"{place}: {reason}" if place else reason)


def _schema_version(text: bytes) -> int:
    """What a record says of its own version; 0 where it says nothing."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    version = content.get("schema_version") if isinstance(content, dict) else None
    return version if isinstance(version, int) else 0
