"""What a run leaves: result.json, failure.json, progress.json, and its confusion matrices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from caltech_exp.config import NUM_CLASSES, FiniteFloat, RunConfig, run_id
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import Corrupt, HostName, JobId, PlainName, RecordedPath, StrictRecord, read_record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Matrix: TypeAlias = "NDArray[np.int64]"
"""Images by true class (row) and predicted class (column), [NUM_CLASSES, NUM_CLASSES]."""

_CLASS = "(?:[0-9]|[1-9][0-9]|10[01])"
_ENTRY = f"{_CLASS}\\*[1-9][0-9]{{0,8}}"
_ROW = f"{_CLASS}:{_ENTRY}(?:,{_ENTRY})*"

Confusion = Annotated[str, StringConstraints(pattern=f"^(?:{_ROW}(?: {_ROW})*)?$")]
"""`0:0*390,5*3 5:5*21`: of class 0, 390 images taken for class 0 and 3 for class 5; of class 5, 21 for itself."""


def encode(matrix: Matrix) -> str:
    """The matrix as text; classes without images, and pairs that do not occur, are left out."""
    rows = []
    for true, counts in enumerate(matrix):
        entries = ",".join(f"{predicted}*{counts[predicted]}" for predicted in counts.nonzero()[0])
        if entries:
            rows.append(f"{true}:{entries}")
    return " ".join(rows)


def decode(text: Confusion) -> Matrix:
    """The matrix of a text that has Confusion's form."""
    import numpy as np

    trues: list[int] = []
    numbers: list[int] = []  # predicted class and images, in turns
    for row in text.split():
        true, _, entries = row.partition(":")
        numbers += map(int, entries.replace("*", ",").split(","))
        trues += [int(true)] * (entries.count(",") + 1)
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    matrix[trues, numbers[::2]] = numbers[1::2]
    return matrix


RESULT = "result.json"
FAILURE = "failure.json"
PROGRESS = "progress.json"

Loss = Annotated[float, Field(allow_inf_nan=False)] | None
"""A mean cross-entropy; None where it was not finite."""
Share = Annotated[float, Field(ge=0, le=1)]


FailureKind = Literal["mistake", "gpu_memory", "memory", "node", "error"]


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

    `simulated` marks a result that nothing was trained for (tests/tools/simulate.py).
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


def read_result(folder: Path) -> Result | Corrupt | None:
    """The result in a run's folder. A result whose settings do not give its folder's name is Corrupt."""
    result = read_record(folder / RESULT, Result)
    if isinstance(result, Result) and not (result.run_id == folder.name == run_id(result.config, result.seed)):
        return Corrupt(folder / RESULT, f"holds run {run_id(result.config, result.seed)}, not {folder.name}")
    return result


def read_finished(folder: Path, fingerprint: str) -> Result | None:
    """The result in a run's folder, None if there is none that counts for the data set with that fingerprint."""
    known = read_result(folder)
    return known if isinstance(known, Result) and known.data.fingerprint == fingerprint else None
