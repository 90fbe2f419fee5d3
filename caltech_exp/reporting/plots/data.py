"""What the pictures of a report show, as plain data: no module that builds it imports matplotlib.

Accuracies are shares from 0 to 1. Texts are plain, and may hold anything.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caltech_exp.data.splits import DataSet
from caltech_exp.reporting.comparison import Verdict

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Mean, smallest and largest value over runs, each of shape (epochs,); NaN where no run has a value."""

    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class SingleRun:
    """A run that diverged or is running, up to its last epoch, each of shape (epochs,); NaN where not known."""

    seed: int
    train_loss: Array
    val_loss: Array
    val_accuracy: Array


@dataclass(frozen=True)
class Curve:
    """A row of a table over epochs: bands over its finished runs (None without any), its other runs with epochs.

    runs      finished runs in the bands
    lr_steps  epochs after which the learning rate steps down
    measured  mean validation accuracy after the last epoch
    reported  the same in the report
    """

    label: str
    runs: int
    measured: float | None = None
    train_loss: Band | None = None
    val_loss: Band | None = None
    val_accuracy: Band | None = None
    diverged: tuple[SingleRun, ...] = ()
    running: tuple[SingleRun, ...] = ()
    lr_steps: tuple[int, ...] = ()
    reported: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs of the longest run."""
        finished = len(self.val_accuracy.mean) if self.val_accuracy else 0
        return max((finished, *(len(run.val_accuracy) for run in self.singles)))

    @property
    def singles(self) -> tuple[SingleRun, ...]:
        return (*self.diverged, *self.running)


@dataclass(frozen=True)
class CurvePlot:
    """Rows of a table over epochs; at least one has a run with an epoch."""

    title: str
    curves: tuple[Curve, ...]
    caution: str = ""


@dataclass(frozen=True)
class RowPoint:
    """A row beside its reported value; None for what is not known.

    group                  the section, for plots over several tables
    accuracies             of each finished run
    half_width             half the 95 % confidence interval of the mean
    difference             measured mean minus reported mean
    difference_half_width  half its 95 % confidence interval
    diverged               number of runs that diverged
    """

    label: str
    group: str = ""
    accuracies: tuple[float, ...] = ()
    mean: float | None = None
    half_width: float | None = None
    reported: float | None = None
    reported_std: float | None = None
    difference: float | None = None
    difference_half_width: float | None = None
    verdict: Verdict | None = None
    diverged: int = 0


@dataclass(frozen=True)
class RowPlot:
    """Rows in the report's order; `heading` names what the labels are values of."""

    title: str
    rows: tuple[RowPoint, ...]
    heading: str = ""
    caution: str = ""


@dataclass(frozen=True)
class HeatMap:
    """Mean accuracies of two settings varied together, shape (y labels, x labels); NaN where unknown."""

    title: str
    x_heading: str
    x_labels: tuple[str, ...]
    y_heading: str
    y_labels: tuple[str, ...]
    means: Array
    caution: str = ""


@dataclass(frozen=True)
class ClassCounts:
    """Images per class in both splits, each tuple in the order of the labels."""

    title: str
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    caution: str = ""


@dataclass(frozen=True)
class AverageImages:
    """The data set, known by its fingerprint and classes, whose average images are drawn."""

    title: str
    fingerprint: str
    classes: tuple[str, ...]
    data: DataSet = field(compare=False, repr=False)
    caution: str = ""


@dataclass(frozen=True)
class Confusion:
    """Summed matrix of a row's runs, shape (classes, classes): true class down, predicted class across."""

    title: str
    matrix: NDArray[np.int64]


@dataclass(frozen=True)
class ConfusionPlot:
    """Confusion matrices side by side; `images` are the true images of each class in a run."""

    title: str
    matrices: tuple[Confusion, ...]
    classes: tuple[str, ...]
    images: tuple[int, ...]
    caution: str = ""
