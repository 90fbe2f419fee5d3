"""Tables as files: every digit, nothing that a spreadsheet runs."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.grid import Column, Grid, grid_block, shown
from caltech_exp.reporting.page import make_report, open_gallery
from caltech_exp.reporting.table_files import neutral, to_csv, write_tables
from tests.reporting.conftest import SampleStudy, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")
HOSTILE = '=HYPERLINK("x"), a "b" & 50 % $c_d$ #{e} ~^\\ <f> | g'
COLUMNS = (Column("row", "text"), Column("mean"), Column("± of it", "half", "± of the mean"))
GRID = Grid("a_b", "50 % & more", COLUMNS, ((HOSTILE, 0.123456789, 0.01), ("-1", "diverged", None)))


def lines(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


def test_csv_keeps_every_digit_and_runs_nothing() -> None:
    assert lines(to_csv(GRID)) == [
        ["row", "mean", "± of the mean, half width"],
        [f"'{HOSTILE}", "0.123456789", "0.01"],
        ["'-1", "", ""],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_neutralised(text: str) -> None:
    assert neutral(text)[0] not in "=+-@\t\r"


def test_the_page_shows_the_same_rounded_and_escaped() -> None:
    block = grid_block(GRID)
    assert block.rows[0][1:] == ("0.123", "±0.010")
    assert r"\<f\> \| g" in block.rows[0][0]
    assert block.rows[1][1:] == ("diverged", "–")
    assert block.numbers == (1, 2)


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (1.5, "1.5"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_amounts_keep_three_digits(value: float, text: str) -> None:
    assert shown(Column("hours", "amount"), value) == text


def test_every_table_is_a_file_and_old_ones_go(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.3), make_result(CONFIG, 1, 0.4))
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "tables").mkdir()
    write_tables(out / "tables", out / "index", [replace(GRID, name="old")])
    write_tables(out / "tables", out / "index", make_report(folder.collect(), open_gallery(out), "").grids)
    names = {path.stem for path in (out / "tables").iterdir()}
    assert {f"{s.name}.{t.name}" for s, t in THE_REPORT.select()} <= names
    assert {"agreement", "conclusions", "networks", "cost_by_table", "cost_by_row"} <= names
    assert "old" not in names
    row = next(cells for cells in lines((out / "tables" / "scratch.lr.csv").read_text()) if cells[0] == "1e-2")
    assert float(row[1]) == pytest.approx(0.35)


def test_files_that_would_not_change_are_not_touched(tmp_path: Path) -> None:
    write_tables(tmp_path / "tables", tmp_path / "index", [GRID])
    before = (tmp_path / "tables" / "a_b.csv").stat().st_ino
    write_tables(tmp_path / "tables", tmp_path / "index", [GRID])
    assert (tmp_path / "tables" / "a_b.csv").stat().st_ino == before


def written(folder: Path, *names: str) -> set[str]:
    """Names in the folder of tables after a report with these tables."""
    write_tables(folder / "tables", folder / "index", [replace(GRID, name=name) for name in names])
    return {path.name for path in (folder / "tables").iterdir()}


def test_only_what_an_earlier_report_wrote_is_removed(tmp_path: Path) -> None:
    written(tmp_path, "a", "b")
    (tmp_path / "tables" / "mine.tex").write_text("kept")
    (tmp_path / "tables" / "mine.csv").write_text("kept")
    assert written(tmp_path, "b") == {"b.csv", "b.tex", "mine.csv", "mine.tex"}
    (tmp_path / "tables" / "a.tex").write_text("the reader's own by now")
    assert "a.tex" in written(tmp_path, "b")


@pytest.mark.parametrize("content", ["", "{", "[1]", '["../outside.csv", "b.txt", "c.csv"]'])
def test_a_damaged_index_removes_nothing_else(content: str, tmp_path: Path) -> None:
    written(tmp_path, "a")
    (tmp_path / "outside.csv").write_text("kept")
    (tmp_path / "tables" / "b.txt").write_text("kept")
    (tmp_path / "index").write_text(content)
    assert written(tmp_path, "a") == {"a.csv", "a.tex", "b.txt"}
    assert (tmp_path / "outside.csv").exists()
    assert written(tmp_path) == {"b.txt"}
