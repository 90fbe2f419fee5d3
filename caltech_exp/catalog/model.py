"""The shapes the catalog is written in: section, table, row, figure, reported value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caltech_exp.config import RunConfig


@dataclass(frozen=True)
class Reported:
    """Validation accuracy after the last epoch over three runs, as the report prints it (0 to 1)."""

    mean: float
    std: float


@dataclass(frozen=True)
class Quoted:
    """What the report's text says of the one run it drew; accuracies are validation accuracies (0 to 1)."""

    first_loss: float | None = None
    first_accuracy: float | None = None
    last_loss: float | None = None
    last_accuracy: float | None = None


@dataclass(frozen=True)
class Row:
    label: str
    config: RunConfig
    reported: Reported | None = None
    diverges: bool = False
    """True where the report says that the training loss diverges."""


@dataclass(frozen=True)
class Figure:
    """Loss and validation accuracy over epochs of one row of the table it stands in."""

    number: int
    caption: str
    row: str
    quoted: Quoted | None = None


@dataclass(frozen=True)
class DatasetFigure:
    """A figure of the data set itself, drawn without any run."""

    number: int
    name: str
    caption: str


@dataclass(frozen=True)
class Table:
    """One table of the report, or the single run behind a figure that has no table.

    `heading` is the first column's; `settings_figure` the figure that lists the table's settings.
    """

    name: str
    number: str
    title: str
    question: str
    heading: str
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...] = ()
    settings_figure: int | None = None

    def row(self, label: str) -> Row:
        """The row of that label; KeyError if there is none."""
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(f"table {self.name} has no row {label!r}")


@dataclass(frozen=True)
class Section:
    name: str
    number: str
    title: str
    question: str
    tables: tuple[Table, ...] = ()
    dataset_figures: tuple[DatasetFigure, ...] = ()


def sweep(base: RunConfig, setting: str, values: Mapping[str, tuple[float, float] | None]) -> tuple[Row, ...]:
    """Rows that change one setting of `base`: the value as the report prints it -> (mean, std) or None."""
    rows = []
    for label, reported in values.items():
        config = base.but(**{setting: label})
        rows.append(Row(label, config, Reported(*reported) if reported else None))
    return tuple(rows)


def single(label: str, config: RunConfig, **marks: Any) -> tuple[Row, ...]:
    """The one row of a run that the report shows without a table."""
    return (Row(label, config, **marks),)
