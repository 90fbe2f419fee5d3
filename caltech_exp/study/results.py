"""The records of a run: result.json with its confusion matrices, failure.json, progress.json."""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints, TypeAdapter, model_validator

from caltech_exp.config import NUM_CLASSES, RunConfig, run_id
from caltech_exp.files import names_in
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import (
    Amount,
    Corrupt,
    Count,
    HostName,
    JobId,
    Number,
    PlainName,
    RecordedPath,
    Seconds,
    Seed,
    StrictRecord,
    Time,
    TimeOrEmpty,
    read_record,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Matrix: TypeAlias = "NDArray[np.int64]"
"""Images by true class (row) and predicted class (column), [classes, classes]."""


def _pattern(label: str) -> StringConstraints:
    entry = f"{label}\\*[1-9][0-9]{{0,8}}"
    row = f"{label}:{entry}(?:,{entry})*"
    return StringConstraints(pattern=f"^(?:{row}(?: {row})*)?$")


# `0:0*390,5*3 5:5*21`: of class 0, 390 images were predicted as class 0 and 3 as class 5; of class 5, 21 as 5.
Confusion = Annotated[str, _pattern("(?:0|[1-9][0-9]{0,3})")]
_OF_CALTECH = TypeAdapter(Annotated[str, _pattern("(?:[0-9]|[1-9][0-9]|10[01])")])


def encode(matrix: Matrix) -> str:
    """The matrix as text, without classes that have no images and pairs that do not occur."""
    rows = []
    for true, counts in enumerate(matrix):
        entries = ",".join(f"{predicted}*{counts[predicted]}" for predicted in counts.nonzero()[0])
        if entries:
            rows.append(f"{true}:{entries}")
    return " ".join(rows)


def decode(text: Confusion, classes: int = NUM_CLASSES) -> Matrix:
    import numpy as np

    # A report decodes thousands, so numpy reads all numbers at once. A row becomes its true class, -1, and then
    # predicted class and images in turns.
    words = text.replace(":", " -1 ").replace("*", " ").replace(",", " ")
    numbers = np.fromstring(words, dtype=np.int64, sep=" ")
    marks = np.flatnonzero(numbers == -1)
    is_paired = np.ones(len(numbers), dtype=bool)
    is_paired[marks] = is_paired[marks - 1] = False
    predicted, images = numbers[is_paired].reshape(-1, 2).T
    pairs_of_row = np.diff(marks, append=len(numbers) + 1) // 2 - 1
    matrix = np.zeros((classes, classes), dtype=np.int64)
    matrix[np.repeat(numbers[marks - 1], pairs_of_row), predicted] = images
    return matrix


RESULT = "result.json"
FAILURE = "failure.json"
PROGRESS = "progress.json"
WEIGHTS = "weights.pth"
AGAIN = "again"
"""In a finished run's folder: a folder for each submission that trained it once more (again_folder)."""

MIN_RUNS = 3
"""Runs, or pairs, from which an interval is given: two say next to nothing of their spread."""
# A mean cross-entropy; None if it was not finite.
Loss = Number | None
Share = Annotated[float, Field(ge=0, le=1)]
Keep = Literal["none", "last", "best"]
"""Which weights of its network a run keeps."""
FailureKind = Literal["mistake", "gpu_memory", "memory", "node", "error"]


MOST_POINTS = 200
"""Epochs that a progress record keeps: it is written after each."""
Item = TypeVar("Item")


def thin_out(items: Sequence[Item], most: int = MOST_POINTS) -> Sequence[Item]:
    """All items, or of more than `most` every second, third and so on; the last is always there."""
    return items[::-1][:: max(1, -(-len(items) // most))][::-1]


def _thin_list(value: object) -> object:
    return thin_out(value) if isinstance(value, list | tuple) else value


class CurvePoint(NamedTuple):
    """What a progress record keeps of an epoch."""

    epoch: Annotated[int, Field(ge=1, le=1_000_000)]
    train_loss: Loss
    val_loss: Loss
    val_accuracy: Share


class Epoch(StrictRecord):
    """Train loss is the mean over the epoch's steps; validation loss and accuracy are measured after it."""

    epoch: Count
    lr: Amount
    train_loss: Loss
    val_loss: Loss
    val_accuracy: Share
    seconds: Seconds

    @property
    def point(self) -> CurvePoint:
        return CurvePoint(self.epoch, self.train_loss, self.val_loss, self.val_accuracy)


class DataRecord(StrictRecord):
    """The data of a run: images after max_images, and the fingerprint of the whole data folder.

    simulated  whether the result was drawn at random (tests/tools/simulate.py) instead of trained
    """

    fingerprint: str
    stand_in: bool
    simulated: bool = False
    train_images: Count
    val_images: Count
    test_images: Count


class Device(StrictRecord):
    type: Literal["cpu", "cuda"]
    name: str


class KeptWeights(StrictRecord):
    """The state dict beside a result: of the last or the best epoch, and the SHA-256 of the file."""

    which: Literal["last", "best"]
    epoch: Count
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Result(StrictRecord):
    """A finished or diverged run. Accuracies are None if the run diverged before they were measured.

    first_loss         of the first step
    *_confusion        after the last epoch, over all images of the split
    code, earlier_code the code that ended the run, and all other code whose checkpoints it resumed, oldest first
    attempts           how often the run was started or resumed; times are of all attempts that it resumed
    images_per_second  of training alone
    peak_memory_bytes  of the device in the last attempt, including packs that earlier runs of the task left there;
                       on a CPU the process's peak resident memory
    energy_joules      that the GPU used during the run, if it counts that
    threads            of torch; their number can change the bits on a CPU. None in results of older versions
    weights_sha256     of the file of the initial weights; None for random weights and in results of older versions
    kept_weights       of the network that was trained, if the submission asked to keep them
    """

    schema_version: Literal[1] = 1
    run_id: str
    config: RunConfig
    seed: Seed
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
    started: Time
    wall_seconds: Seconds
    attempts: Count = 1
    images_per_second: Amount
    peak_memory_bytes: Count
    energy_joules: Amount | None = None
    threads: Count | None = None
    weights_sha256: str | None = None
    kept_weights: KeptWeights | None = None

    @model_validator(mode="after")
    def _confuses_its_classes(self) -> Self:
        classes = self.config.classes
        for text in filter(None, (self.val_confusion, self.test_confusion)):
            if classes == NUM_CLASSES:  # thousands are read, and pydantic's patterns are fast
                _OF_CALTECH.validate_python(text)
            elif max(map(int, re.findall(r"(\d+)[:*]", text))) >= classes:
                raise ValueError(f"a confusion matrix has more than {classes} classes")
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.status == "finished":
            if len(self.epochs) != self.config.epochs:
                raise ValueError(f"a finished run of {self.config.epochs} epochs has {len(self.epochs)}")
            if self.val_accuracy != self.epochs[-1].val_accuracy:
                raise ValueError("val_accuracy is not that of the last epoch")
            if self.test_accuracy is None or self.best_val_accuracy is None:
                raise ValueError("a finished run lacks its test accuracy or that of its best epoch")
        return self


class Failure(StrictRecord):
    """Why a run ended without a result.

    kind  mistake (of the user: retrying will not help), gpu_memory or memory (out of it), node (its GPU or disk is
          broken), or error
    node  as Slurm calls it; empty without Slurm
    log   its path for the task; to be opened by manifest.recorded_log only
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
    when: TimeOrEmpty


class Progress(StrictRecord):
    """How far a run in training is, at the end of an epoch.

    seconds_left  of the remaining epochs if each takes the median of those before; None before the first
    curve         the epochs so far, thinned out; records of older versions lack it
    """

    schema_version: Literal[1] = 1
    run_id: str
    epoch: Count
    epochs: Count
    images_per_second: Amount | None
    seconds_left: Seconds | None = None
    submission: PlainName
    job: JobId
    host: HostName
    when: Time
    curve: Annotated[tuple[CurvePoint, ...], BeforeValidator(_thin_list)] = ()


def read_result(folder: Path) -> Result | Corrupt | None:
    """The result in a run's folder; Corrupt if its settings do not give the folder's name."""
    result = read_record(folder / RESULT, Result)
    if isinstance(result, Result) and not (result.run_id == folder.name == run_id(result.config, result.seed)):
        return Corrupt(folder / RESULT, f"holds run {run_id(result.config, result.seed)}, not {folder.name}")
    return result


def read_finished(folder: Path, fingerprint: str) -> Result | None:
    """The result in a run's folder, None if there is none on the data of that fingerprint."""
    result = read_result(folder)
    return result if isinstance(result, Result) and result.data.fingerprint == fingerprint else None


def again_folder(folder: Path, submission: str) -> Path:
    """Where a submission trains the finished run of `folder` once more; the name is the run's, as of any run."""
    return folder / AGAIN / submission / folder.name


def again_folders(folder: Path) -> list[Path]:
    """Where the finished run of `folder` was trained once more, oldest first."""
    place = folder / AGAIN
    return [again_folder(folder, submission) for submission in sorted(names_in(place) if place.is_dir() else ())]


def first_difference(first: Result, second: Result) -> str:
    """Where the numbers of two results of one run first differ: `epoch 3, train_loss: 0.5 and 0.25`; else empty.

    Times, devices and versions may differ. Weights are compared if both results kept those of the same kind.
    """
    pairs = zip_longest(_numbers(first), _numbers(second), fillvalue=("", None))
    place, before, after = next(((a or b, x, y) for (a, x), (b, y) in pairs if (a, x) != (b, y)), ("", None, None))
    if not place and has_same_kept(first, second) and first.kept_weights != second.kept_weights:
        place = "the weights"
    if not place:
        return ""
    values = f": {before} and {after}" if isinstance(before, float) and isinstance(after, float) else ""
    machines = [f"{result.device.name}, torch {result.libraries.get('torch')}" for result in (first, second)]
    return f"{place}{values}" + (f" ({machines[0]}; {machines[1]})" if machines[0] != machines[1] else "")


def has_same_kept(first: Result, second: Result) -> bool:
    """Whether both results kept weights, of the same kind."""
    kept = [result.kept_weights.which if result.kept_weights else "" for result in (first, second)]
    return bool(kept[0]) and kept[0] == kept[1]


def _numbers(result: Result) -> Iterator[tuple[str, Any]]:
    """Every number that training gives, with its place, in the order in which they come about."""
    yield "the loss of the first step", result.first_loss
    for epoch in result.epochs:
        for name in ("lr", "train_loss", "val_loss", "val_accuracy"):
            yield f"epoch {epoch.epoch}, {name}", getattr(epoch, name)
    for name in ("status", "val_confusion", "test_loss", "test_accuracy", "test_confusion"):
        yield name, getattr(result, name)
