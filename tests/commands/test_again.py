"""retry=finished: a run trained once more is kept beside its first result, and compared with it to the bit."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.config import RunConfig
from caltech_exp.executors.executor import open_tasks
from caltech_exp.records import write_record
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import Listing
from caltech_exp.reporting.sections.provenance import provenance_blocks
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import (
    RESULT,
    WEIGHTS,
    KeptWeights,
    Result,
    again_folder,
    first_difference,
    read_result,
)
from tests.conftest import Command
from tests.reporting.conftest import make_result
from tests.tools.testbed import until

ROW = "table=scratch.lr=5e-2"
RUN = make_result(RunConfig(epochs=2), 0, 0.5)
NETWORK = Path(__file__).parents[1] / "tools" / "tiny_network.py"


@pytest.fixture
def study(submit: Command, stand_in: Path, tmp_path: Path) -> Callable[..., str]:
    """Run jobs/submit.py in the study and return what it prints."""
    words = (
        *("epochs=2", "batch_size=4", "max_images=4", "workers=0", "precision=fp32", "profile=demo"),
        *(f"model={NETWORK}:tiny", "weights=none", f"data={stand_in}", f"packs={tmp_path / 'packs'}", "runs=runs"),
    )

    def run(*given: str) -> str:
        done = submit(*given, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_finished_runs_are_trained_again_and_compared(
    study: Callable[..., str], status: Command, compare: Command, tmp_path: Path
) -> None:
    study(ROW, "seeds=3", "keep_weights=last", "runs_per_task=3", "wait=true")
    runs = sorted((tmp_path / "runs").glob("*-s[0-9]"))
    before = [((run / RESULT).read_bytes(), (run / WEIGHTS).read_bytes()) for run in runs]
    nothing = compare("first=runs")
    assert nothing.returncode == 2
    assert "no run was trained again; give second=" in nothing.stderr

    text = study(ROW, "seeds=2", "retry=finished", "keep_weights=last", "runs_per_task=2", "wait=true")
    assert "queued scratch.runs: 1 task, 2 runs" in text
    assert "the first results count; the second are kept beside them, and compared to the bit" in text
    assert [((run / RESULT).read_bytes(), (run / WEIGHTS).read_bytes()) for run in runs] == before
    assert [len(list(run.glob(f"again/*/{run.name}/{RESULT}"))) for run in runs] == [1, 1, 0]
    assert "nothing to submit: all 3 runs are finished" in study(ROW)
    folder = StudyFolder(tmp_path / "runs")
    trained, again = folder.manifests()
    submissions = (trained, again, again.model_copy(update={"id": "not-trained-yet"}))
    assert [len(open_tasks(folder, each, folder.past_runs(None))) for each in submissions] == [0, 0, 1]

    key = "scratch.lr=5e-2"
    equal = [f"{run.name}  {key}: equal to the bit, with its weights" for run in runs]
    done = compare("first=runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["2 of 2 runs that were trained again are equal to the bit", *equal[:2]]

    shown = status("runs=runs", f"run={runs[0].name}").stdout
    assert "\nagain     equal to the bit, with its weights\n" in shown
    first = min((tmp_path / "runs" / "submissions").glob("2*"))
    assert f"\nlog       {first}/" in shown
    assert "= " not in shown.partition("as the template: ")[2].partition("\n")[0]  # no setting without a value

    # The second result of seed 0 is not what it was; its third one, without weights, is.
    (second,) = runs[0].glob(f"again/*/*/{RESULT}")
    record = json.loads(second.read_text())
    loss = record["epochs"][0]["train_loss"]
    record["epochs"][0]["train_loss"] = 0.125
    second.write_text(json.dumps(record))
    study(ROW, "seeds=0,", "retry=finished", "wait=true")
    lines = compare("first=runs").stdout.splitlines()
    assert lines[0] == "1 of 2 runs that were trained again are equal to the bit"
    differs = f"differs in epoch 1, train_loss: {loss} and 0.125; equal to the bit"
    assert lines[1:] == [f"{runs[0].name}  {key}: {differs}", equal[1]]
    frames = read_study(tmp_path / "runs")
    assert frames.runs["again"].dropna().tolist() == [differs, "equal to the bit, with its weights"]
    assert frames.results["seed"].tolist() == [0, 1, 2]
    (listing,) = [
        block
        for block in provenance_blocks(frames)
        if isinstance(block, Listing) and block.head.startswith("1 of 2 runs that were trained again")
    ]
    assert len(listing.items) == 2

    # Trainings that were cancelled, or have not begun, are no results.
    for run in runs[1:]:
        again_folder(run, "20990101T000000-abcd").mkdir(parents=True)
    lines = compare("first=runs").stdout.splitlines()
    assert lines[0] == "1 of 2 runs that were trained again are equal to the bit; 1 has no second result yet"
    assert lines[2].endswith(": equal to the bit, with its weights; no second result")
    assert lines[3].endswith(f"{runs[2].name}  {key}: no second result")


def test_runs_are_trained_again_side_by_side(study: Callable[..., str], status: Command, compare: Command) -> None:
    both = (ROW, "seeds=2", "runs_at_once=2", "profile.cpus_per_task=2")
    study(*both, "wait=true")
    study(*both, "retry=finished")
    text = status("runs=runs").stdout  # the task imports torch meanwhile
    (line,) = (line for line in text.splitlines() if line.startswith("trained again: "))
    assert len(re.findall(r"-s[01] \(scratch\.lr=5e-2\) (queued|running, )", line)) == 2
    assert "expected end" not in text
    until(lambda: compare("first=runs").stdout.count("equal to the bit\n") == 3)


def test_again_says_which_runs(submit: Command) -> None:
    for words in ((ROW,), ("section=scratch", "seeds=1"), ("section=scratch",)):
        done = submit(*words, "retry=finished")
        assert done.returncode == 2
        assert "retry=finished trains finished runs once more; say which with table= and seeds=" in done.stderr


def test_runs_without_a_result_are_not_trained_by_retry_finished(study: Callable[..., str]) -> None:
    text = study(ROW, "seeds=1", "retry=finished")
    assert "nothing to submit" in text
    assert "queued" not in text


def changed(**values: object) -> Result:
    return RUN.model_copy(update=values)


@pytest.mark.parametrize(
    ("second", "place"),
    [
        (changed(wall_seconds=7.0, job="other", attempts=3, images_per_second=1.0), ""),
        (changed(first_loss=0.25), f"the loss of the first step: {RUN.first_loss} and 0.25"),
        (changed(epochs=RUN.epochs[:1]), "epoch 2, lr"),
        (changed(test_accuracy=0.1), f"test_accuracy: {RUN.test_accuracy} and 0.1"),
        (changed(val_confusion="0:0*1"), "val_confusion"),
    ],
)
def test_first_difference_is_named(second: Result, place: str) -> None:
    assert first_difference(RUN, second) == place


def test_weights_are_compared_where_both_kept_the_same() -> None:
    first, other, best = (
        KeptWeights(which=which, epoch=2, sha256=digit * 64)
        for which, digit in (("last", "a"), ("last", "b"), ("best", "b"))
    )
    assert first_difference(changed(kept_weights=first), changed(kept_weights=other)) == "the weights"
    assert first_difference(changed(kept_weights=first), changed(kept_weights=best)) == ""
    assert first_difference(changed(kept_weights=first), RUN) == ""


def test_difference_on_another_device_names_both() -> None:
    device = RUN.device.model_copy(update={"name": "another"})
    assert first_difference(RUN, changed(device=device)) == ""
    text = first_difference(RUN, changed(device=device, val_confusion="0:0*1"))
    assert text.startswith(f"val_confusion ({RUN.device.name}, torch ")
    assert "; another, torch " in text


def test_second_result_that_is_missing_is_said(tmp_path: Path) -> None:
    write_record(tmp_path / RUN.run_id, RESULT, RUN)
    folder = again_folder(tmp_path / RUN.run_id, "20260101T000000-abcd")
    folder.mkdir(parents=True)
    assert read_study(tmp_path).runs["again"].dropna().tolist() == ["no second result"]
    write_record(folder, RESULT, RUN)
    assert read_result(folder) == RUN
    assert read_study(tmp_path).runs["again"].dropna().tolist() == ["equal to the bit"]
