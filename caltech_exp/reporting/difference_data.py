"""Every row's difference from the report, for the plot of them below each other."""

from dataclasses import dataclass

from caltech_exp.catalog import row_key
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.reported import Finding, gap
from caltech_exp.reporting.verdicts import Verdict, verdicts


@dataclass(frozen=True)
class DifferenceRow:
    """A row by its key, `scratch.lr=5e-2`: measured mean - reported mean, from -1 to 1.

    half      half the width of the difference's 95 % confidence interval
    finding   whether the row agrees: by that interval, or by runs that diverged
    runs      that finished
    diverged  number of runs that did, though in the report none does: then there is no value, as the mean would be
              that of the lucky ones
    """

    key: str
    value: float | None
    half: float | None
    finding: Finding
    runs: int
    diverged: int


def difference_rows(collected: Collected) -> list[DifferenceRow]:
    """Of the configurations of `verdicts`, in the report's order, those that the report prints an accuracy for."""
    keys: dict[str, str] = {}
    for section, table in collected.catalog.tables:
        for row in collected.of(section, table):
            if row.row.reported:
                keys.setdefault(row.config.id, row_key(section.name, table.name, row.row.label))
    held = verdicts(collected.all_rows())
    return [
        _row(keys[one.row.config.id], one)
        for one in held
        if one.row.config.id in keys and not one.row.row.diverges
    ]


def _row(key: str, one: Verdict) -> DifferenceRow:
    said = one.row.row.reported
    found = gap(one.row.measured, said) if said and not one.row.diverged else None
    return DifferenceRow(
        key,
        found.value if found else None,
        found.half if found else None,
        one.finding,
        one.row.measured.n,
        len(one.row.diverged),
    )
