"""runs.csv: a line per run in any state, copied where nothing about the run has changed."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from caltech_exp.config import run_id
from caltech_exp.reporting.run_file import HEADINGS, ORIGIN, WRITERS, every_outcome, write_runs
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")


def lines(folder: SampleStudy, out: Path) -> dict[str, dict[str, str]]:
    """Run id -> cells by heading, of the file that is written to `out`."""
    write_runs(out / "runs.csv", out / "index", folder.collect())
    head, *rows = csv.reader((out / "runs.csv").read_text().splitlines())
    assert tuple(head) == HEADINGS
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.fixture
def study(folder: SampleStudy) -> SampleStudy:
    """A finished, a diverged, a failed and a queued run of a row, and a stray."""
    folder.start()
    folder.submit(*(run_id(CONFIG, seed) for seed in range(4)), seeds=range(4))
    folder.add(make_result(CONFIG, 0, 0.31), make_diverged(CONFIG, 1), make_result(CONFIG.but(lr=0.3), 0))
    folder.fail(run_id(CONFIG, 2), "=evil error")
    return folder


def test_no_two_columns_have_one_name() -> None:
    assert len(set(HEADINGS)) == len(HEADINGS)


def test_a_line_per_run_in_any_state(study: SampleStudy, tmp_path: Path) -> None:
    found = lines(study, tmp_path)
    states = [found[run_id(CONFIG, seed)]["state"] for seed in range(4)]
    assert states == ["finished", "diverged", "failed", "queued"]
    first, failed, stray = (
        found[name] for name in (run_id(CONFIG, 0), run_id(CONFIG, 2), run_id(CONFIG.but(lr=0.3), 0))
    )
    assert (first["val_accuracy"], first["lr"], first["rows"]) == ("0.31", "0.01", "scratch.lr=1e-2")
    assert (found[run_id(CONFIG, 1)]["val_accuracy"], first["device"]) == ("", "H200")
    assert failed["detail"].startswith("'=evil error")
    assert (stray["lr"], stray["rows"]) == ("0.3", "")


def test_where_a_run_comes_from_stands_under_its_heading(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start()
    one = make_result(CONFIG, 0, 0.31)
    data = one.data.model_copy(update={"simulated": True})
    folder.add(one.model_copy(update={"data": data}))
    line = lines(folder, tmp_path)[one.run_id]
    assert {name: line[name] for name in ORIGIN} == {
        "device": "H200", "device_type": "cuda", "code": str(one.code), "torch": "2.8", "simulated": "true",
        "stand_in": "false",
    }  # fmt: skip


def test_what_has_changed_is_written_as_if_all_were(study: SampleStudy, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    lines(study, tmp_path)
    study.add(make_result(CONFIG, 0, 0.7), make_result(CONFIG, 2, 0.5))  # a replaced result, a run tried again
    study.fail(run_id(CONFIG, 3), "another error")
    assert lines(study, tmp_path) == lines(study, fresh)
    assert lines(study, tmp_path)[run_id(CONFIG, 0)]["val_accuracy"] == "0.7"


def test_a_file_that_would_not_change_is_not_touched(study: SampleStudy, tmp_path: Path) -> None:
    lines(study, tmp_path)
    before = (tmp_path / "runs.csv").stat().st_ino
    lines(study, tmp_path)
    assert (tmp_path / "runs.csv").stat().st_ino == before


def test_strays_have_epochs_too(folder: SampleStudy) -> None:
    folder.start()
    stray = make_result(CONFIG.but(lr=0.3), 0)
    folder.add(stray, make_result(CONFIG, 0))
    assert stray.run_id in [one.run_id for one in every_outcome(folder.collect())]


@pytest.mark.parametrize("module", ["recall", "outcome"])
def test_other_code_writes_all_anew(module: str) -> None:
    assert any(Path(file).name == f"{module}.py" for file in WRITERS)
    assert any(Path(file).name == "results.py" for file in WRITERS)


def test_a_balanced_accuracy_that_is_computed_otherwise_is_shown(study: SampleStudy, tmp_path: Path) -> None:
    lines(study, tmp_path)
    collected = study.collect()
    first = collected.all_runs()[0]
    assert first.result is not None
    other = replace(first, result=first.result._replace(balanced_accuracy=0.125))
    key = next(key for key, rows in collected.rows.items() if any(first in row.runs for row in rows))
    rows = tuple(
        replace(row, runs=tuple(other if run is first else run for run in row.runs)) for row in collected.rows[key]
    )
    write_runs(tmp_path / "runs.csv", tmp_path / "index", replace(collected, rows={**collected.rows, key: rows}))
    head, *cells = csv.reader((tmp_path / "runs.csv").read_text().splitlines())
    line = next(dict(zip(head, row, strict=True)) for row in cells if row[0] == first.id)
    assert line["balanced_accuracy"] == "0.125"
