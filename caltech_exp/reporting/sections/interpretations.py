"""What the report does not say about its numbers, and how many rows agree under each interpretation.

"Validation accuracy is the result of three runs" may mean the last epoch or the best one, and its standard
deviation may be the population's or a sample's. Results hold what each interpretation needs.
"""

from collections.abc import Iterable

import pandas as pd

from caltech_exp.reporting.comparison import (
    Deviation,
    TableRow,
    all_rows,
    difference_half_width,
    distinct_rows,
    judge,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import Block, Column, Interval, Prose, Table, Value, escape

INTERPRETATIONS: dict[str, tuple[str, Deviation]] = {
    "last epoch": ("val_accuracy", "population"),
    "best epoch": ("best_val_accuracy", "population"),
    "test set": ("test_accuracy", "population"),
    "sample deviation": ("val_accuracy", "sample"),
}
"""Name -> the column of StudyFrames.runs that the report's mean is of, and what its standard deviation is."""
COLUMNS = (
    Column("row", "text"),
    Column("reported"),
    *(Column(name, "difference", f"difference, {name}", name == "sample deviation") for name in INTERPRETATIONS),
    Column("n", "count", is_detail=True),
    Column("agrees under", "text"),
)
OPEN = (
    "The report does not say whether its accuracies are those of the last or the best epoch, nor which standard "
    "deviation it gives. This page assumes the last epoch and the population's."
)
NOTE = (
    "Measured - reported with its 95 % confidence interval, if the report's values are validation accuracies "
    "after the last epoch, those of the best epoch, or test accuracies. Sample deviation: as last epoch, if the "
    "report's standard deviation is a sample's."
)
DIVERGED = "A row with a diverged run does not agree under any interpretation: none diverged in the report."


def interpretation_blocks(study: StudyFrames) -> list[Block]:
    """What is open, how many rows agree under each interpretation, and the rows; nothing without a comparison."""
    verdicts = interpret_rows(all_rows(study))
    if verdicts.empty:
        return []
    note = f"{NOTE} {DIVERGED}" if verdicts["has_diverged"].any() else NOTE
    return [
        Prose(OPEN),
        Prose(escape(agreement_sentence(verdicts))),
        interpretation_table(verdicts),
        Prose(escape(note), is_quiet=True),
    ]


def interpret_rows(rows: Iterable[TableRow]) -> pd.DataFrame:
    """A line for each row with a result and a reported accuracy, each configuration once, and interpretation."""
    lines = []
    for row in distinct_rows(rows):
        reported = row.reported
        if reported is None or row.diverges or not row.is_measured:
            continue
        for name, (column, deviation) in INTERPRETATIONS.items():
            summary = row.summary(column)
            value = None if summary.mean is None else summary.mean - reported.mean
            half_width = difference_half_width(summary, reported, deviation)
            lines.append(
                {
                    "key": row.key,
                    "n": row.measured.n,
                    "reported": reported.mean,
                    "has_diverged": not row.diverged.empty,
                    "interpretation": name,
                    "value": value,
                    "half_width": half_width,
                    "verdict": judge(value, half_width) if row.diverged.empty else "differs",
                }
            )
    return pd.DataFrame(lines)


def agreement_sentence(verdicts: pd.DataFrame) -> str:
    """`Rows that agree (of 29): last epoch 26, best epoch 23; 3 are inconclusive each time.`, in plain text."""
    counts = pd.crosstab(verdicts["interpretation"], verdicts["verdict"])
    counts = counts.reindex(index=list(INTERPRETATIONS), columns=["agrees", "inconclusive"], fill_value=0)
    rows, agree, inconclusive = verdicts["key"].nunique(), counts["agrees"], counts["inconclusive"]
    if agree.nunique() == 1:
        verb = "agrees" if agree.iloc[0] == 1 else "agree"
        head = f"{agree.iloc[0]} of {rows} row{'s' if rows > 1 else ''} {verb} under each interpretation"
    else:
        head = f"Rows that agree (of {rows}): {_named(agree)}"
    if not inconclusive.any():
        return f"{head}."
    if inconclusive.nunique() > 1:
        return f"{head}. Inconclusive: {_named(inconclusive)}."
    return f"{head}; {inconclusive.iloc[0]} {'is' if inconclusive.iloc[0] == 1 else 'are'} inconclusive each time."


def _named(counts: "pd.Series[int]") -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def interpretation_table(verdicts: pd.DataFrame) -> Table:
    """A line for each row."""
    caption = "Measured - reported with its 95 % confidence interval, by what the reported accuracies may be."
    lines = {str(key): _line(str(key), own) for key, own in verdicts.groupby("key", sort=False)}
    return Table("interpretations", caption, COLUMNS, tuple(lines.values()), tuple(lines))


def _line(key: str, own: pd.DataFrame) -> tuple[Value, ...]:
    differences = (
        None if pd.isna(value) else Interval(value, None if pd.isna(half_width) else half_width)
        for value, half_width in own[["value", "half_width"]].itertuples(index=False)
    )
    first = own.iloc[0]
    return (key, float(first["reported"]), *differences, int(first["n"]), _agreeing(own))


def _agreeing(own: pd.DataFrame) -> str:
    """`last epoch, test set; inconclusive: best epoch`"""
    if own["has_diverged"].iloc[0]:
        return "none, diverged"
    names = {verdict: list(group["interpretation"]) for verdict, group in own.groupby("verdict")}
    agree, inconclusive = names.get("agrees", []), names.get("inconclusive", [])
    if len(inconclusive) == len(own):
        return "inconclusive"
    words = "all" if len(agree) == len(own) else ", ".join(agree) or "none"
    return f"{words}; inconclusive: {', '.join(inconclusive)}" if inconclusive else words
