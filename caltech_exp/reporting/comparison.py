"""The rows of a study beside the values that the report prints for them: differences, verdicts, best rows.

From three measured runs on, the interval of the difference is Welch's (B. L. Welch, Biometrika 34, 1947), as the
two sides need not scatter alike. Fewer runs have no interval, and leave the comparison inconclusive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Literal
from weakref import WeakKeyDictionary

import pandas as pd

from caltech_exp.catalog import SPLIT_IMAGES, Reported, Row, Section, Table, row_key
from caltech_exp.catalog.model import CALTECH
from caltech_exp.config import RunConfig
from caltech_exp.reporting.frames import StudyFrames, is_overridden
from caltech_exp.reporting.stats import MIN_RUNS, Summary, summarize, t_quantile, welch_half_width

Deviation = Literal["population", "sample"]
Verdict = Literal["agrees", "differs", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = ("agrees", "inconclusive", "differs")

MAX_HALF_WIDTH = 0.1
"""Half a width from which an interval that contains zero does not count as agreement: as far as the report's
learning rates 5e-2 and 6e-2 are from each other (section 1.1: 0.446 and 0.344)."""
COMPARISON_COLUMNS = (
    *("key", "label", "is_reported", "verdict", "n", "has_diverged"),
    *("measured", "reported", "test_gap"),
)
MAX_SEEDS = 1000
"""Seeds up to which one more is worth advising."""


_ROWS: "WeakKeyDictionary[StudyFrames, dict[tuple[int, int], tuple[TableRow, ...]]]" = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class TableRow:
    """A row of the catalog with its configuration in this study and its runs.

    runs               its lines of StudyFrames.runs, by seed
    is_as_written      whether its runs are of the catalog's settings and weights, and not of a stand-in
    is_comparable      whether the reported value is also of the same data
    has_other_weights  whether its runs start from other ImageNet weights than torchvision's
    """

    section: Section
    table: Table
    row: Row
    config: RunConfig
    runs: pd.DataFrame
    is_as_written: bool
    is_comparable: bool
    has_other_weights: bool = False

    @cached_property
    def key(self) -> str:
        """`scratch.lr=5e-2`"""
        return row_key(self.section.name, self.table.name, self.row.label)

    @property
    def suffix(self) -> str:
        """What names of tables, figures and anchors end in, so that rows of other weights never replace them."""
        return "-other-weights" if self.has_other_weights else ""

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def reported(self) -> Reported | None:
        """What the report prints, if it is comparable."""
        return self.row.reported if self.is_comparable else None

    @property
    def diverges(self) -> bool:
        """Whether the report says that the loss diverges, if that is comparable."""
        return self.row.diverges and self.is_comparable

    @property
    def is_reported(self) -> bool:
        """Whether the report says what to expect: an accuracy, or that the loss diverges."""
        return self.reported is not None or self.diverges

    @cached_property
    def finished(self) -> pd.DataFrame:
        return self.runs[self.runs["state"] == "finished"]

    @cached_property
    def diverged(self) -> pd.DataFrame:
        return self.runs[self.runs["state"] == "diverged"]

    @property
    def is_measured(self) -> bool:
        """Whether any run ended with a result."""
        return bool(len(self.finished) or len(self.diverged))

    @property
    def is_stable(self) -> bool:
        """Whether the row has a mean that counts: some run finished and none diverged."""
        return self.measured.mean is not None and self.diverged.empty

    @cached_property
    def accuracies(self) -> "pd.Series[float]":
        """Validation accuracy after the last epoch of the finished runs, by seed."""
        return self.finished.set_index("seed")["val_accuracy"]

    @cached_property
    def measured(self) -> Summary:
        """Of the finished runs' validation accuracy after the last epoch; diverged runs are never averaged in."""
        return self.summary("val_accuracy")

    def summary(self, column: str) -> Summary:
        """Of a column of the finished runs, such as `test_accuracy`."""
        return summarize(self.finished[column])


def table_rows(study: StudyFrames, section: Section, table: Table) -> tuple[TableRow, ...]:
    """The rows of a table, in its order. They are made once for a study, as is what they compute."""
    tables, place = _ROWS.setdefault(study, {}), (id(section), id(table))  # which the rows keep alive
    if place not in tables:
        tables[place] = tuple(_table_row(study, section, table, row) for row in table.rows)
    return tables[place]


def all_rows(study: StudyFrames) -> tuple[TableRow, ...]:
    """Every row of the study, in the order of the tables."""
    return tuple(chain.from_iterable(table_rows(study, *pair) for pair in study.catalog.tables))


def find_row(study: StudyFrames, key: str) -> TableRow:
    """The row named `scratch.lr=5e-2`. Raises KeyError if there is none."""
    return {row.key: row for row in all_rows(study)}[key]


def distinct_rows(rows: Iterable[TableRow]) -> list[TableRow]:
    """Each configuration once: of rows that are the same run the first reported one, or else the first."""
    distinct: dict[str, TableRow] = {}
    for row in sorted(rows, key=lambda row: not row.is_reported):  # a stable sort
        distinct.setdefault(row.config.id, row)
    return list(distinct.values())


def has_comparison(study: StudyFrames) -> bool:
    """Whether the report says anything of the rows that holds for this study."""
    return any(row.is_reported for row in all_rows(study))


def _table_row(study: StudyFrames, section: Section, table: Table, row: Row) -> TableRow:
    config = study.settings.apply(row.config)
    has_other_weights = study.settings.has_other_weights(config)
    is_as_written = (
        not study.is_stand_in
        and not is_overridden(row.config, study.settings)
        and (study.compares_other_weights or not has_other_weights)
        and has_report_images(study)
    )
    is_comparable = is_as_written and has_reported_data(study)
    runs = study.runs_by_config[config.id]
    return TableRow(section, table, row, config, runs, is_as_written, is_comparable, has_other_weights)


def split_by_weights(study: StudyFrames) -> tuple[StudyFrames, ...]:
    """The study without the rows that start from other ImageNet weights, and if there are any, these alone.

    Only in the second are they compared, with the values that the report measured from torchvision's weights.
    """
    rows = all_rows(study)
    other = {row.key for row in rows if row.has_other_weights}
    if not other:
        return (study,)
    rest = {row.key for row in rows} - other
    own = replace(study, catalog=study.catalog.without(rest), compares_other_weights=True)
    return replace(study, catalog=study.catalog.without(other)), own


def has_reported_data(study: StudyFrames) -> bool:
    """Whether the study trains on the data set that its catalog's reported values are of."""
    return study.has_own_data == (study.catalog.reported_data != CALTECH)


def has_report_images(study: StudyFrames) -> bool:
    """Whether the study's splits hold as many images as the report's; always so for a study file's own values."""
    if not study.catalog.is_report:
        return True
    if study.has_own_data:
        return False
    counts = image_counts(study)
    return counts is None or counts == SPLIT_IMAGES


def image_counts(study: StudyFrames) -> tuple[int, int] | None:
    """Images of the study's splits, training and validation together, and test; None where nothing tells."""
    if study.study:
        return study.study.data.train_val_images, study.study.data.test_images
    whole = study.results[study.results["max_images"] == 0]
    if whole.empty:
        return None
    run = whole.iloc[0]
    return int(run["train_images"] + run["val_images"]), int(run["test_images"])


@dataclass(frozen=True)
class Difference:
    """Measured mean minus reported mean, half the width of its 95 % interval, and the verdict.

    value, half_width  None where there is no mean, or no interval
    reason             why there is no interval, or why the runs themselves decide: `n = 2: too few`
    """

    verdict: Verdict
    value: float | None = None
    half_width: float | None = None
    reason: str = ""


def compare_row(row: TableRow) -> Difference | None:
    """The row beside its reported value; None if it has none here, or no run ended.

    One run that diverges where the report's do not is enough to differ, as is one that finishes where they
    diverge: the mean would be that of the lucky ones.
    """
    finished, diverged = len(row.finished), len(row.diverged)
    if not row.is_reported or not finished + diverged:
        return None
    if row.diverges:
        if not finished:
            return Difference("agrees", reason="diverges in both")
        return Difference("differs", reason=f"{finished} of {finished + diverged} finished; the report's diverge")
    assert row.reported is not None
    value = None if row.measured.mean is None else row.measured.mean - row.reported.mean
    if diverged:
        return Difference(
            "differs", value, reason=f"{diverged} of {finished + diverged} diverged; none in the report"
        )
    half_width = difference_half_width(row.measured, row.reported)
    reason = f"n = {finished}: too few" if half_width is None else ""
    return Difference(judge(value, half_width), value, half_width, reason)


def compare_rows(rows: Iterable[TableRow]) -> pd.DataFrame:
    """One line a configuration of the rows, in the order of `distinct_rows`.

    verdict is missing without a result or a reported value; measured and reported means without a value on both
    sides, and where runs diverged: the mean would be that of the lucky ones.
    """
    lines = []
    for row in distinct_rows(rows):
        comparison = compare_row(row)
        reported = row.reported if row.is_stable else None
        lines.append(
            {
                "key": row.key,
                "label": row.label,
                "is_reported": row.is_reported,
                "verdict": comparison.verdict if comparison else None,
                "n": row.measured.n,
                "has_diverged": not row.diverged.empty,
                "measured": row.measured.mean if reported else None,
                "reported": reported.mean if reported else None,
                "test_gap": (row.finished["test_accuracy"] - row.finished["val_accuracy"]).mean(),
            }
        )
    frame = pd.DataFrame(lines, columns=COMPARISON_COLUMNS)
    frame = frame.astype(dict.fromkeys(("measured", "reported", "test_gap"), "float64"))
    return frame.assign(difference=frame["measured"] - frame["reported"])


def judge(value: float | None, half_width: float | None) -> Verdict:
    """`differs` where zero lies outside the interval; one that contains it and is wide is inconclusive."""
    if value is None or half_width is None:
        return "inconclusive"
    if abs(value) > half_width:
        return "differs"
    return "agrees" if half_width < MAX_HALF_WIDTH else "inconclusive"


def difference_half_width(
    measured: Summary, reported: Reported, deviation: Deviation = "population"
) -> float | None:
    """Half the width of the difference's 95 % interval; None below MIN_RUNS measured runs.

    deviation  what the report's standard deviation is, which it does not say: divided by n, or by n - 1

    Values that the report rounded are given the benefit of that: its mean may be half a last digit off, and its
    deviation too, whichever way makes the interval wider (a smaller one may, as it leaves Welch's interval fewer
    degrees of freedom).
    """
    if measured.n < MIN_RUNS or measured.squared_error is None:
        return None
    return _half_width((measured.squared_error, measured.n), reported, deviation)


def _half_width(measured: tuple[float, int], reported: Reported, deviation: Deviation = "population") -> float:
    """The same of a measured mean's squared standard error and number of runs."""
    runs = reported.runs - 1 if deviation == "population" else reported.runs
    stds = (max(0.0, reported.std - reported.std_rounding), reported.std + reported.std_rounding)
    return max(welch_half_width(measured, (std**2 / runs, reported.runs)) for std in stds) + reported.mean_rounding


@dataclass(frozen=True)
class SeedAdvice:
    """How many seeds in all would decide an inconclusive row; None if none would.

    hours  what the missing seeds cost on the device of the row's finished runs; None if unknown
    """

    seeds: int | None
    hours: float | None = None


def seeds_to_decide(row: TableRow) -> SeedAdvice | None:
    """The fewest seeds at which the verdict would not be inconclusive if means and spreads stay as they are.

    A single run has no spread: the report's is taken for it. None for rows that are decided or have no result.
    """
    difference = compare_row(row)
    if difference is None or difference.verdict != "inconclusive" or row.reported is None:
        return None
    value, reported, n = difference.value or 0.0, row.reported, row.measured.n
    variance = (row.measured.std**2 * n / (n - 1)) if row.measured.std else reported.std**2 * 1.5
    # The reported spread alone: a measured mean without any error would still leave this.
    theirs = (reported.std + reported.std_rounding) / (reported.runs - 1) ** 0.5
    limit = t_quantile(reported.runs - 1) * theirs + reported.mean_rounding
    if judge(value, limit) == "inconclusive":
        return SeedAdvice(None)
    seconds = row.finished["wall_seconds"].mean()
    for seeds in range(max(MIN_RUNS, n + 1), MAX_SEEDS + 1):
        if judge(value, _half_width((variance / seeds, seeds), reported)) != "inconclusive":
            hours = None if pd.isna(seconds) else float(seconds) * (seeds - n) / 3600
            return SeedAdvice(seeds, hours)
    return SeedAdvice(None)


@dataclass(frozen=True)
class NetworkStart:
    """A network and where its training starts: random or pretrained weights, or ImageNet's of another file."""

    model: str
    is_pretrained: bool
    has_other_weights: bool = False


def rows_by_start(study: StudyFrames) -> dict[NetworkStart, list[TableRow]]:
    """The rows with a finished run, each configuration once, by network and initial weights; scratch first."""
    models = dict.fromkeys(row.config.model for row in all_rows(study))
    kinds = ((False, False), (True, False), (True, True))
    groups: dict[NetworkStart, list[TableRow]] = {
        NetworkStart(model, *kind): [] for model in models for kind in kinds
    }
    for row in distinct_rows(all_rows(study)):
        if len(row.finished):
            groups[NetworkStart(row.config.model, row.config.pretrained, row.has_other_weights)].append(row)
    return {start: rows for start, rows in groups.items() if rows}


def best_row(rows: Sequence[TableRow]) -> TableRow | None:
    """The row of the highest measured mean, the first of several.

    Rows with diverged runs count only where all have some: their means are those of the lucky runs.
    """
    measured = [row for row in rows if row.measured.mean is not None]
    stable = [row for row in measured if row.is_stable] or measured
    return max(stable, key=lambda row: row.measured.mean or 0.0, default=None)


def best_row_by_start(study: StudyFrames) -> dict[NetworkStart, TableRow]:
    """The best measured row of each network and initial weights."""
    return {start: row for start, rows in rows_by_start(study).items() if (row := best_row(rows))}
