"""The shapes a catalog is made of: section, table, row, figure, reported value."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from caltech_exp.cli import UserError, unknown
from caltech_exp.config import RunConfig

REPORT = "report"
"""The name of the catalog that is the report itself."""


REPORTED_RUNS = 3
"""Runs behind each of the report's values (its footnotes 1 to 8), and behind a study file's if it does not say."""


def table_key(section: str, table: str) -> str:
    """`scratch.lr`"""
    return f"{section}.{table}"


def row_key(section: str, table: str, row: str) -> str:
    """`scratch.lr=5e-2`"""
    return f"{table_key(section, table)}={row}"


def split_row_key(key: str) -> tuple[str, str | None]:
    """`scratch.lr=5e-2` -> ("scratch.lr", "5e-2"); the row of a table's own key is None."""
    table, equals, row = key.partition("=")
    return table, row if equals else None


@dataclass(frozen=True)
class Reported:
    """Validation accuracy after the last epoch, mean and standard deviation as the report prints them (0 to 1).

    mean_rounding, std_rounding  half a unit of the last digit that is written: what rounding may hide
    runs                         runs that it is of
    """

    mean: float
    std: float
    mean_rounding: float = field(default=0.0005, compare=False)
    std_rounding: float = field(default=0.0005, compare=False)
    runs: int = field(default=REPORTED_RUNS, compare=False)


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

    def title_in(self, section: "Section") -> str:
        """`1.1. Changing learning rate`; without the number where it has none of its own."""
        return f"{self.number}. {self.title}" if self.number not in ("", section.number) else self.title

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

    @property
    def full_title(self) -> str:
        """`1. Training from scratch`"""
        return f"{self.number}. {self.title}" if self.number else self.title


@dataclass(frozen=True)
class Catalog:
    """What a study asks: the report (`name` is REPORT), or the sections of a study file of that name."""

    name: str
    title: str
    sections: tuple[Section, ...]
    seeds: tuple[int, ...]

    @property
    def is_report(self) -> bool:
        return self.name == REPORT

    @cached_property
    def tables(self) -> tuple[tuple[Section, Table], ...]:
        """Every table with its section, in their order."""
        return tuple((section, table) for section in self.sections for table in section.tables)

    def select(self, sections: Sequence[str] = (), tables: Sequence[str] = ()) -> list[tuple[Section, Table]]:
        """The tables of the named sections (`all` for every one), narrowed to the named tables if any.

        Tables are named `section.table`, or `section.table=row` for one row of them. Raises UserError for an
        unknown name, or a table outside the sections.
        """
        by_name = {section.name: section for section in self.sections}
        everything = {table_key(s.name, t.name): (s, t) for s, t in self.tables}
        for name in sections:
            if name in everything:
                raise UserError(f"{name} is a table, not a section; write table={name}")
            if name not in by_name and name != "all":
                raise unknown("section", name, [*by_name, "all"])
        chosen = [s for s in self.sections if not sections or "all" in sections or s.name in sections]
        if not tables:
            return [(s, t) for s in chosen for t in s.tables]
        rows: dict[str, list[str]] = {}
        for key in tables:
            name, label = split_row_key(key)
            if name not in everything:
                raise unknown("table", name, everything)
            section, table = everything[name]
            if section not in chosen:
                raise UserError(
                    f"table {name!r} is not in section {','.join(sections)}; "
                    f"leave section= out, or use section={section.name}"
                )
            labels = [row.label for row in table.rows]
            if label is not None and label not in labels:
                raise unknown(f"row of {name}", label, labels)
            rows.setdefault(name, []).extend(labels if label is None else [label])
        return [
            (s, replace(t, rows=tuple(row for row in t.rows if row.label in rows[name])))
            for name, (s, t) in everything.items()
            if name in rows
        ]
