"""How a run ends is always on record."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.checkpoint import read_checkpoint, write_checkpoint
from caltech_exp.config import RunConfig, run_id
from caltech_exp.devices import choose_device
from caltech_exp.errors import UserError
from caltech_exp.execute import TaskContext, _progress, execute
from caltech_exp.failures import one_line
from caltech_exp.interruption import Interrupted, Requests
from caltech_exp.lease import Lease, LeaseLostError, read_sign, take
from caltech_exp.leftovers import CHECKPOINT
from caltech_exp.pack import Pack, load_pack
from caltech_exp.pack_index import Contents
from caltech_exp.packs import PackPlace
from caltech_exp.parts import Batch, Parts
from caltech_exp.provenance import Origin, code_version
from caltech_exp.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    Epoch,
    Failure,
    Progress,
    Result,
    read_record,
    read_result,
)
from caltech_exp.splits import DataSet, read_data_set
from caltech_exp.train import train_step
from tests.caltech_exp.engines import TINY
from tests.conftest import Disk

CPU = torch.device("cpu")
ORIGIN = Origin("20260101T000000-abcd", "12_3", "/logs/12_3.out", code_version())
CONFIG = RunConfig(model=TINY, epochs=1, batch_size=4, max_images=4, workers=0, precision="fp32")
RESNET18 = CONFIG.but(model="resnet18")


def task(runs: Path, data: DataSet, packs: PackPlace) -> TaskContext:
    return TaskContext(runs, data, CPU, packs, ORIGIN)


def finish(config: RunConfig, seed: int, context: TaskContext) -> Result:
    result = execute(config, seed, context)
    assert result is not None
    return result


def test_a_result_holds_what_the_schema_promises(stand_in: Path, tmp_path: Path, packs: PackPlace) -> None:
    data = read_data_set(stand_in)
    result = finish(CONFIG, 7, task(tmp_path, data, packs))
    folder = tmp_path / run_id(CONFIG, 7)
    assert read_result(folder) == result
    assert (result.schema_version, result.seed, result.config, result.status) == (1, 7, CONFIG, "finished")
    assert result.val_accuracy == result.epochs[-1].val_accuracy
    assert result.data.stand_in
    assert result.data.fingerprint == data.fingerprint
    assert result.libraries["torch"] == torch.__version__.partition("+")[0]
    assert (result.job, result.code) == ("12_3", ORIGIN.code)
    assert result.device.type == "cpu"
    assert [file.name for file in folder.iterdir()] == [RESULT]


def test_a_finished_run_is_not_trained_again(stand_in: Path, tmp_path: Path, packs: PackPlace) -> None:
    data = read_data_set(stand_in)
    first = execute(CONFIG, 0, task(tmp_path, data, packs))
    assert execute(CONFIG, 0, task(tmp_path, data, packs)) == first


def test_runs_of_one_process_open_every_pack_once(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def spy(folder: Path, name: str, contents: Contents) -> Pack | str:
        pack = load_pack(folder, name, contents)
        opened.extend([contents.split] if isinstance(pack, Pack) else [])
        return pack

    monkeypatch.setattr("caltech_exp.packs.load_pack", spy)
    data = read_data_set(stand_in)
    for seed in (0, 1):
        execute(CONFIG, seed, task(tmp_path / "runs", data, PackPlace(tmp_path / "packs")))
    assert opened == ["train", "val", "test"]


def test_a_diverged_run_is_a_result(stand_in: Path, tmp_path: Path, packs: PackPlace) -> None:
    result = finish(CONFIG.but(lr=1e20, batch_size=2), 0, task(tmp_path, read_data_set(stand_in), packs))
    assert result.status == "diverged"
    assert result.val_accuracy is None
    assert result.epochs[0].train_loss is None
    assert read_result(tmp_path / result.run_id) == result


def test_a_failure_is_recorded_and_cleared_by_the_next_try(
    stand_in: Path, tmp_path: Path, packs: PackPlace
) -> None:
    data = read_data_set(stand_in)
    broken = RESNET18.but(weights=str(tmp_path / "missing.pth"))
    with pytest.raises(UserError):
        execute(broken, 0, task(tmp_path, data, packs))
    folder = tmp_path / run_id(broken, 0)
    failure = read_record(folder / FAILURE, Failure)
    assert isinstance(failure, Failure)
    assert "there is no such file" in failure.error
    assert (failure.kind, failure.job, failure.log) == ("mistake", "12_3", "/logs/12_3.out")
    assert "Traceback" in failure.traceback
    assert not (folder / PROGRESS).exists()
    torch.save({}, tmp_path / "missing.pth")
    with pytest.raises(UserError, match="do not fit resnet18"):
        execute(broken, 0, task(tmp_path, data, packs))


def test_progress_stands_beside_a_run_in_training(
    stand_in: Path, tmp_path: Path, packs: PackPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr("caltech_exp.train.evaluate", killed)
    with pytest.raises(Killed):
        execute(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs))
    progress = read_record(tmp_path / run_id(CONFIG, 0) / PROGRESS, Progress)
    assert isinstance(progress, Progress)
    assert (progress.epoch, progress.epochs, progress.submission) == (0, 1, ORIGIN.submission)


def test_a_gpu_that_is_not_there_is_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="asked for a GPU and finds none; check gpus_per_node or gres"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("one line"), "one line"),
        (
            UserError(
                "Caught UserError in worker 0.\nTraceback:\n  x\ncaltech_exp.errors.UserError: damaged image"
            ),
            "damaged image",
        ),
        (ValueError("first\nsecond"), "ValueError: second"),
        (RuntimeError(), "RuntimeError: "),
    ],
)
def test_errors_in_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line


def stop_after(calls: int, requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the run to stop after that many steps, as a signal would."""
    steps = itertools.count(1)
    step = train_step

    def counted(parts: Parts, batch: Batch) -> torch.Tensor:
        requests.stop = next(steps) >= calls
        return step(parts, batch)

    monkeypatch.setattr("caltech_exp.train.train_step", counted)


LONGER = CONFIG.but(epochs=3, max_images=8)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_where_it_was(
    stand_in: Path, tmp_path: Path, packs: PackPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data_set(stand_in)
    whole = finish(LONGER, 0, task(tmp_path / "undisturbed", data, packs))
    requests = Requests()
    stop_after(3, requests, monkeypatch)
    context = replace(task(tmp_path / "runs", data, packs), requests=requests)
    with pytest.raises(Interrupted):
        execute(LONGER, 0, context)
    folder = tmp_path / "runs" / whole.run_id
    assert (folder / CHECKPOINT).exists()
    assert not (folder / FAILURE).exists()
    assert not requests.heard
    sign = read_sign(folder)
    assert sign is not None
    assert sign.beat == 0  # given back

    stop_after(1000, requests, monkeypatch)
    result = finish(LONGER, 0, context)
    assert result.attempts == 2
    assert bits(result) == bits(whole)
    assert [path.name for path in folder.iterdir()] == [RESULT]


def bits(result: Result) -> dict[str, Any]:
    """What no disturbance may change."""
    changing = {"job", "host", "started", "wall_seconds", "attempts", "images_per_second", "peak_memory_bytes"}
    kept = result.model_dump(exclude={*changing, "energy_joules", "code"})
    return {**kept, "epochs": [{**epoch, "seconds": 0} for epoch in kept["epochs"]]}


def test_requests_are_heard_from_the_first_step_on(
    stand_in: Path, tmp_path: Path, packs: PackPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, requests = read_data_set(stand_in), Requests()
    context = replace(task(tmp_path, data, packs), requests=requests)
    heard: list[bool] = []
    steps = itertools.count(1)

    def noted(parts: Parts, batch: Batch) -> torch.Tensor:
        heard.append(requests.heard)
        requests.stop = next(steps) == 3
        return train_step(parts, batch)

    monkeypatch.setattr("caltech_exp.train.train_step", noted)
    with pytest.raises(Interrupted):
        execute(LONGER, 0, context)
    assert heard == [False, True, True]
    finish(LONGER, 0, context)
    assert heard[3:] == [False, True, True]  # a run that goes on has a first step too
    assert not requests.heard


def test_the_time_that_is_left_does_not_go_by_a_slow_first_epoch() -> None:
    epochs = [
        Epoch(epoch=k + 1, lr=0.1, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, seconds=seconds)
        for k, seconds in enumerate((60.0, 2.0, 2.0))
    ]
    assert _progress(CONFIG.but(epochs=10), "r", epochs, 1.0, ORIGIN).seconds_left == 14.0
    assert _progress(CONFIG.but(epochs=10), "r", epochs[:1], 1.0, ORIGIN).seconds_left == 540.0
    assert _progress(CONFIG.but(epochs=10), "r", [], None, ORIGIN).seconds_left is None


def test_checkpoints_come_as_often_as_asked(
    stand_in: Path, tmp_path: Path, packs: PackPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data_set(stand_in)
    finish(CONFIG, 0, replace(task(tmp_path / "often", data, packs), checkpoint_seconds=0.0))
    assert capsys.readouterr().out.count("checkpoint written") == 3  # a step, validation, test
    finish(CONFIG, 0, replace(task(tmp_path / "rarely", data, packs), checkpoint_seconds=3600.0))
    assert "checkpoint written" not in capsys.readouterr().out


@pytest.mark.parametrize("what", ["damaged", "of another device", "of other data", "compiled"])
def test_a_checkpoint_that_does_not_belong_is_told_and_not_used(
    what: str, stand_in: Path, tmp_path: Path, packs: PackPlace, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = read_data_set(stand_in)
    requests = Requests()
    stop_after(1, requests, monkeypatch)
    context = replace(task(tmp_path, data, packs), requests=requests)
    with pytest.raises(Interrupted):
        execute(LONGER, 0, context)
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
        }
        write_checkpoint(path, {**state, "kin": {**state["kin"], **changed[what]}})
    stop_after(1000, requests, monkeypatch)
    result = finish(LONGER, 0, context)
    assert "checkpoint.pt is not used: " in capsys.readouterr().out
    assert len(result.epochs) == 3
    assert not path.exists()


def test_a_checkpoint_tells_whether_the_run_is_compiled(
    stand_in: Path, tmp_path: Path, packs: PackPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests()
    stop_after(1, requests, monkeypatch)
    monkeypatch.setattr("caltech_exp.execute.is_compiled", lambda *_: True)
    with pytest.raises(Interrupted):
        execute(LONGER, 0, replace(task(tmp_path, read_data_set(stand_in), packs), requests=requests))
    state = read_checkpoint(tmp_path / run_id(LONGER, 0) / CHECKPOINT)
    assert isinstance(state, dict)
    assert state["kin"]["compiled"] is True


def test_a_run_that_another_process_trains_is_left_to_it(
    stand_in: Path, tmp_path: Path, packs: PackPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data_set(stand_in)
    lease = take(tmp_path / run_id(CONFIG, 0), "99_0")
    assert lease is not None
    assert execute(CONFIG, 0, task(tmp_path, data, packs)) is None
    assert "left to job 99_0 on " in capsys.readouterr().out
    lease.release()
    assert finish(CONFIG, 0, task(tmp_path, data, packs)).attempts == 2


def test_a_run_whose_lease_is_lost_stops_and_writes_nothing(
    stand_in: Path, tmp_path: Path, packs: PackPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_lease: Lease) -> None:
        raise LeaseLostError("lost")

    monkeypatch.setattr(Lease, "check", lost)
    assert execute(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs)) is None
    names = {path.name for path in (tmp_path / run_id(CONFIG, 0)).iterdir()}
    assert not {RESULT, FAILURE, CHECKPOINT} & names


def test_on_a_full_disk_training_goes_on_and_the_result_can_be_had_later(
    stand_in: Path, small_disk: Disk, packs: PackPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data_set(stand_in)
    context = replace(task(small_disk.path, data, packs), checkpoint_seconds=0.0)
    # ResNet-18's checkpoint takes 90 MB; the result fits into the 1 MB that there is.
    result = finish(RESNET18, 0, context)
    assert "no checkpoint: " in capsys.readouterr().out
    assert [path.name for path in (small_disk.path / result.run_id).iterdir()] == [RESULT]

    small_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        execute(RESNET18, 1, context)
    assert "cannot be written down" in capsys.readouterr().out
    assert read_result(small_disk.path / result.run_id) == result
    small_disk.change("size=200m")
    assert finish(RESNET18, 1, context).status == "finished"


def test_a_folder_that_cannot_be_written_is_told(stand_in: Path, small_disk: Disk, packs: PackPlace) -> None:
    small_disk.change("ro")
    with pytest.raises(OSError, match="Read-only file system"):
        execute(CONFIG, 0, task(small_disk.path, read_data_set(stand_in), packs))
