"""Whether a row agrees with the report: by its accuracy, or by whether it diverges."""

from collections.abc import Iterable
from dataclasses import dataclass

from caltech_exp.reporting.collect import RowRuns
from caltech_exp.reporting.reported import Finding, gap


@dataclass(frozen=True)
class Verdict:
    """A row held against the report; `how` says in plain words how it differs, or how wide the interval is that
    cannot tell, and is empty where it agrees."""

    row: RowRuns
    finding: Finding
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
        return Verdict(row, "differs", how) if finished else Verdict(row, "agrees")
    if diverged:
        how = f"{diverged} of {finished + diverged} runs diverged; in the report none does"
        return Verdict(row, "differs", how if finished else "diverged")
    found = row.row.reported and gap(row.measured, row.row.reported)
    if not found:
        return None
    if found.finding == "agrees":
        return Verdict(row, "agrees")
    alone = ", n = 1" if row.measured.n == 1 else ""
    by = f"by {found.value:+.3f} " if found.finding == "differs" else ""
    return Verdict(row, found.finding, f"{by}±{found.half:.3f}{alone}")
