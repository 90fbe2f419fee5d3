"""A run that is asked to stop leaves a checkpoint and resumes from it, if it belongs to the run."""

import errno
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.config import run_id
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import read_data_set
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import read_record
from caltech_exp.study.lease import read_lease
from caltech_exp.study.results import FAILURE, RESULT, Failure, Result
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.training.checkpoint import read_checkpoint, write_checkpoint
from caltech_exp.training.engine import Batch, TrainingSetup
from caltech_exp.training.failures import Interrupted, StopRequest
from caltech_exp.training.loop import train_step
from caltech_exp.training.run import run_one
from tests.tools.tasks import CONFIG, ORIGIN, finish, task

LONGER = CONFIG.but(epochs=3, max_images=8)


def stop_after(calls: int, stop_request: StopRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the run to stop after so many steps, as a signal would."""
    steps = itertools.count(1)
    step = train_step

    def counted(setup: TrainingSetup, batch: Batch) -> torch.Tensor:
        stop_request.requested = next(steps) >= calls
        return step(setup, batch)

    monkeypatch.setattr("caltech_exp.training.loop.train_step", counted)


def test_stopped_run_saves_and_resumes_to_the_bit(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data_set(stand_in)
    whole = finish(LONGER, 0, task(tmp_path / "undisturbed", data, packs))
    stop_request = StopRequest()
    stop_after(3, stop_request, monkeypatch)
    context = replace(task(tmp_path / "runs", data, packs), stop_request=stop_request)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    folder = tmp_path / "runs" / whole.run_id
    assert (folder / CHECKPOINT).exists()
    assert not (folder / FAILURE).exists()
    assert not stop_request.listening
    lease_info = read_lease(folder)
    assert lease_info is not None
    assert lease_info.heartbeat == 0  # given back

    stop_after(1000, stop_request, monkeypatch)
    result = finish(LONGER, 0, context)
    assert result.attempts == 2
    assert bits(result) == bits(whole)
    assert [path.name for path in folder.iterdir()] == [RESULT]


def bits(result: Result) -> dict[str, Any]:
    """The fields that an interruption may not change."""
    changing = {"job", "host", "started", "wall_seconds", "attempts", "images_per_second", "peak_memory_bytes"}
    fields = result.model_dump(exclude={*changing, "energy_joules", "code"})
    return {**fields, "epochs": [{**epoch, "seconds": 0} for epoch in fields["epochs"]]}


def test_elapsed_adds_earlier_attempts(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = itertools.count(0, 10)  # joules, ten more at each reading
    monkeypatch.setattr("caltech_exp.training.run.energy_joules", lambda _device: float(next(counter)))
    stop_request = StopRequest()
    stop_after(1, stop_request, monkeypatch)
    context = replace(task(tmp_path, read_data_set(stand_in), packs), stop_request=stop_request)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    path = tmp_path / run_id(LONGER, 0) / CHECKPOINT
    state = read_checkpoint(path)
    assert isinstance(state, dict)
    assert state["energy_joules"] == 10
    write_checkpoint(
        path, {**state, "wall_seconds": 1000.0, "energy_joules": 500.0, "started": "2026-01-01T12:00:00Z"}
    )
    stop_after(1000, stop_request, monkeypatch)
    result = finish(LONGER, 0, context)
    assert 1000 < result.wall_seconds < 1100
    assert result.energy_joules == 510
    assert result.started == "2026-01-01T12:00:00Z"


def test_run_listens_from_its_first_step(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, stop_request = read_data_set(stand_in), StopRequest()
    context = replace(task(tmp_path, data, packs), stop_request=stop_request)
    listening: list[bool] = []
    steps = itertools.count(1)

    def noted(setup: TrainingSetup, batch: Batch) -> torch.Tensor:
        listening.append(stop_request.listening)
        stop_request.requested = next(steps) == 3
        return train_step(setup, batch)

    monkeypatch.setattr("caltech_exp.training.loop.train_step", noted)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    assert listening == [False, True, True]
    finish(LONGER, 0, context)
    assert listening[3:] == [False, True, True]  # a resumed run has a first step too
    assert not stop_request.listening


def test_checkpoints_are_written_at_the_interval(
    stand_in: Path, tmp_path: Path, packs: PackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data_set(stand_in)
    finish(CONFIG, 0, replace(task(tmp_path / "often", data, packs), checkpoint_seconds=0.0))
    assert capsys.readouterr().out.count("checkpoint written") == 3  # a step, validation, test
    finish(CONFIG, 0, replace(task(tmp_path / "rarely", data, packs), checkpoint_seconds=3600.0))
    assert "checkpoint written" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "what", ["damaged", "of another device", "of other data", "compiled", "other layers frozen"]
)
def test_incompatible_checkpoint_is_not_used_and_the_log_says_why(
    what: str, stand_in: Path, tmp_path: Path, packs: PackStore, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = read_data_set(stand_in)
    stop_request = StopRequest()
    stop_after(1, stop_request, monkeypatch)
    context = replace(task(tmp_path, data, packs), stop_request=stop_request)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    path = tmp_path / run_id(LONGER, 0) / CHECKPOINT
    state = read_checkpoint(path)
    assert isinstance(state, dict)
    if what == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        changed: dict[str, dict[str, Any]] = {
            "of another device": {"device": {"type": "cuda", "name": "H200"}},
            "of other data": {"data": "f" * 16},
            "compiled": {"compiled": True},
            "other layers frozen": {"own_freezing": None},  # as in earlier checkpoints
        }
        write_checkpoint(path, {**state, "kin": {**state["kin"], **changed[what]}})
    stop_after(1000, stop_request, monkeypatch)
    result = finish(LONGER, 0, context)
    assert "checkpoint.pt is not used: " in capsys.readouterr().out
    assert len(result.epochs) == 3
    assert not path.exists()


KEYS = (
    "kin", "started", "wall_seconds", "energy_joules", "net", "optimizer", "scheduler", "random", "epoch_random",
    "epochs", "losses", "epoch_seconds", "training_seconds", "trained_images", "first_loss", "confusion",
)  # fmt: skip


def test_checkpoint_that_lacks_a_part_is_not_used_and_the_log_says_which(
    stand_in: Path, tmp_path: Path, packs: PackStore, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, stop_request, short = read_data_set(stand_in), StopRequest(), LONGER.but(epochs=1)
    whole = finish(short, 0, task(tmp_path / "undisturbed", data, packs))
    context = replace(task(tmp_path / "runs", data, packs), stop_request=stop_request)
    stop_after(1, stop_request, monkeypatch)
    with pytest.raises(Interrupted):
        run_one(short, 0, context)
    stop_after(1000, stop_request, monkeypatch)
    folder = tmp_path / "runs" / whole.run_id
    state = read_checkpoint(folder / CHECKPOINT)
    assert isinstance(state, dict)
    assert {*KEYS, "codes", "weights_sha256"} == state.keys()  # these two may be missing
    layer = next(iter(state["net"]))
    damages: dict[str, dict[str, Any]] = {
        f"it lacks '{key}'": {name: value for name, value in state.items() if name != key} for key in KEYS
    }
    damages |= {
        "it lacks 'python'": {**state, "random": {}},
        "RuntimeError: ": {
            **state,
            "epoch_random": {**state["epoch_random"], "torch": torch.zeros(1).byte()},
        },
        "RuntimeError: Error(s) in loading": {**state, "net": {**state["net"], layer: torch.zeros(1)}},
        "AttributeError: 'str' object": {**state, "losses": "none"},
        "TypeError: ": {**state, "wall_seconds": None},
        "ValueError: ": {**state, "kin": "mine"},
        "ValidationError: ": {**state, "epochs": [{"epoch": -1}]},
    }
    for reason, damaged in damages.items():
        (folder / RESULT).unlink(missing_ok=True)
        write_checkpoint(folder / CHECKPOINT, damaged)
        assert bits(finish(short, 0, context)) == bits(whole), reason
        assert f"{folder / CHECKPOINT} is not used: {reason}" in capsys.readouterr().out


def test_folder_in_the_place_of_a_checkpoint_is_named(
    stand_in: Path, tmp_path: Path, packs: PackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    context = replace(task(tmp_path, read_data_set(stand_in), packs), checkpoint_seconds=0.0)
    path = tmp_path / run_id(CONFIG, 0) / CHECKPOINT
    path.mkdir(parents=True)
    assert finish(CONFIG, 0, context).status == "finished"
    printed = capsys.readouterr().out
    assert f"{path} is not used: it is a folder; remove it, or the run saves no checkpoint" in printed
    assert f"no checkpoint: {path}: Is a directory" in printed


def test_unreadable_checkpoint_stays_for_the_next_attempt(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_request = StopRequest()
    context = replace(task(tmp_path, read_data_set(stand_in), packs), stop_request=stop_request)
    stop_after(1, stop_request, monkeypatch)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    folder = tmp_path / run_id(LONGER, 0)
    saved = (folder / CHECKPOINT).read_bytes()
    stop_request.requested = False

    def unreadable(_path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("caltech_exp.training.checkpoint.read_checkpoint", unreadable)
        with pytest.raises(OSError, match="Input/output error"):
            run_one(LONGER, 0, replace(context, checkpoint_seconds=0.0))
    assert (folder / CHECKPOINT).read_bytes() == saved
    failure = read_record(folder / FAILURE, Failure)
    assert isinstance(failure, Failure)
    assert failure.kind == "node"
    stop_after(1000, stop_request, monkeypatch)
    assert finish(LONGER, 0, context).attempts == 3


def test_result_names_all_code_that_trained_the_run(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stop_request = StopRequest()
    context = replace(task(tmp_path, read_data_set(stand_in), packs), stop_request=stop_request)
    codes = [ORIGIN.code.model_copy(update={"commit": digit * 40, "dirty": False}) for digit in "123"]
    for code in (codes[0], codes[1], codes[1]):
        stop_after(1, stop_request, monkeypatch)
        with pytest.raises(Interrupted):
            run_one(LONGER, 0, replace(context, origin=replace(ORIGIN, code=code)))
    stop_after(1000, stop_request, monkeypatch)
    stop_request.requested = False
    capsys.readouterr()
    result = finish(LONGER, 0, replace(context, origin=replace(ORIGIN, code=codes[2])))
    assert (result.code, result.earlier_code) == (codes[2], (codes[0], codes[1]))
    assert f"began with other code, {codes[0]}, {codes[1]}; this is {codes[2]}" in capsys.readouterr().out


def test_result_of_one_code_names_no_earlier_code(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    stop_request = StopRequest()
    context = replace(task(tmp_path, read_data_set(stand_in), packs), stop_request=stop_request)
    stop_after(1, stop_request, monkeypatch)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    stop_after(1000, stop_request, monkeypatch)
    assert finish(LONGER, 0, context).earlier_code == ()
    assert "other code" not in capsys.readouterr().out


def test_checkpoint_without_code_history_names_its_version(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_request = StopRequest()
    context = replace(task(tmp_path, read_data_set(stand_in), packs), stop_request=stop_request)
    stop_after(1, stop_request, monkeypatch)
    with pytest.raises(Interrupted):
        run_one(LONGER, 0, context)
    path = tmp_path / run_id(LONGER, 0) / CHECKPOINT
    state = read_checkpoint(path)
    assert isinstance(state, dict)
    del state["codes"]
    write_checkpoint(path, state)
    stop_after(1000, stop_request, monkeypatch)
    result = finish(LONGER, 0, context)
    assert result.earlier_code == (CodeVersion(version="0.1.0", commit=None, dirty=None),)
    assert result.attempts == 2
