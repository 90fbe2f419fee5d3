"""The report's files of numbers: its tables as CSV and LaTeX, its runs and epochs as CSV.

Tables are rounded as on the page; runs and epochs have all their digits.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from caltech_exp.files import remove, write_atomically
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import Column, Interval, Spread, Table, Value, printable, shown
from caltech_exp.reporting.render.latex import MARK, to_latex

TABLES = "tables"
FORMULA = re.compile(r'(?:^|(?<=;))(?=[\s"]*[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b])')
"""Before what a spreadsheet takes for a formula (OWASP, CSV Injection), also with full-width and small signs, and
after `;`, which separates cells where the decimal sign is a comma."""
SECOND = {"spread": "std", "difference": "95 % half width"}
"""The second number of a cell by the kind of its column; in a CSV file it has a column of its own."""


def write_files(out: Path, tables: Iterable[Table], study: StudyFrames) -> None:
    """Write tables/<name>.csv and .tex for every table, runs.csv and epochs.csv.

    Tables of an earlier report that this one does not have are removed, and a file that would not change is not
    touched. Raises OSError.
    """
    folder = out / TABLES
    folder.mkdir(parents=True, exist_ok=True)
    names = set()
    for table in tables:
        names.add(table.name)
        # A report's table is known by its LaTeX file: that comes first and goes last.
        write_if_changed(folder / f"{table.name}.tex", to_latex(table))
        write_if_changed(folder / f"{table.name}.csv", to_csv(to_frame(table)))
    for path in folder.glob("*.tex"):
        if path.stem not in names and _is_from_report(path):
            remove(path.with_suffix(".csv"))
            remove(path)
    write_if_changed(out / "runs.csv", to_csv(without_formulas(study.runs)))
    write_if_changed(out / "epochs.csv", to_csv(study.epochs))


def write_if_changed(path: Path, content: str) -> None:
    """Replace the file by `content`, unless it holds just that. Raises OSError."""
    new = content.encode()
    with contextlib.suppress(OSError):
        if path.stat().st_size == len(new) and path.read_bytes() == new:
            return
    write_atomically(path, new)


def _is_from_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def to_frame(table: Table) -> pd.DataFrame:
    """The table with a column per number, its digits as the page shows them: `0.460`, `-0.014`, `12345`.

    A Spread becomes a mean and a population standard deviation, an Interval a value and a half width. Words in a
    column of numbers are left out.
    """
    names: list[str] = []
    cells: list[list[str | None]] = []
    for place, column in enumerate(table.columns):
        values = [row[place] for row in table.rows]
        names.append(neutral(column.file_heading or column.heading))
        if not column.is_number:
            cells.append([None if value is None else neutral(str(value)) for value in values])
            continue
        numbers = [_numbers(column, value) for value in values]
        cells.append([first for first, _ in numbers])
        if column.kind in SECOND:
            names.append(f"{names[-1]} {SECOND[column.kind]}")
            cells.append([second for _, second in numbers])
    return pd.DataFrame(dict(enumerate(cells)), dtype="string").set_axis(names, axis=1)


def _numbers(column: Column, value: Value) -> tuple[str | None, str | None]:
    """The one or two numbers of a cell, without thousands separators."""
    match value:
        case None | str():
            return None, None
        case Spread():
            value = replace(value, bounds=None)
        case Interval():
            value = replace(value, reason="")
    first, _, second = shown(column, value).replace(",", "").replace("−", "-").partition(" ± ")
    return first.removeprefix("+"), second or None


def to_csv(frame: pd.DataFrame) -> str:
    """RFC 4180 with line feeds; empty for what is not known."""
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts that no spreadsheet takes for a formula."""
    safe = frame.copy(deep=False)
    for name in frame.columns[frame.dtypes == "string"]:
        texts = {text: neutral(text) for text in frame[name].dropna().unique()}
        safe[name] = frame[name].map(texts).astype("string")
    return safe


def neutral(text: str) -> str:
    """One printable line; an apostrophe stands before what a spreadsheet would take for a formula."""
    return FORMULA.sub("'", printable(text))
