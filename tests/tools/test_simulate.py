"""A study without training: whole, marked, near the reported values, and never over another study."""

from pathlib import Path

import numpy as np
import pytest

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig, run_id
from caltech_exp.reporting.comparison import all_rows, find_row
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.wording import cautions, picture_caution
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Result, decode, read_result
from tests.conftest import Command
from tests.tools.simulate import counts_of, invented_counts, main


@pytest.fixture(scope="module")
def study(simulated: Path) -> StudyFrames:
    return read_study(simulated)


def result(runs: Path, config: RunConfig, seed: int = 0) -> Result:
    found = read_result(runs / run_id(config, seed))
    assert isinstance(found, Result)
    return found


def test_every_run_of_the_report_is_there(study: StudyFrames) -> None:
    states = list(study.runs["state"])
    assert (len(states), states.count("finished"), states.count("diverged")) == (120, 117, 3)
    assert (study.runs["rows"] != "").all()


def test_rows_lie_around_their_reported_values(study: StudyFrames) -> None:
    off = []
    for row in all_rows(study):
        reported, mean = row.reported, row.measured.mean
        if reported and mean is not None:
            off.append((mean - reported.mean) / max(reported.std, 1e-3))
    assert len(off) == 33
    assert max(map(abs, off)) < 4
    assert any(off)


def test_the_row_that_diverges_in_the_report_diverges(study: StudyFrames) -> None:
    row = find_row(study, "transfer.diverging=LR = 5e-2")
    assert list(row.runs["state"]) == ["diverged"] * 3


def test_confusion_matrices_hold_every_image_and_the_accuracy(simulated: Path) -> None:
    for config in (RunConfig(), RunConfig(model="resnet18", batch_size=128, epochs=60, step_size=50, lr=5e-2)):
        one = result(simulated, config)
        for text, share, counts in (
            (one.val_confusion, one.val_accuracy, invented_counts().val),
            (one.test_confusion, one.test_accuracy, invented_counts().test),
        ):
            assert text is not None
            matrix = decode(text)
            assert matrix.sum(axis=1)[:101].tolist() == counts.tolist()
            assert np.trace(matrix) / matrix.sum() == share


def test_learning_rate_steps_and_last_epoch(simulated: Path) -> None:
    one = result(simulated, RunConfig())
    assert [round(epoch.lr, 9) for epoch in one.epochs] == [1e-3] * 20 + [1e-4] * 10
    assert one.epochs[-1].val_accuracy == one.val_accuracy


def test_everything_says_that_it_is_simulated(simulated: Path, study: StudyFrames) -> None:
    assert study.study is not None
    assert study.study.data.simulated
    read = [read_result(folder) for folder in StudyFolder(simulated).run_folders()]
    assert all(isinstance(one, Result) and one.data.simulated for one in read)
    assert "Simulated" in cautions(study)[0].page
    assert picture_caution(study, [RunConfig()]).startswith("Simulated")


def test_one_simulated_result_among_others_is_enough(simulated: Path, tmp_path: Path) -> None:
    name = run_id(RunConfig(), 0)
    (tmp_path / name).symlink_to(simulated / name)
    assert "Simulated" in cautions(read_study(tmp_path))[0].page


def test_the_same_run_is_drawn_the_same(simulated: Path, tmp_path: Path) -> None:
    main([f"out={tmp_path / 'again'}", "seeds=1"])
    assert result(tmp_path / "again", RunConfig()).epochs == result(simulated, RunConfig()).epochs


def test_classes_and_splits_of_a_data_set_on_disk(stand_in: Path) -> None:
    counts = counts_of(stand_in)
    assert (counts.stand_in, len(counts.classes)) == (True, 101)
    lines = (stand_in / "test.txt").read_text().splitlines()
    assert counts.test.sum() == len([line for line in lines if not line.startswith("BACKGROUND")])


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("mine")
    with pytest.raises(UserError, match="is not empty; give a new folder"):
        main([f"out={tmp_path}"])
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_mistakes_are_told_in_one_line(simulate: Command) -> None:
    for words, message in (
        (["seeds=2"], "out is missing"),
        (["out=x", "seeds=0"], "seeds takes a number of seeds"),
    ):
        done = simulate(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
