"""All epochs of all runs as one tidy CSV."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from caltech_exp.reporting.line_file import write_lines
from caltech_exp.reporting.outcome import COLUMNS, Outcome

HEADING = ",".join(("run_id", "epoch", *COLUMNS)) + "\n"


def write_epochs(path: Path, index: Path, outcomes: Iterable[Outcome]) -> None:
    """Write `path`, a line per run and epoch, empty for a loss that was not finite. Raises OSError.

    index  remembers where the lines of every run stand in `path`
    """
    entries = ((one.run_id, one.digest, partial(_lines, one)) for one in outcomes)
    write_lines(path, index, HEADING, entries, Path(__file__).read_bytes())


def _lines(one: Outcome) -> str:
    lines = []
    for number, row in enumerate(one.epochs.table.tolist(), start=1):
        cells = ",".join("" if value != value else repr(value) for value in row)  # NaN is nothing
        lines.append(f"{one.run_id},{number},{cells}\n")
    return "".join(lines)
