"""Whether a row agrees with the report: by its accuracy, or by whether it diverges."""

from collections.abc import Iterable
from dataclasses import dataclass

from reports.collect import RowRuns
from reports.reported import gap


@dataclass(frozen=True)
class Verdict:
    """A row held against the report; `how` says in plain words how it differs, empty where it agrees."""

    row: RowRuns
    agrees: bool
    how: str = ""

    @property
    def label(self) -> str:
        return self.row.row.label


def verdicts(rows: Iterable[RowRuns]) -> list[Verdict]:
    """Of every configuration that the report says something of and that has runs that ended, in their order."""
    found: dict[str, Verdict] = {}
    for row in rows:
        one = _verdict(row)
        if one:
            found.setdefault(row.config.id, one)
    return list(found.values())


def is_reported(row: RowRuns) -> bool:
    """Whether the report says what to expect of the row: an accuracy, or that it diverges."""
    return row.row.reported is not None or row.row.diverges


def _verdict(row: RowRuns) -> Verdict | None:
    """One run that diverges where the report's do not is enough to differ, as is one that does not where they do:
    the mean would be that of the lucky ones."""
    finished, diverged = len(row.finished), len(row.diverged)
    if not is_reported(row) or not finished + diverged:
        return None
    if row.row.diverges:
        how = f"{finished} of {finished + diverged} runs finished; in the report the loss diverges"
        return Verdict(row, not finished, how if finished else "")
    if diverged:
        how = f"{diverged} of {finished + diverged} runs diverged; in the report none does"
        return Verdict(row, False, how if finished else "diverged")
    found = row.row.reported and gap(row.measured, row.row.reported)
    if not found:
        return None
    if found.agrees:
        return Verdict(row, True)
    alone = ", n = 1" if row.measured.n == 1 else ""
    return Verdict(row, False, f"by {found.value:+.3f} ±{found.half:.3f}{alone}")
