"""reports/compare.py as a user runs it."""

from pathlib import Path

from caltech_exp.config import RunConfig, run_id
from caltech_exp.records import write_record
from caltech_exp.study.results import RESULT
from tests.conftest import Command
from tests.reporting.conftest import make_diverged, make_result

FAST = RunConfig(epochs=2, lr=0.05)


def write(runs: Path, config: RunConfig, accuracies: list[float]) -> Path:
    for seed, accuracy in enumerate(accuracies):
        result = make_result(config, seed, accuracy)
        write_record(runs / result.run_id, RESULT, result)
    return runs


def test_compare_prints_a_line_per_configuration(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "the first", FAST.but(engine="reference"), [0.40, 0.42, 0.44])
    second = write(tmp_path / "second", FAST, [0.41, 0.43, 0.45])
    done = compare(f"first={first}", f"second={second}")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "lr=0.05" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "lr=0.05 epochs=2",
        "3",
        "0 + 0",
        "0.4200 ± 0.0200",
        "0.4300 ± 0.0200",
        "0.0100 ± 0.0000",
        "0.250",
    ]
    assert "exact up to n = 20." in done.stdout
    assert "iverged:" not in done.stdout


def test_compare_explains_many_and_diverged_pairs(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "first", FAST.but(engine="reference"), [0.40] * 23)
    second = write(tmp_path / "second", FAST, [0.41] * 22)
    write_record(second / run_id(FAST, 22), RESULT, make_diverged(FAST, 22, 1))
    done = compare(f"first={first}", f"second={second}")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if "lr=0.05" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][1:3] == ["22", "0 + 1"]
    assert "above that from 100,000 random flips, (1 + as extreme) / (1 + 100,000)." in done.stdout
    assert "Diverged: runs of first and of second; their pairs do not count elsewhere." in done.stdout


def test_compare_refuses_two_versions_of_a_run_in_one_line(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "first", FAST.but(engine="reference"), [0.40, 0.42])
    write(first, FAST, [0.40, 0.42])
    done = compare(f"first={first}", f"second={write(tmp_path / 'second', FAST, [0.4])}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: first= holds 2 versions of one run")


def test_compare_names_and_skips_damaged_results(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "first", FAST.but(engine="reference"), [0.40, 0.42, 0.44])
    second = write(tmp_path / "second", FAST, [0.41, 0.43, 0.45])
    broken = second / run_id(FAST, 1) / RESULT
    broken.write_text(broken.read_text()[:-20])
    newer = second / run_id(FAST, 2) / RESULT
    newer.write_text(newer.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    done = compare(f"first={first}", f"second={second}")
    assert done.returncode == 0
    first_line, second_line = sorted(done.stderr.splitlines(), key=lambda line: str(newer) in line)
    assert first_line.startswith(f"skipped: {broken} is damaged (it is not whole JSON")
    made = "made by a newer version of caltech_exp (schema 2); this version reads 1; update"
    assert second_line == f"skipped: {newer} was {made}"
    (line,) = (line for line in done.stdout.splitlines() if "lr=0.05" in line)
    assert line.split("|")[2].strip() == "1"


def test_compare_without_a_common_run_is_refused(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "a", FAST, [0.4])
    second = write(tmp_path / "b", FAST.but(lr=0.1), [0.4])
    done = compare(f"first={first}", f"second={second}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "share no completed run on the same data set" in done.stderr


def test_compare_names_a_missing_folder(compare: Command, tmp_path: Path) -> None:
    done = compare(f"first={tmp_path / 'nowhere'}", f"second={tmp_path}")
    assert done.returncode == 2
    assert "there is no such folder" in done.stderr
    assert compare(f"first={tmp_path}").stderr.startswith("error: second is missing")
