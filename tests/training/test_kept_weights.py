"""keep_weights: the weights beside a result are those of its epoch, to the bit, whatever interrupts the run."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import caltech_exp
from caltech_exp.cli import UserError
from caltech_exp.config import PIN, RunConfig, run_id
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.models.networks import build, build_with_weights
from caltech_exp.models.weights import pin
from caltech_exp.provenance import CHECKOUT
from caltech_exp.study.results import FAILURE, WEIGHTS, Keep, Result, read_result
from caltech_exp.submission.preflight import check_weights_files
from caltech_exp.training.checkpoint import read_checkpoint
from caltech_exp.training.loop import TrainingResult, train
from caltech_exp.training.run import run_one
from tests.conftest import Disk
from tests.tools.engines import CPU, TINY
from tests.tools.tasks import CONFIG, finish, task
from tests.training.test_resume import Broken, broken_off

FAST = RunConfig(model=TINY, epochs=3, batch_size=4, max_images=8, workers=0, lr=0.05, precision="fp32")
CONFIGS = [
    pytest.param(FAST, id="fast"),
    pytest.param(FAST.but(engine="reference"), id="reference"),
    pytest.param(FAST.but(model="alexnet", freeze="conv"), id="cached features"),
]


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


def keeping(config: RunConfig, data: DataSet, packs: PackStore, keep: Keep, **options: Any) -> TrainingResult:
    return train(config, 0, data, CPU, packs, keep_weights=keep, **options)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("config", CONFIGS)
def test_best_weights_are_those_after_the_best_epoch(config: RunConfig, data: DataSet, packs: PackStore) -> None:
    best = keeping(config, data, packs, "best")
    last = keeping(config, data, packs, "last")
    assert keeping(config, data, packs, "none").kept_weights is None
    assert best.kept_weights is not None
    assert last.kept_weights is not None
    assert last.kept_weights[0] == 3
    accuracies = [epoch.val_accuracy for epoch in best.epochs]
    epoch, weights = best.kept_weights
    assert epoch == 1 + accuracies.index(max(accuracies))
    assert list(weights) == list(build(config).state_dict())
    shorter = keeping(config.but(epochs=epoch), data, packs, "last")  # the schedule's first step-down is later
    assert shorter.kept_weights is not None
    assert same(weights, shorter.kept_weights[1])


def best_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies of 0.25, 0.75 and 0.5 in place of those of the three epochs."""
    from caltech_exp.training.checkpoint import TrainState

    close = TrainState.close_epoch

    def with_accuracy(state: TrainState, epoch: Any, *given: Any) -> None:
        accuracy = (0.25, 0.75, 0.5)[epoch.epoch - 1]
        close(state, epoch.model_copy(update={"val_accuracy": accuracy}), *given)

    monkeypatch.setattr(TrainState, "close_epoch", with_accuracy)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_kept_weights_survive_an_interruption_to_the_bit(
    keep: Keep, data: DataSet, packs: PackStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best_in_the_middle(monkeypatch)
    calls: list[object] = []
    whole = keeping(FAST, data, packs, keep, on_step=calls.append).kept_weights
    assert whole is not None
    assert whole[0] == (2 if keep == "best" else 3)
    for stop in (1, len(calls) - 2):  # in the first epoch, and after the best
        with pytest.raises(Broken):
            keeping(FAST, data, packs, keep, on_step=broken_off(tmp_path / "c.pt", stop))
        saved = read_checkpoint(tmp_path / "c.pt")
        assert isinstance(saved, dict)
        resumed = keeping(FAST, data, packs, keep, saved=saved).kept_weights
        assert resumed is not None
        assert resumed[0] == whole[0]
        assert same(resumed[1], whole[1])


def test_best_epoch_before_keep_weights_was_given_keeps_nothing(
    data: DataSet, packs: PackStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    best_in_the_middle(monkeypatch)
    calls: list[object] = []
    keeping(FAST, data, packs, "none", on_step=calls.append)
    with pytest.raises(Broken):
        keeping(FAST, data, packs, "none", on_step=broken_off(tmp_path / "c.pt", len(calls) - 2))
    saved = read_checkpoint(tmp_path / "c.pt")
    assert isinstance(saved, dict)
    assert keeping(FAST, data, packs, "best", saved=saved).kept_weights is None
    line = "no weights are kept: epoch 2, the best, was trained without keep_weights=best"
    assert line in capsys.readouterr().out


def test_diverged_run_keeps_no_weights(data: DataSet, packs: PackStore, tmp_path: Path) -> None:
    context = replace(task(tmp_path, data, packs), keep_weights="last")
    result = finish(FAST.but(lr=1e20, batch_size=2), 0, context)
    assert (result.status, result.kept_weights) == ("diverged", None)
    assert not (tmp_path / result.run_id / WEIGHTS).exists()


@pytest.fixture
def trained(data: DataSet, packs: PackStore, tmp_path: Path) -> tuple[Path, Result]:
    context = replace(task(tmp_path / "runs", data, packs), keep_weights="last")
    result = finish(CONFIG.but(lr=0.05), 0, context)
    return tmp_path / "runs" / result.run_id, result


def test_result_has_the_hash_of_the_weights_beside_it(trained: tuple[Path, Result]) -> None:
    folder, result = trained
    assert result.kept_weights is not None
    assert (result.kept_weights.which, result.kept_weights.epoch) == ("last", 1)
    assert result.kept_weights.sha256 == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert sorted(path.name for path in folder.iterdir()) == ["result.json", WEIGHTS]
    assert result.run_id == run_id(CONFIG.but(lr=0.05), 0)  # keep_weights is not part of the identity


def test_equal_weights_make_equal_files(
    trained: tuple[Path, Result], data: DataSet, packs: PackStore, tmp_path: Path
) -> None:
    again = finish(CONFIG.but(lr=0.05), 0, replace(task(tmp_path / "b", data, packs), keep_weights="last"))
    assert again.kept_weights == trained[1].kept_weights


def test_run_without_room_for_its_weights_has_no_result(data: DataSet, packs: PackStore, small_disk: Disk) -> None:
    config = CONFIG.but(model="resnet18")
    with pytest.raises(OSError, match="No space left"):
        run_one(config, 0, replace(task(small_disk.path, data, packs), keep_weights="last"))
    assert read_result(small_disk.path / run_id(config, 0)) is None
    assert (small_disk.path / run_id(config, 0) / FAILURE).exists()


def test_weights_of_an_attempt_without_a_result_are_removed(
    data: DataSet, packs: PackStore, tmp_path: Path
) -> None:
    left = tmp_path / run_id(CONFIG, 0) / WEIGHTS
    left.parent.mkdir()
    left.write_bytes(b"of a killed process")
    assert finish(CONFIG, 0, task(tmp_path, data, packs)).kept_weights is None
    assert not left.exists()


def test_load_run_gives_the_network_in_evaluation_mode(trained: tuple[Path, Result], stand_in: Path) -> None:
    folder, result = trained
    run = caltech_exp.load_run(folder)
    assert run.result == result
    assert run.config == result.config
    assert not run.net.training
    state = torch.load(folder / WEIGHTS, weights_only=True)
    assert same(state, run.net.state_dict())
    page = (CHECKOUT / "docs" / "notebooks.md").read_text()
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "load_run" in text)
    with Image.open(next(stand_in.rglob("*.jpg"))) as image:
        names: dict[str, Any] = {"image": image.convert("RGB")}
    exec(block.replace("runs/ffaa4cfdb4-s0", str(folder)), names)
    assert names["outputs"].shape == (1, 102)


def test_run_that_kept_no_weights_is_named(data: DataSet, packs: PackStore, tmp_path: Path) -> None:
    result = finish(CONFIG, 0, task(tmp_path, data, packs))
    folder = tmp_path / result.run_id
    for call in (caltech_exp.load_run, lambda name: pin(str(name))):
        with pytest.raises(UserError, match="kept no weights; submit it with keep_weights=last to another runs="):
            call(folder)
    with pytest.raises(UserError, match="is a folder without the result of a run"):
        caltech_exp.load_run(tmp_path)


def test_damaged_kept_weights_are_refused(trained: tuple[Path, Result]) -> None:
    folder, _ = trained
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b"x")
    for call in (caltech_exp.load_run, lambda name: pin(str(name))):
        with pytest.raises(UserError, match=r"SHA-256 is .*; restore the right file"):
            call(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match="No such file or directory"):
        caltech_exp.load_run(folder)


@pytest.mark.parametrize("how", ["folder", "id"])
def test_run_starts_from_the_weights_of_another(how: str, trained: tuple[Path, Result]) -> None:
    folder, result = trained
    assert result.kept_weights is not None
    text = pin(str(folder)) if how == "folder" else pin(folder.name, runs=folder.parent)
    assert text == f"{folder / WEIGHTS}{PIN}{result.kept_weights.sha256}"
    config = result.config.but(weights=text, lr=1.0)
    net, initial = build_with_weights(config)
    assert initial is not None
    assert initial.note == ""
    assert same(net.state_dict(), torch.load(folder / WEIGHTS, weights_only=True))
    (line,) = check_weights_files([config], ())
    assert line == (
        f"run {folder.name} was trained with normalization=half, but the runs that start from it have imagenet; "
        "normalization=half would keep its inputs"
    )
    assert check_weights_files([config.but(normalization="half")], ()) == []


def test_run_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such run in .*; give one that is finished"):
        pin("0123456789-s0", runs=tmp_path)
