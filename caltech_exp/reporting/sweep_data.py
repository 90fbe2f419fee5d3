"""What the plot of a table shows of its rows."""

from dataclasses import dataclass

from caltech_exp.reporting.collect import RowRuns

MOST_PLOTTED = 60
"""Rows of a table up to which there is a plot of them."""


@dataclass(frozen=True)
class SweepRow:
    """A row of the table: accuracies from 0 to 1, None for what is not known.

    single    final accuracies of the finished runs
    half      half the width of the mean's 95 % confidence interval
    diverged  number of runs that diverged
    """

    label: str
    single: tuple[float, ...]
    mean: float | None
    half: float | None
    reported: float | None
    reported_std: float | None
    diverged: int


def sweep_row(row: RowRuns) -> SweepRow:
    """What the plot shows of a row."""
    measured, reported = row.measured, row.row.reported
    return SweepRow(
        label=row.row.label,
        single=tuple(one.val_accuracy for one in row.finished if one.val_accuracy is not None),
        mean=measured.mean,
        half=measured.half,
        reported=reported.mean if reported else None,
        reported_std=reported.std if reported else None,
        diverged=len(row.diverged),
    )
