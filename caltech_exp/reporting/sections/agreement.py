"""Agreement with the report in detail: by table and over all rows, and validation against test."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby

import pandas as pd

from caltech_exp.catalog import split_row_key
from caltech_exp.reporting.comparison import (
    VERDICTS,
    TableRow,
    all_rows,
    compare_rows,
    distinct_rows,
    has_comparison,
    split_by_weights,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.data import RowPlot, RowPoint
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Block, Column, Picture, Prose, Table, Value, escape, join_words
from caltech_exp.reporting.sections.figures import row_point
from caltech_exp.reporting.stats import MIN_RUNS, rank_agreement
from caltech_exp.reporting.wording import OTHER_WEIGHTS, picture_caution, row_words

MIN_PLOTTED, MAX_PLOTTED = 3, 200
NEAR = 0.02
"""A difference that is called small in the sentence on distances."""
COLUMNS = (
    Column("table", "text"),
    Column("rows", "count"),
    Column("agree", "count"),
    Column("inconclusive", "count"),
    Column("differ", "count"),
    Column("mean difference", "signed"),
    Column("largest difference", "signed"),
    Column("of row", "text"),
    Column("Kendall's tau-b", is_detail=True),
    Column("rows in the report", "count", is_detail=True),
    Column("test - validation", "signed"),
)
NOTE = (
    'Rows that have a result here and a value (or "diverges") in the report. Methods says how they are judged. A '
    "row with a diverged run has no difference. Kendall's tau-b compares the order of the rows with the report's: "
    "1 is the same order, -1 the reverse. The last line counts each configuration once, with the first value that "
    "the report gives for it."
)


def agreement_blocks(study: StudyFrames, figures: FigureCache) -> list[Block]:
    """Two sentences, the table and the plot of differences; nothing where no reported value is comparable."""
    if not has_comparison(study):
        return []
    rows = all_rows(study)
    comparisons = compare_rows(rows)
    if comparisons["verdict"].isna().all():
        return [Prose("No row with a reported value has a result yet.")]
    verdicts = verdict_sentence(comparisons)
    sentences = (verdicts, distance_sentence(comparisons))
    notes = (NOTE, chance_sentence(comparisons))
    return [
        Prose(escape(" ".join(filter(None, sentences)))),
        agreement_table(rows),
        Prose(escape(" ".join(filter(None, notes))), is_quiet=True),
        *_picture(study, figures, rows, title=verdicts.partition(".")[0]),
    ]


def agreement_table(rows: Sequence[TableRow]) -> Table:
    """A line for every table with a verdict, and one for all rows."""
    by_table = groupby(rows, key=lambda row: split_row_key(row.key)[0])
    lines = {name: compare_rows(own) for name, own in by_table}
    return Table(
        "agreement",
        "Agreement with the report by table: rows that have a result here and a value in the report.",
        COLUMNS,
        (
            *((name, *_values(frame, "label")) for name, frame in lines.items() if frame["verdict"].notna().any()),
            ("all", *_values(compare_rows(rows), "key")),
        ),
        sortable=False,
    )


def _values(comparisons: pd.DataFrame, name: str) -> tuple[Value, ...]:
    """Values of COLUMNS after the first; `name` is the column that names the row of the largest difference."""
    counts = comparisons["verdict"].value_counts()
    both = comparisons.dropna(subset="difference").sort_values("difference", key=abs)
    tau = rank_agreement(both["measured"].tolist(), both["reported"].tolist()).tau
    largest = (
        (both["difference"].mean(), *both[["difference", name]].iloc[-1]) if len(both) else (None, None, None)
    )
    test_gap = comparisons["test_gap"][comparisons["verdict"].notna()].mean()
    return (
        int(counts.sum()),
        *(int(counts.get(verdict, 0)) for verdict in VERDICTS),
        *largest,
        tau,
        int(comparisons["is_reported"].sum()),
        None if pd.isna(test_gap) else test_gap,
    )


def verdict_sentence(comparisons: pd.DataFrame) -> str:
    """`26 of 29 rows agree with the report, 2 are inconclusive and 1 differs.`, in plain text."""
    counts = comparisons["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
    agree, inconclusive, differ = counts
    rows = "row" if counts.sum() == agree == 1 else "rows"
    words = [f"{agree} of {counts.sum()} {rows} {'agrees' if agree == 1 else 'agree'} with the report"]
    words += [f"{inconclusive} {'is' if inconclusive == 1 else 'are'} inconclusive"] if inconclusive else []
    words += [f"{differ} {'differs' if differ == 1 else 'differ'}"] if differ else []
    diverged = int((comparisons["has_diverged"] & (comparisons["verdict"] == "differs")).sum())
    reason = f" Runs diverged in {diverged} of the rows that differ." if diverged else ""
    return f"{join_words(words)}.{reason}"


def other_weights_sentence(study: StudyFrames) -> str:
    """The same of the rows that start from other ImageNet weights, in plain text; empty without a verdict."""
    comparisons = compare_rows(row for part in split_by_weights(study)[1:] for row in all_rows(part))
    is_judged = comparisons["verdict"].notna().any()
    return f"With {OTHER_WEIGHTS}: {verdict_sentence(comparisons)}" if is_judged else ""


def distance_sentence(comparisons: pd.DataFrame) -> str:
    """How far the measured means are from the reported ones, in plain text; empty without any."""
    both = comparisons.dropna(subset="difference")
    if both.empty:
        return ""
    sizes = both.set_index("key")["difference"].abs().round(3).sort_values()  # as the tables show them
    near, largest, row = int((sizes <= NEAR).sum()), f"{sizes.iloc[-1]:.3f}", sizes.index[-1]
    if len(sizes) == 1:
        return f"The measured mean is {largest} away from the reported one ({row})."
    return (
        f"{near} of {len(sizes)} means {'lies' if near == 1 else 'lie'} within {NEAR:g} of the reported "
        f"ones; the median difference is {sizes.median():.3f} and the largest {largest} ({row})."
    )


def chance_sentence(comparisons: pd.DataFrame) -> str:
    """How many rows differ by chance alone, in plain text; empty where that is less than half a row."""
    intervals = int(((comparisons["n"] >= MIN_RUNS) & comparisons["difference"].notna()).sum())
    if intervals < 10:
        return ""
    return (
        "Even if the report holds for every row, one interval in twenty misses zero by chance: "
        f"{intervals / 20:.1f} of these {intervals}."
    )


def _picture(study: StudyFrames, figures: FigureCache, rows: Sequence[TableRow], title: str) -> list[Picture]:
    """The differences with their intervals; measured against reported means are on the first screen."""
    points = agreement_points(rows)
    if not MIN_PLOTTED <= len(points) <= MAX_PLOTTED:
        return []
    return [
        figures.add(
            "plot-differences",
            "comparisons:draw_differences",
            RowPlot(title, points, caution=picture_caution(study)),
            alternative="Measured minus reported validation accuracy of every row",
            caption="Bars: 95 % confidence intervals. Rows differ if zero is outside or a run diverged.",
        )
    ]


def agreement_points(rows: Iterable[TableRow]) -> tuple[RowPoint, ...]:
    """Rows with a verdict beside a reported accuracy, by section; by table where a section's labels repeat."""
    compared = [row for row in distinct_rows(rows) if row.reported and not row.diverges and row.is_measured]
    labels = Counter((row.section.name, row_words(row)) for row in compared)
    repeating = {section for (section, _), count in labels.items() if count > 1}
    points = []
    for row in compared:
        point = row_point(row, row_words(row))
        is_repeating = row.section.name in repeating
        points.append(replace(point, group=row.table.title_in(row.section)) if is_repeating else point)
    return tuple(points)
