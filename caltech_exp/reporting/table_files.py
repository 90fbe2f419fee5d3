"""Every table of the report as CSV for spreadsheets and LaTeX for papers."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from caltech_exp.files import write_atomically
from caltech_exp.reporting.grid import Grid, Value
from caltech_exp.reporting.latex import to_latex
from caltech_exp.reporting.markup import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Cells that begin so are formulas to a spreadsheet (OWASP, CSV Injection)."""
_NAMES = TypeAdapter(list[str])


def write_tables(folder: Path, index: Path, grids: Iterable[Grid]) -> None:
    """`folder`/<name>.csv and .tex for every table; tables of an earlier report that are not among them go.

    `index` remembers the names of the files that a report wrote: others in the folder are left alone. A file that
    would not change is not touched. Raises OSError.
    """
    folder.mkdir(exist_ok=True)
    before = _read_names(index)
    kept: list[str] = []
    for grid in grids:
        for kind, content in (("csv", to_csv(grid)), ("tex", to_latex(grid))):
            name = f"{grid.name}.{kind}"
            write_if_changed(folder / name, content)
            kept.append(name)
    for name in set(before) - set(kept):
        if Path(name).name == name and Path(name).suffix in (".csv", ".tex"):  # whatever stands in the index
            (folder / name).unlink(missing_ok=True)
    if before != kept:
        index.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(index, json.dumps(kept))


def _read_names(index: Path) -> list[str]:
    """The names that `index` holds, none if it is not there or damaged."""
    try:
        return _NAMES.validate_json(index.read_bytes())
    except (OSError, ValidationError):
        return []


def to_csv(grid: Grid) -> str:
    """Numbers with all their digits; a word in a column of numbers is left out, the state column says the same."""
    rows = [
        [value if column.kind == "text" or not isinstance(value, str) else None for column, value in pairs]
        for pairs in (zip(grid.columns, row, strict=True) for row in grid.rows)
    ]
    return csv_text([column.title for column in grid.columns], rows)


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
