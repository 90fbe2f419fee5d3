"""Every row with a measured and a reported value, for the plot of one against the other."""

from dataclasses import dataclass

from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.sentences import compared, known_rows


@dataclass(frozen=True)
class ScatterPoint:
    """A row: its section by number and title, accuracies from 0 to 1; half is None for a single run."""

    section: str
    mean: float
    half: float | None
    reported: float
    reported_std: float


def scatter_points(collected: Collected) -> list[ScatterPoint]:
    """Of the rows that are `compared`, in the report's order; a configuration of several tables is one point."""
    found: dict[str, ScatterPoint] = {}
    for section, table in collected.catalog.tables:
        for one, said in compared(known_rows(collected.of(section, table))):
            point = ScatterPoint(section.full_title, one.mean, one.measured.half, said.mean, said.std)
            found.setdefault(one.row.config.id, point)
    return list(found.values())
