"""What passes from running to reporting: one JSON file a run, with a versioned schema."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from caltech_exp.config import FiniteFloat, RunConfig, run_id
from caltech_exp.confusion import Confusion
from caltech_exp.errors import one_line, shown
from caltech_exp.files import look_again, write_atomically
from caltech_exp.provenance import CodeVersion
from caltech_exp.record import HostName, JobId, PlainName, RecordedPath, StrictRecord

SCHEMA_VERSION = 1
RESULT = "result.json"
FAILURE = "failure.json"
PROGRESS = "progress.json"

Loss = Annotated[float, Field(allow_inf_nan=False)] | None
"""A mean cross-entropy; None where it was not finite."""
Share = Annotated[float, Field(ge=0, le=1)]


FailureKind = Literal["mistake", "gpu_memory", "memory", "node", "error"]

Record = TypeVar("Record", bound=BaseModel)


class Epoch(StrictRecord):
    """One epoch. Train loss: mean over its steps; validation loss and accuracy: over all images, after it."""

    epoch: int
    lr: FiniteFloat
    train_loss: Loss
    val_loss: Loss
    val_accuracy: Share
    seconds: FiniteFloat


class DataRecord(StrictRecord):
    """Which data a run saw: images after max_images, and the fingerprint of the whole data folder.

    `simulated` marks a result that nothing was trained for (reports/simulate.py).
    """

    fingerprint: str
    stand_in: bool
    simulated: bool = False
    train_images: int
    val_images: int
    test_images: int


class Device(StrictRecord):
    type: Literal["cpu", "cuda"]
    name: str


class Result(StrictRecord):
    """One finished or diverged run.

    `first_loss` is the first step's. Accuracies are shares from 0 to 1, None where the run diverged before they
    were measured. Confusion matrices are after the last epoch, of all images of the split. `images_per_second`
    counts training alone; `peak_memory_bytes` is the device's in the last attempt, packs that earlier runs of the
    task left there included, or on a CPU the process's peak resident memory. `attempts` says how often the run was
    taken up; times are those of all attempts that it went on from.
    `code` ended the run, and `earlier_code` is all other code whose checkpoints it went on from, oldest first.
    `energy_joules` is what the GPU used during the run, where it counts that. `weights_sha256` is of the file that
    initial weights were loaded from; None for random weights, and in results of earlier versions.
    """

    schema_version: Literal[1] = 1
    run_id: str
    config: RunConfig
    seed: int
    status: Literal["finished", "diverged"]
    epochs: tuple[Epoch, ...]
    first_loss: Loss
    val_accuracy: Share | None
    best_val_accuracy: Share | None
    test_loss: Loss
    test_accuracy: Share | None
    val_confusion: Confusion | None = None
    test_confusion: Confusion | None = None
    data: DataRecord
    device: Device
    libraries: dict[str, str]
    code: CodeVersion
    earlier_code: tuple[CodeVersion, ...] = ()
    job: JobId
    host: HostName
    started: str
    wall_seconds: FiniteFloat
    attempts: int = 1
    images_per_second: FiniteFloat
    peak_memory_bytes: int
    energy_joules: FiniteFloat | None = None
    weights_sha256: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """A finished run has all its epochs, and its accuracy is the last one's."""
        if self.status == "finished":
            if len(self.epochs) != self.config.epochs:
                raise ValueError(
                    f"{len(self.epochs)} epochs of a finished run, its settings say {self.config.epochs}"
                )
            if self.val_accuracy != self.epochs[-1].val_accuracy:
                raise ValueError("val_accuracy is not that of the last epoch")
            if self.test_accuracy is None or self.best_val_accuracy is None:
                raise ValueError("a finished run without its test accuracy or that of its best epoch")
        return self


class Failure(StrictRecord):
    """Why a run ended without a result.

    kind  mistake (of the user: trying again will not mend it), gpu_memory and memory (too little of it), node (its
          GPU or disk is broken), or error
    node  where, as Slurm calls it; empty without Slurm
    log   where it lay for the task; to be opened as manifest.recorded_log says
    """

    schema_version: Literal[1] = 1
    run_id: str
    error: str
    traceback: str
    kind: FailureKind
    submission: PlainName
    job: JobId
    host: HostName
    node: HostName
    log: RecordedPath
    when: str


class Progress(StrictRecord):
    """Where a run in training is, at the end of an epoch: `when` (UTC, ISO 8601).

    seconds_left  that the epochs to come take if each takes the median of those before; None before the first
    """

    schema_version: Literal[1] = 1
    run_id: str
    epoch: int
    epochs: int
    images_per_second: float | None
    seconds_left: float | None = None
    submission: PlainName
    job: JobId
    host: HostName
    when: str


@dataclass(frozen=True)
class Damaged:
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


def newer(path: Path, sign: str) -> Damaged:
    """What is said of a file that a newer version wrote, known by `sign`."""
    return Damaged(path, f"made by a newer version of caltech_exp ({sign}); this version reads 1; update", True)


def write_record(folder: Path, name: str, record: BaseModel) -> Path:
    """Write a record as `folder/name`, whole or not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_atomically(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_record(path: Path, kind: type[Record]) -> Record | Damaged | None:
    """The record in `path`, None if there is no such file, Damaged if it is anything else than that record.

    A newer version wrote it if its schema version is higher, or if nothing is wrong with it but fields that this
    version does not know.
    """
    try:
        text = look_again(path.read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Damaged(path, error.strerror or str(error))
    if not text.strip():
        return Damaged(path, "the file is empty")
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
            return Damaged(path, f"schema version {shown(first['input'])}, this code reads {SCHEMA_VERSION}")
        if first["type"] == "json_invalid":
            return Damaged(path, f"it is not whole JSON ({first['ctx']['error']})")
        reason = first["msg"].removeprefix("Value error, ")
        return Damaged(path, f"{place}: {reason}" if place else reason)


def _schema_version(text: bytes) -> int:
    """What a record says of its own version; 0 where it says nothing."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    version = content.get("schema_version") if isinstance(content, dict) else None
    return version if isinstance(version, int) else 0


def read_result(folder: Path) -> Result | Damaged | None:
    """The result in a run's folder. A result whose settings do not give its folder's name is Damaged."""
    result = read_record(folder / RESULT, Result)
    if isinstance(result, Result) and not (result.run_id == folder.name == run_id(result.config, result.seed)):
        return Damaged(folder / RESULT, f"holds run {run_id(result.config, result.seed)}, not {folder.name}")
    return result


def read_finished(folder: Path, fingerprint: str) -> Result | None:
    """The result in a run's folder, None if there is none that counts for the data set with that fingerprint."""
    known = read_result(folder)
    return known if isinstance(known, Result) and known.data.fingerprint == fingerprint else None
