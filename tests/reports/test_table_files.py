"""Tables and runs as files: every digit, nothing that a spreadsheet runs, nothing that LaTeX stumbles over."""

import csv
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig, run_id
from reports.epoch_file import write_epochs
from reports.grid import Column, Grid, grid_block, shown
from reports.outcome import Outcome, outcome_of
from reports.page import make_report, open_gallery
from reports.table_files import every_outcome, neutral, to_csv, to_latex, write_runs, write_tables
from tests.reports.conftest import StudyFolder, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")
HOSTILE = '=HYPERLINK("x"), a "b" & 50 % $c_d$ #{e} ~^\\ <f> | g'
GRID = Grid("a_b", "50 % & more", (Column("row", "text"), Column("mean"), Column("± of it", "half")), (
    (HOSTILE, 0.123456789, 0.01), ("-1", "diverged", None)))  # fmt: skip


def lines(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


def test_csv_keeps_every_digit_and_runs_nothing() -> None:
    assert lines(to_csv(GRID)) == [
        ["row", "mean", "± of it"],
        [f"'{HOSTILE}", "0.123456789", "0.01"],
        ["'-1", "", ""],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas_are_neutralised(text: str) -> None:
    assert neutral(text)[0] not in "=+-@\t\r"


def test_latex_is_escaped_letter_by_letter() -> None:
    text = to_latex(GRID)
    assert r"\caption{50 \% \& more}" in text
    assert r"\label{tab:a-b}" in text
    body = next(line for line in text.splitlines() if "HYPERLINK" in line)
    for special in (r"\&", r"\%", r"\$c\_d\$", r"\#\{e\}", r"\textasciitilde{}", r"\ensuremath{<}"):
        assert special in body
    assert body.count("&") - body.count(r"\&") == 2
    assert "0.123" in body
    assert "±0.010" in body


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


def test_every_table_is_a_file_and_old_ones_go(folder: StudyFolder, tmp_path: Path) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.3), make_result(CONFIG, 1, 0.4))
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "tables").mkdir()
    (out / "tables" / "old.csv").write_text("")
    write_tables(out / "tables", make_report(folder.collect(), open_gallery(out), "").grids)
    names = {path.stem for path in (out / "tables").iterdir()}
    assert {f"{s.name}.{t.name}" for s, t in THE_REPORT.select()} <= names
    assert {"agreement", "conclusions", "networks", "cost_by_table", "cost_by_row"} <= names
    assert "old" not in names
    row = next(cells for cells in lines((out / "tables" / "scratch.lr.csv").read_text()) if cells[0] == "1e-2")
    assert float(row[1]) == pytest.approx(0.35)


def test_files_that_would_not_change_are_not_touched(tmp_path: Path) -> None:
    write_tables(tmp_path / "tables", [GRID])
    before = (tmp_path / "tables" / "a_b.csv").stat().st_ino
    write_tables(tmp_path / "tables", [GRID])
    assert (tmp_path / "tables" / "a_b.csv").stat().st_ino == before


def test_a_line_per_run_in_any_state(folder: StudyFolder, tmp_path: Path) -> None:
    folder.start()
    folder.submit(*(run_id(CONFIG, seed) for seed in range(4)), seeds=range(4))
    stray = make_result(CONFIG.but(lr=0.3), 0)
    folder.add(make_result(CONFIG, 0, 0.31), make_diverged(CONFIG, 1), stray)
    folder.fail(run_id(CONFIG, 2), "=evil error")
    write_runs(tmp_path / "runs.csv", folder.collect())
    head, *rows = lines((tmp_path / "runs.csv").read_text())
    found = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    states = [found[run_id(CONFIG, seed)]["state"] for seed in range(4)]
    assert states == ["finished", "diverged", "failed", "queued"]
    first, failed = found[run_id(CONFIG, 0)], found[run_id(CONFIG, 2)]
    assert (first["val_accuracy"], first["lr"], first["rows"]) == ("0.31", "0.01", "scratch.lr=1e-2")
    assert (found[run_id(CONFIG, 1)]["val_accuracy"], first["device"]) == ("", "H200")
    assert failed["detail"].startswith("'=evil error")
    assert (found[stray.run_id]["lr"], found[stray.run_id]["rows"]) == ("0.3", "")


def epochs(out: Path, *outcomes: Outcome) -> list[list[str]]:
    write_epochs(out / "epochs.csv", out / "index", outcomes)
    return lines((out / "epochs.csv").read_text())


SHORT = RunConfig(epochs=3)
ONE, TWO, GONE = outcome_of(make_result(SHORT, 0)), outcome_of(make_result(SHORT, 1, 0.7)), outcome_of(
    make_diverged(SHORT, 2))  # fmt: skip


def test_a_line_per_epoch(tmp_path: Path) -> None:
    head, *rows = epochs(tmp_path, ONE, GONE)
    assert head == ["run_id", "epoch", "lr", "train_loss", "val_loss", "val_accuracy", "seconds"]
    assert [row[:2] for row in rows] == [[one.run_id, str(n)] for one in (ONE, GONE) for n in (1, 2, 3)]
    assert rows[0][2:] == ["0.001", "4.6", "4.7", repr(0.5 / 3), "1.0"]
    assert rows[-1][3:5] == ["", ""]


@pytest.mark.parametrize("damage", ["", "file", "index"])
def test_adding_a_run_gives_what_writing_all_gives(tmp_path: Path, damage: str) -> None:
    (tmp_path / "fresh").mkdir()
    expected = epochs(tmp_path / "fresh", TWO, ONE, GONE)
    epochs(tmp_path, ONE, GONE)
    if damage == "file":
        path = tmp_path / "epochs.csv"
        path.write_text(path.read_text().replace("4.6", "9.9"))
    if damage == "index":
        (tmp_path / "index").write_text("{")
    assert epochs(tmp_path, TWO, ONE, GONE) == expected


def test_a_run_that_changed_is_written_anew_and_one_that_went_is_gone(tmp_path: Path) -> None:
    epochs(tmp_path, ONE, TWO)
    other = outcome_of(make_result(SHORT, 0, 0.9))
    assert [row[5] for row in epochs(tmp_path, other)[1:]] == [repr(0.9 * n / 3) for n in (1, 2, 3)]


def test_strays_are_in_the_files_too(folder: StudyFolder) -> None:
    folder.start()
    stray = make_result(CONFIG.but(lr=0.3), 0)
    folder.add(stray, make_result(CONFIG, 0))
    assert stray.run_id in [one.run_id for one in every_outcome(folder.collect())]
