"""What the report keeps of a result: everything but the confusion matrices, its epochs as arrays.

A hundred seeds of everything are 600,000 epochs: as records they would take a gigabyte, as arrays 25 MB.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caltech_exp.config import RunConfig
from caltech_exp.provenance import CodeVersion
from caltech_exp.reporting.recall import balanced_accuracy
from caltech_exp.study.results import DataRecord, Device, Epoch, Result, decode

Array = NDArray[np.float64]
COLUMNS = ("lr", "train_loss", "val_loss", "val_accuracy", "seconds")


@dataclass(frozen=True, slots=True)
class Epochs:
    """The epochs of one run, `table` of shape (epochs, 5): a column for each of COLUMNS, NaN where a loss was not
    finite. Its length is the number of epochs."""

    table: Array

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> Array:
        """One of COLUMNS, shape (epochs,)."""
        return self.table[:, COLUMNS.index(name)]


class Outcome(NamedTuple):
    """One finished or diverged run; the fields are those of caltech_exp.study.results.Result.

    balanced_accuracy  of the validation set after the last epoch (recall.balanced_accuracy)
    digest  of all the others: who compares it need not compare them

    A tuple, which is made ten times as fast as a frozen dataclass of so many fields.
    """

    run_id: str
    config: RunConfig
    seed: int
    status: Literal["finished", "diverged"]
    epochs: Epochs
    first_loss: float | None
    val_accuracy: float | None
    best_val_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    balanced_accuracy: float | None
    data: DataRecord
    device: Device
    libraries: dict[str, str]
    code: CodeVersion
    earlier_code: tuple[CodeVersion, ...]
    job: str
    host: str
    started: str
    wall_seconds: float
    attempts: int
    images_per_second: float
    peak_memory_bytes: int
    energy_joules: float | None
    weights_sha256: str | None
    digest: str

    @property
    def all_code(self) -> str:
        """The code that trained it, oldest first: `0.1.0 (0123456), 0.1.0 (89abcde)`."""
        return ", ".join(str(code) for code in (*self.earlier_code, self.code))


_FIELDS = tuple(name for name in Outcome._fields if name not in ("epochs", "balanced_accuracy", "digest"))


def outcome_of(result: Result) -> Outcome:
    """The outcome that a result records."""
    epochs = epochs_of(result.epochs)
    text = result.model_dump_json(include={*_FIELDS, "val_confusion"})
    digest = hashlib.blake2b(text.encode() + epochs.table.tobytes(), digest_size=16).hexdigest()
    balanced = balanced_accuracy(decode(result.val_confusion)) if result.val_confusion else None
    fields = {name: getattr(result, name) for name in _FIELDS}
    return Outcome(epochs=epochs, balanced_accuracy=balanced, digest=digest, **fields)


def epochs_of(epochs: tuple[Epoch, ...]) -> Epochs:
    """Records of epochs as arrays."""
    rows = [[getattr(epoch, name) for name in COLUMNS] for epoch in epochs]
    return Epochs(np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS)))  # None becomes NaN
