"""The parts of a catalog: section, table, row, figure, reported value."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from typing import Literal

from caltech_exp.cli import UserError, unknown
from caltech_exp.config import RunConfig

REPORT = "report"
"""The name of the catalog that is the report itself."""
CALTECH = "Caltech-101"
REPORTED_RUNS = 3
"""Runs behind each of the report's values (its footnotes 1 to 8), and the default for a study file's values."""

MAX_RUNS = 1_000_000
"""The most runs that a study file or a command may ask for."""


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


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


@dataclass(frozen=True)
class Reported:
    """Mean and standard deviation of the last epoch's validation accuracy (0 to 1), as the report prints them.

    mean_rounding, std_rounding  half a unit of the last printed digit: the largest rounding error
    runs                         number of runs behind the value
    """

    mean: float
    std: float
    mean_rounding: float = field(default=0.0005, compare=False)
    std_rounding: float = field(default=0.0005, compare=False)
    runs: int = field(default=REPORTED_RUNS, compare=False)


@dataclass(frozen=True)
class Quoted:
    """Numbers in the report's text about the run of a figure; accuracies are validation accuracies (0 to 1)."""

    first_loss: float | None = None
    first_accuracy: float | None = None
    last_loss: float | None = None
    last_accuracy: float | None = None


@dataclass(frozen=True)
class Row:
    """`seeds` are those that the study file gives it, unless a submission asks for others."""

    label: str
    config: RunConfig
    seeds: tuple[int, ...]
    reported: Reported | None = None
    diverges: bool = False  # the report says that the training loss diverges


@dataclass(frozen=True)
class Figure:
    """Loss and validation accuracy over the epochs of one row of its table."""

    number: int
    caption: str
    row: str
    quoted: Quoted | None = None


@dataclass(frozen=True)
class DatasetFigure:
    """A figure of the data set, which needs no run."""

    number: int
    name: str
    caption: str


@dataclass(frozen=True)
class Table:
    """One table of the report, or the single run behind a figure without a table.

    heading          of the first column
    settings_figure  number of the figure that lists the table's settings
    is_part          whether some of its rows were left out (Catalog.restrict, without)
    """

    name: str
    number: str
    title: str
    question: str
    heading: str
    rows: tuple[Row, ...]
    figures: tuple[Figure, ...] = ()
    settings_figure: int | None = None
    is_part: bool = False

    def title_in(self, section: "Section") -> str:
        """`1.1. Changing learning rate`; the title alone if the table has no number of its own."""
        return f"{self.number}. {self.title}" if self.number not in ("", section.number) else self.title

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(row.label for row in self.rows)

    def row(self, label: str) -> Row:
        """The row with that label. Raises KeyError if there is none."""
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(f"table {self.name} has no row {label!r}")

    def find_row(self, label: str) -> Row | None:
        """The row with that label, otherwise the first whose label is the same number: 0.05 is 5e-2."""
        same = [row for row in self.rows if row.label == label]
        number = _number(label)
        same += [row for row in self.rows if number is not None and _number(row.label) == number]
        return same[0] if same else None


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
class Architecture:
    """A network and its title in the report.

    parameters  weights and biases, the last layer of a run included
    remark      what is to be said of that number, if anything
    """

    name: str
    title: str
    parameters: int
    remark: str = ""


@dataclass(frozen=True)
class Comparison:
    """The difference that a row makes: its validation accuracy after the last epoch minus another value.

    baseline  key of the row whose validation accuracy is subtracted, run by run of the same seed
    epoch     with the row itself as baseline: its validation accuracy after that epoch is subtracted
    is_test   with the row itself as baseline: its test accuracy is subtracted
    """

    row: str
    baseline: str
    epoch: int | None = None
    is_test: bool = False


Direction = Literal["higher", "lower", "similar", "not higher", "diverges"]


@dataclass(frozen=True)
class Claim:
    """A sentence of the report that measured numbers can support or contradict.

    text         the sentence in plain words
    stated_in    number of the report's section, "" for a study file that names none
    direction    of every difference
    comparisons  the differences that the sentence is about; none if `direction` is diverges
    diverging    key of the row that is said to diverge, "" otherwise
    size         of the difference, without sign, if the sentence gives one
    margin       how far a difference may be from `size`, from zero (similar) or above zero (not higher)
    finding      what the first screen calls it, "" if it is not shown there
    subject      what makes the difference, as the subject of a sentence: `Pretraining AlexNet`
    """

    text: str
    stated_in: str
    direction: Direction
    comparisons: tuple[Comparison, ...] = ()
    diverging: str = ""
    size: float | None = None
    margin: float = 0.0
    finding: str = ""
    subject: str = ""

    @property
    def expected(self) -> tuple[float, float]:
        """The range in which the claim puts every difference."""
        if self.size is not None:
            size = -self.size if self.direction == "lower" else self.size
            return size - self.margin, size + self.margin
        ranges = {"higher": (0.0, inf), "lower": (-inf, 0.0), "not higher": (-inf, self.margin)}
        return ranges.get(self.direction, (-self.margin, self.margin))


@dataclass(frozen=True)
class Catalog:
    """The rows that a study may run: the report (`name` is REPORT), or a study file with that name.

    selection      what of it was selected (`restrict`), as it is typed: `section=scratch`; empty for all of it
    reported_data  the data set that reported values are of
    provenance     where the study's weights files are from, in the study file's words
    """

    name: str
    title: str
    sections: tuple[Section, ...]
    seeds: tuple[int, ...]
    claims: tuple[Claim, ...] = ()
    architectures: tuple[Architecture, ...] = ()
    selection: str = ""
    reported_data: str = CALTECH
    provenance: str = ""

    @property
    def is_report(self) -> bool:
        return self.name == REPORT

    @cached_property
    def tables(self) -> tuple[tuple[Section, Table], ...]:
        """Every table with its section, in order."""
        return tuple((section, table) for section in self.sections for table in section.tables)

    @property
    def findings(self) -> tuple[Claim, ...]:
        """The claims that the first screen shows."""
        return tuple(claim for claim in self.claims if claim.finding)

    def comparisons(self, stated_in: str) -> tuple[Comparison, ...]:
        """Every comparison of the claims that a section states, each once."""
        claims = (claim for claim in self.claims if claim.stated_in == stated_in)
        return tuple(dict.fromkeys(comparison for claim in claims for comparison in claim.comparisons))

    def select(self, sections: Sequence[str] = (), tables: Sequence[str] = ()) -> list[tuple[Section, Table]]:
        """The tables of the named sections, by default of all; with `tables`, only these.

        A table is named `section.table`, or `section.table=row` for one of its rows. The report's numbers name
        sections and tables too, and a number names the row of the same value: `1.1=0.05`.
        """
        chosen = self._sections_named(sections)
        selected = [section for section in self.sections if not sections or section.name in chosen]
        if not tables:
            return [(section, table) for section in selected for table in section.tables]
        by_key = self._by_key
        rows: dict[str, list[str]] = {}
        for text, label in map(split_row_key, tables):
            keys = self._tables_named(text)
            if label is not None:
                keys = [key for key in keys if by_key[key][1].find_row(label)] or keys[:1]
            for key in keys:
                section, table = by_key[key]
                row = None if label is None else table.find_row(label)
                if section not in selected:
                    raise UserError(
                        f"table {key!r} is not in section {','.join(sections)}; "
                        f"leave section= out, or use section={section.name}"
                    )
                if label is not None and row is None:
                    raise unknown(f"row of {key}", label, table.labels)
                rows.setdefault(key, []).extend([row.label] if row else table.labels)
        return [
            (section, replace(table, rows=tuple(row for row in table.rows if row.label in rows[key])))
            for key, (section, table) in by_key.items()
            if key in rows
        ]

    @cached_property
    def _by_key(self) -> dict[str, tuple[Section, Table]]:
        return {table_key(section.name, table.name): (section, table) for section, table in self.tables}

    def _sections_named(self, names: Sequence[str]) -> set[str]:
        """The sections of these names, or of the report's numbers; `all` is every one."""
        known = {section.name for section in self.sections}
        by_number = {section.number: section.name for section in self.sections if section.number}
        for name in names:
            if name in known or name in by_number or name == "all":
                continue
            if tables := [
                key for key, (_, table) in self._by_key.items() if name in (key, table.name, table.number)
            ]:
                raise UserError(f"{name} is a table, not a section; write table={' or table='.join(tables)}")
            raise unknown("section", name, [*(section.name for section in self.sections), "all"])
        return known if "all" in names else {name if name in known else by_number[name] for name in names}

    def _tables_named(self, name: str) -> list[str]:
        """The table `section.table`, or those with the report's number."""
        if name in self._by_key:
            return [name]
        if keys := [key for key, (_, table) in self._by_key.items() if table.number == name]:
            return keys
        whole = name.removesuffix(".*")
        if whole in ("all", *(word for section in self.sections for word in (section.name, section.number))):
            raise UserError(f"{whole} is a section, not a table; write section={whole}")
        if keys := [key for key, (_, table) in self._by_key.items() if table.name == name]:
            raise UserError(f"table={name} lacks its section; write table={' or table='.join(keys)}")
        raise unknown("table", name, self._by_key)

    def restrict(self, sections: Sequence[str] = (), tables: Sequence[str] = ()) -> "Catalog":
        """This catalog with nothing but the tables and rows that `select` gives, and their figures.

        A section that is selected without `tables` keeps the figures of the data set.
        """
        selected, chosen = self.select(sections, tables), self._sections_named(sections)
        if not tables and (not sections or "all" in sections):
            return self
        kept = []
        for section in self.sections:
            whole = {table.name: table for table in section.tables}
            own = tuple(
                replace(
                    table,
                    figures=tuple(figure for figure in table.figures if figure.row in table.labels),
                    is_part=table.rows != whole[table.name].rows,
                )
                for owner, table in selected
                if owner is section
            )
            is_whole = section.name in chosen and not tables
            if own or is_whole:
                figures = section.dataset_figures if is_whole else ()
                kept.append(replace(section, tables=own, dataset_figures=figures))
        words = [f"{key}={','.join(names)}" for key, names in (("section", sections), ("table", tables)) if names]
        return replace(self, sections=tuple(kept), selection=" ".join(words))

    def without(self, keys: Collection[str]) -> "Catalog":
        """This catalog without some rows and their figures; tables and sections that have no row left go too."""
        sections = []
        for section in self.sections:
            tables = []
            for table in section.tables:
                kept = [row for row in table.rows if row_key(section.name, table.name, row.label) not in keys]
                labels = {row.label for row in kept}
                figures = tuple(figure for figure in table.figures if figure.row in labels)
                is_part = table.is_part or len(kept) < len(table.rows)
                if kept:
                    tables.append(replace(table, rows=tuple(kept), figures=figures, is_part=is_part))
            if tables or not section.tables:
                sections.append(replace(section, tables=tuple(tables)))
        return replace(self, sections=tuple(sections))
