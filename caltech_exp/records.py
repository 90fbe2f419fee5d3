"""JSON records: written whole, read strictly.

Other users may write into a study, so text from a record reaches a path, a command or the screen only in the forms
below.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from caltech_exp.cli import one_line, reason, shown
from caltech_exp.files import read_file, write_atomically

PlainName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=255)]
"""One part of a path that no command takes for an option, for example a submission's id."""
FileName = Annotated[str, StringConstraints(pattern=r"^[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]*$", max_length=255)]
"""One part of a path; names that are not a run's (study.RUN_FOLDER) are skipped."""
JobId = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.+-]*)?$", max_length=64)]
"""A job's id in Slurm (`1234_5`), in this machine's queue (`local-0`) or in submitit; empty if unknown."""
HostName = Annotated[str, StringConstraints(pattern=r"^[\w.:()-]*$", max_length=255)]
"""A name in the form of machine.host_name; empty if unknown."""
RecordedPath = Annotated[str, StringConstraints(max_length=4096)]
"""A path to print. It may name any file, so it is never opened (see manifest.recorded_log)."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A whole number that fits a table's column."""
Number = Annotated[float, Field(ge=-1e39, le=1e39, allow_inf_nan=False)]
"""A number that fp32 can hold, more or less; its squares and sums are finite."""
Amount = Annotated[float, Field(ge=0, le=1e39, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
"""A length of time; added to any Time, it gives a time."""


_FOLDERS = re.compile(r"(?<![\w./])(?<!http:)(?<!https:)(?:file:|~\w*)?/+(?=[^\s/])(?:[^\s/'\":]+/)*")


def without_folders(text: str) -> str:
    """`no such file: /home/me/data/x.jpg` -> `no such file: x.jpg`; addresses of pages stay."""
    return _FOLDERS.sub("", text)


def _check_time(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no zone")
    if not 1970 <= moment.year < 2200:
        raise ValueError("the time is not between 1970 and 2200")
    return text


TIME = r"^[0-9T:.Z+-]*$"
Time = Annotated[str, StringConstraints(pattern=TIME, max_length=40), AfterValidator(_check_time)]
"""A time with its zone in ISO 8601, as files.utc_now writes it."""
TimeOrEmpty = Annotated[
    str, StringConstraints(pattern=TIME, max_length=40), AfterValidator(lambda text: text and _check_time(text))
]


class StrictRecord(BaseModel):
    """A frozen record without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SCHEMA_VERSION = 1

Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True)
class Corrupt:
    """A file that should hold a record but does not; its run counts as missing.

    is_newer  whether a newer version of caltech_exp wrote it, so that it must stay as it is
    """

    path: Path
    reason: str
    is_newer: bool = False

    def __post_init__(self) -> None:  # the reason quotes the file
        object.__setattr__(self, "reason", one_line(shown(self.reason, 300)))

    def complaint(self, remedy: str) -> str:
        """The file and what is wrong with it; `remedy` says what to do about a damaged one."""
        if self.is_newer:
            return one_line(f"{self.path} was {self.reason}")
        return one_line(f"{self.path} is damaged ({self.reason}); {remedy}")


def newer(path: Path, evidence: str) -> Corrupt:
    """The complaint about a file that a newer version wrote."""
    return Corrupt(
        path, f"made by a newer version of caltech_exp ({evidence}); this version reads 1; update", True
    )


def write_record(folder: Path, name: str, record: BaseModel) -> Path:
    """Write a record as `folder/name`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_atomically(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path, kind: type[Record]) -> Record | Corrupt | None:
    """The record in `path`, None if there is no such file, Corrupt if it is no such record.

    A newer version wrote it if its schema version is higher, or if unknown fields are all that is wrong.
    """
    try:
        text = read_file(path)
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
        if all(error["type"] == "extra_forbidden" for error in errors):
            return newer(path, f"with {place}")
        if place == "schema_version":
            return Corrupt(path, f"schema version {shown(first['input'])}, this code reads {SCHEMA_VERSION}")
        if first["type"] == "json_invalid":
            return Corrupt(path, f"it is not whole JSON ({first['ctx']['error']})")
        return Corrupt(path, f"{place}: {reason(first)}" if place else reason(first))


def _schema_version(text: bytes) -> int:
    """The version that a record names; 0 if it names none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    version = content.get("schema_version") if isinstance(content, dict) else None
    return version if isinstance(version, int) else 0
