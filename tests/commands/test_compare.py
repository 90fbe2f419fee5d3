"""reports/compare.py as a user runs it."""

from pathlib import Path

import pytest

from caltech_exp.config import RunConfig, run_id
from caltech_exp.records import write_record
from caltech_exp.study.results import RESULT
from caltech_exp.study.study import StudySettings
from tests.conftest import Command
from tests.reporting.conftest import SampleStudy, make_result, row_config

FAST = RunConfig(epochs=2, lr=0.05)


def write(runs: Path, config: RunConfig, accuracies: list[float]) -> Path:
    for seed, accuracy in enumerate(accuracies):
        result = make_result(config, seed, accuracy)
        write_record(runs / result.run_id, RESULT, result)
    return runs


def test_compare_prints_the_verdict_first_then_a_line_per_row(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "the first", FAST.but(engine="reference"), [0.40, 0.42, 0.44])
    second = write(tmp_path / "second", FAST, [0.404, 0.423, 0.441])
    config = row_config("scratch.lr", "5e-2")
    write(first, config.but(engine="reference"), [0.5, 0.6])
    write(second, config, [0.5, 0.6])
    done = compare(f"first={first}", f"second={second}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "The two studies agree in 1 of 2 rows (differences of less than 0.005); 1 is inconclusive."
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert table == [
        ["row", "pairs", "first", "second", "difference", "verdict"],
        [
            "scratch.lr=5e-2; scratch.epochs=30",
            "2",
            "0.5500 ± 0.0500",
            "0.5500 ± 0.0500",
            "+0.0000",
            "inconclusive",
        ],
        ["lr=0.05 epochs=2", "3", "0.4200 ± 0.0163", "0.4227 ± 0.0151", "+0.0027 ± 0.0038", "agrees"],
    ]
    assert done.stdout.count("population standard deviation") == 1
    assert "iverged:" not in done.stdout


def test_compare_carries_the_cautions_of_both_studies(compare: Command, tmp_path: Path) -> None:
    first = SampleStudy(tmp_path / "a", StudySettings(overrides={"epochs": 2, "lr": 0.05}))
    first.start(simulated=True)
    second = SampleStudy(tmp_path / "b", StudySettings(overrides={"epochs": 2, "engine": "reference", "lr": 0.05}))
    second.start(simulated=True)
    third = SampleStudy(tmp_path / "c")
    third.start()
    for study in (first, third):
        write(study.path, FAST, [0.4, 0.5, 0.6])
    write(second.path, FAST.but(engine="reference"), [0.4, 0.5, 0.6])
    done = compare(f"first={first.path}", f"second={second.path}")
    assert done.stdout.splitlines()[1:4] == [
        "caution: both studies: Simulated: drawn at random around the reported values, nothing was trained",
        "caution: both studies: Overridden: epochs=2 lr=0.05",
        "",
    ]
    done = compare(f"first={third.path}", f"second={second.path}")
    assert "caution: second: Overridden: epochs=2 lr=0.05\n" in done.stdout


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
    assert done.stdout.startswith(
        "Nothing can be decided: a row needs 3 pairs of finished runs, the most here is 1."
    )


def test_compare_without_a_common_run_is_refused(compare: Command, tmp_path: Path) -> None:
    first = write(tmp_path / "a", FAST, [0.4])
    second = write(tmp_path / "b", FAST.but(lr=0.1), [0.4])
    done = compare(f"first={first}", f"second={second}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "share no completed run on the same data set" in done.stderr


@pytest.mark.parametrize("way", ["same", "../the folder/same", "link"])
def test_compare_refuses_a_folder_and_itself(way: str, compare: Command, tmp_path: Path) -> None:
    write(tmp_path / "the folder" / "same", FAST, [0.4])
    (tmp_path / "the folder" / "link").symlink_to("same")
    done = compare(f"first={tmp_path}/the folder/same", f"second=the folder/{way}")
    assert (done.returncode, done.stdout) == (2, "")
    place = tmp_path / "the folder" / "same"
    assert done.stderr == f"error: first= and second= are the same folder, {place}; give two studies\n"


def test_compare_names_a_missing_folder_and_one_without_a_study(compare: Command, tmp_path: Path) -> None:
    done = compare(f"first={tmp_path / 'nowhere'}", f"second={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no such folder" in done.stderr
    assert compare().stderr.startswith("error: first is missing")
    assert f"{tmp_path} holds no study" in compare(f"first={tmp_path}").stderr
    (tmp_path / "empty").mkdir()
    done = compare(f"first={tmp_path / 'empty'}", f"second={write(tmp_path / 'b', FAST, [0.4])}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{tmp_path / 'empty'} holds no study" in done.stderr
