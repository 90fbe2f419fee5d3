"""epochs.csv: a line per run and epoch."""

import csv
from pathlib import Path

from caltech_exp.config import RunConfig
from caltech_exp.reporting.epoch_file import write_epochs
from caltech_exp.reporting.outcome import Outcome, outcome_of
from tests.reporting.conftest import make_diverged, make_result

SHORT = RunConfig(epochs=3)
ONE, TWO, GONE = outcome_of(make_result(SHORT, 0)), outcome_of(make_result(SHORT, 1, 0.7)), outcome_of(
    make_diverged(SHORT, 2))  # fmt: skip


def epochs(out: Path, *outcomes: Outcome) -> list[list[str]]:
    write_epochs(out / "epochs.csv", out / "index", outcomes)
    return list(csv.reader((out / "epochs.csv").read_text().splitlines()))


def test_a_line_per_epoch(tmp_path: Path) -> None:
    head, *rows = epochs(tmp_path, ONE, GONE)
    assert head == ["run_id", "epoch", "lr", "train_loss", "val_loss", "val_accuracy", "seconds"]
    assert [row[:2] for row in rows] == [[one.run_id, str(n)] for one in (ONE, GONE) for n in (1, 2, 3)]
    assert rows[0][2:] == ["0.001", "4.6", "4.7", repr(0.5 / 3), "1.0"]
    assert rows[-1][3:5] == ["", ""]


def test_adding_a_run_gives_what_writing_all_gives(tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    epochs(tmp_path, ONE, GONE)
    assert epochs(tmp_path, TWO, ONE, GONE) == epochs(tmp_path / "fresh", TWO, ONE, GONE)


def test_a_run_that_changed_is_written_anew_and_one_that_went_is_gone(tmp_path: Path) -> None:
    epochs(tmp_path, ONE, TWO)
    other = outcome_of(make_result(SHORT, 0, 0.9))
    assert [row[5] for row in epochs(tmp_path, other)[1:]] == [repr(0.9 * n / 3) for n in (1, 2, 3)]
