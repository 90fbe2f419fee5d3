"""Every table of the report as CSV for spreadsheets and LaTeX for papers."""

import contextlib
import csv
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

from caltech_exp.files import write_atomically
from reports.grid import Grid, Value
from reports.latex import to_latex
from reports.markup import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Cells that begin so are formulas to a spreadsheet (OWASP, CSV Injection)."""


def write_tables(folder: Path, grids: Iterable[Grid]) -> None:
    """`folder`/<name>.csv and .tex for every table; tables of an earlier report that are not among them go.

    A file that would not change is not touched. Raises OSError.
    """
    folder.mkdir(exist_ok=True)
    kept = set()
    for grid in grids:
        for kind, content in (("csv", to_csv(grid)), ("tex", to_latex(grid))):
            path = folder / f"{grid.name}.{kind}"
            write_if_changed(path, content)
            kept.add(path)
    for path in folder.iterdir():
        if path.suffix in (".csv", ".tex") and path not in kept:
            path.unlink()


def to_csv(grid: Grid) -> str:
    """Numbers with all their digits; a word in a column of numbers is left out, the state column says the same."""
    rows = [
        [value if column.kind == "text" or not isinstance(value, str) else None for column, value in pairs]
        for pairs in (zip(grid.columns, row, strict=True) for row in grid.rows)
    ]
    return csv_text([column.heading for column in grid.columns], rows)


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """The heading line and a line for each of `rows`."""
    return csv_lines(chain([headings], rows))


def csv_lines(rows: Iterable[Sequence[Value]]) -> str:
    """RFC 4180 with line feeds; empty for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([neutral(value) if isinstance(value, str) else value for value in row] for row in rows)
    return text.getvalue()


@lru_cache(maxsize=10_000)
def neutral(text: str) -> str:
    """One printable line that no spreadsheet takes for a formula: an apostrophe stands before one."""
    line = text if text.isprintable() else printable(text)
    return f"'{line}" if line.startswith(FORMULA) else line


def write_if_changed(path: Path, content: str) -> None:
    """Replace the file by `content`, unless it holds just that. Raises OSError."""
    new = content.encode()
    with contextlib.suppress(OSError):
        if path.stat().st_size == len(new) and path.read_bytes() == new:
            return
    write_atomically(path, new)
