"""One run: its result, failure, progress and lease."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.config import run_id
from caltech_exp.data.pack_format import PackContents
from caltech_exp.data.packs import Pack, PackStore, load_pack
from caltech_exp.data.splits import read_data_set
from caltech_exp.models.networks import build
from caltech_exp.models.weights import pin
from caltech_exp.provenance import library_versions
from caltech_exp.records import Corrupt, read_record
from caltech_exp.study.lease import REQUEST, Lease, LeaseLostError, ReplacedError, acquire, lease_files, read_lease
from caltech_exp.study.results import FAILURE, PROGRESS, RESULT, Epoch, Failure, Progress, read_result
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.training.checkpoint import CheckpointManager
from caltech_exp.training.device import choose_device
from caltech_exp.training.failures import Interrupted, error_line
from caltech_exp.training.loop import OnEpoch, TrainingResult, train
from caltech_exp.training.run import make_progress, run_one
from tests.conftest import Disk
from tests.tools.archives import sha256
from tests.tools.engines import CPU
from tests.tools.tasks import CONFIG, ORIGIN, finish, task

RESNET18 = CONFIG.but(model="resnet18")


def test_result_holds_what_the_schema_promises(stand_in: Path, tmp_path: Path, packs: PackStore) -> None:
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


def test_seeds_train_differently(stand_in: Path, tmp_path: Path, packs: PackStore) -> None:
    context = task(tmp_path, read_data_set(stand_in), packs)
    assert finish(CONFIG, 0, context).first_loss != finish(CONFIG, 1, context).first_loss


def test_best_epoch_may_be_before_the_last(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def past_its_best(*given: Any, **callbacks: Any) -> TrainingResult:
        trained = train(*given, **callbacks)
        accuracies = zip(trained.epochs, (0.25, 0.75, 0.5), strict=True)
        return replace(trained, epochs=tuple(e.model_copy(update={"val_accuracy": a}) for e, a in accuracies))

    monkeypatch.setattr("caltech_exp.training.run.train", past_its_best)
    result = finish(CONFIG.but(epochs=3), 0, task(tmp_path, read_data_set(stand_in), packs))
    assert (result.val_accuracy, result.best_val_accuracy) == (0.5, 0.75)


def test_result_holds_the_versions_of_its_device(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caltech_exp.training.run.cuda_versions", lambda device: {"cuda": f"of {device.type}"})
    result = finish(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs))
    assert result.libraries == {**library_versions(), "cuda": "of cpu"}


def test_finished_run_is_not_trained_again(stand_in: Path, tmp_path: Path, packs: PackStore) -> None:
    data = read_data_set(stand_in)
    first = run_one(CONFIG, 0, task(tmp_path, data, packs))
    assert run_one(CONFIG, 0, task(tmp_path, data, packs)) == first


def test_process_opens_every_pack_once(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def spy(folder: Path, name: str, contents: PackContents) -> Pack | str:
        pack = load_pack(folder, name, contents)
        opened.extend([contents.split] if isinstance(pack, Pack) else [])
        return pack

    monkeypatch.setattr("caltech_exp.data.packs.load_pack", spy)
    data = read_data_set(stand_in)
    for seed in (0, 1):
        run_one(CONFIG, seed, task(tmp_path / "runs", data, PackStore(tmp_path / "packs")))
    assert opened == ["train", "val", "test"]


def test_diverged_run_has_a_result(stand_in: Path, tmp_path: Path, packs: PackStore) -> None:
    result = finish(CONFIG.but(lr=1e20, batch_size=2), 0, task(tmp_path, read_data_set(stand_in), packs))
    assert result.status == "diverged"
    assert result.val_accuracy is None
    assert result.epochs[0].train_loss is None
    assert read_result(tmp_path / result.run_id) == result


def test_failure_is_recorded_and_cleared_by_the_next_attempt(
    stand_in: Path, tmp_path: Path, packs: PackStore
) -> None:
    data = read_data_set(stand_in)
    broken = RESNET18.but(weights=str(tmp_path / "missing.pth"))
    with pytest.raises(UserError):
        run_one(broken, 0, task(tmp_path, data, packs))
    folder = tmp_path / run_id(broken, 0)
    failure = read_record(folder / FAILURE, Failure)
    assert isinstance(failure, Failure)
    assert "missing.pth cannot be read (No such file or directory); restore the file" in failure.error
    assert (failure.kind, failure.job, failure.log) == ("mistake", "12_3", "/logs/12_3.out")
    assert "Traceback" in failure.traceback
    assert not (folder / PROGRESS).exists()
    torch.save({}, tmp_path / "missing.pth")
    with pytest.raises(UserError, match="hold an empty dict"):
        run_one(broken, 0, task(tmp_path, data, packs))


def test_progress_is_written_in_training(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr("caltech_exp.training.loop.evaluate", killed)
    with pytest.raises(Killed):
        run_one(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs))
    progress = read_record(tmp_path / run_id(CONFIG, 0) / PROGRESS, Progress)
    assert isinstance(progress, Progress)
    assert (progress.epoch, progress.epochs, progress.submission) == (0, 1, ORIGIN.submission)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_progress_of_a_resumed_run_goes_on_with_the_curve_of_its_checkpoint(
    engine: str, stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[Progress] = []
    write_progress = CheckpointManager.write_progress

    def keep(manager: CheckpointManager, progress: Progress) -> None:
        write_progress(manager, progress)
        read = read_record(manager.folder / PROGRESS, Progress)
        assert read == progress
        records.append(progress)
        context.stop_request.requested = len(records) == 3  # the next step saves and ends

    monkeypatch.setattr(CheckpointManager, "write_progress", keep)
    context = task(tmp_path, read_data_set(stand_in), packs)
    config = CONFIG.but(epochs=3, engine=engine)
    with pytest.raises(Interrupted):
        run_one(config, 0, context)
    result = finish(config, 0, context)
    assert [[point.epoch for point in record.curve] for record in records] == [
        [], [1], [1, 2], [1, 2], [1, 2, 3],
    ]  # fmt: skip
    assert [(point.train_loss, point.val_loss, point.val_accuracy) for point in records[-1].curve] == [
        (epoch.train_loss, epoch.val_loss, epoch.val_accuracy) for epoch in result.epochs
    ]


def test_curve_of_many_epochs_is_thinned_out_and_ends_with_the_last() -> None:
    first = Epoch(epoch=1, lr=0.1, train_loss=1.0, val_loss=None, val_accuracy=0.5, seconds=2.0)
    for count in (1, 199, 200, 201, 400, 401, 1_000_000):
        epochs = [first.model_copy(update={"epoch": number}) for number in (1, count)]
        epochs[1:1] = [first] * (count - len(epochs))
        progress = make_progress(CONFIG.but(epochs=count), "r", epochs[:count], 1.0, ORIGIN)
        assert len(progress.curve) == (count if count <= 200 else -(-count // -(-count // 200)))
        assert progress.curve[-1].epoch == count
        assert len(progress.model_dump_json(indent=1)) < 20_000


def test_progress_of_an_older_version_has_no_curve(tmp_path: Path) -> None:
    progress = make_progress(CONFIG, "r", [], None, ORIGIN)
    (tmp_path / PROGRESS).write_text(progress.model_dump_json(exclude={"curve"}))
    assert read_record(tmp_path / PROGRESS, Progress) == progress
    for curve in (
        "[[1, 1.0, 1.0, 1.5]]",
        "[[0, 1.0, 1.0, 0.5]]",
        "[[1e12, 1.0, 1.0, 0.5]]",
        "[[1, 1.0]]",
        "7",
        "{}",
    ):
        (tmp_path / PROGRESS).write_text(progress.model_dump_json().replace('"curve":[]', f'"curve":{curve}'))
        assert isinstance(read_record(tmp_path / PROGRESS, Progress), Corrupt), curve


def test_missing_gpu_is_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
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
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_error_line(error: Exception, line: str) -> None:
    assert error_line(error) == line


def test_seconds_left_ignores_a_slow_first_epoch() -> None:
    epochs = [
        Epoch(epoch=k + 1, lr=0.1, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, seconds=seconds)
        for k, seconds in enumerate((60.0, 2.0, 2.0))
    ]
    assert make_progress(CONFIG.but(epochs=10), "r", epochs, 1.0, ORIGIN).seconds_left == 14.0
    assert make_progress(CONFIG.but(epochs=10), "r", epochs[:1], 1.0, ORIGIN).seconds_left == 540.0
    assert make_progress(CONFIG.but(epochs=10), "r", [], None, ORIGIN).seconds_left is None


def test_run_that_another_process_trains_is_skipped(
    stand_in: Path, tmp_path: Path, packs: PackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data_set(stand_in)
    lease = acquire(tmp_path / run_id(CONFIG, 0), "99_0")
    assert lease is not None
    assert run_one(CONFIG, 0, task(tmp_path, data, packs)) is None
    assert "is skipped: job 99_0 on " in capsys.readouterr().out
    lease.release()
    assert finish(CONFIG, 0, task(tmp_path, data, packs)).attempts == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RESULT, b'{"schema_version": 2}'),
        (CHECKPOINT, b"all else" + b"caltech_exp checkpoint 2 sha256 " + b"0" * 64),
    ],
)
def test_record_of_a_newer_version_is_neither_replaced_nor_removed(
    name: str, content: bytes, stand_in: Path, tmp_path: Path, packs: PackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / run_id(CONFIG, 0)
    folder.mkdir()
    (folder / name).write_bytes(content)
    assert run_one(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs)) is None
    assert f"{folder / name} was made by a newer version of caltech_exp (" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: content}


def test_run_with_a_lost_lease_stops_and_writes_nothing(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(_lease: Lease) -> None:
        raise LeaseLostError("lost")

    monkeypatch.setattr(Lease, "check", lost)
    assert run_one(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs)) is None
    names = {path.name for path in (tmp_path / run_id(CONFIG, 0)).iterdir()}
    assert not {RESULT, FAILURE, CHECKPOINT} & names


def test_full_disk_does_not_stop_training_and_the_result_is_written_later(
    stand_in: Path, small_disk: Disk, packs: PackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_data_set(stand_in)
    context = replace(task(small_disk.path, data, packs), checkpoint_seconds=0.0)
    # ResNet-18's checkpoint takes 90 MB; the result fits into the 1 MB that there is.
    result = finish(RESNET18, 0, context)
    assert "no checkpoint: " in capsys.readouterr().out
    assert [path.name for path in (small_disk.path / result.run_id).iterdir()] == [RESULT]

    small_disk.fill()
    with pytest.raises(OSError, match="No space left"):
        run_one(RESNET18, 1, context)
    assert "failure cannot be recorded" in capsys.readouterr().out
    assert read_result(small_disk.path / result.run_id) == result
    small_disk.change("size=200m")
    assert finish(RESNET18, 1, context).status == "finished"


def test_folder_that_cannot_be_written_raises_oserror(stand_in: Path, small_disk: Disk, packs: PackStore) -> None:
    small_disk.change("ro")
    with pytest.raises(OSError, match="Read-only file system"):
        run_one(CONFIG, 0, task(small_disk.path, read_data_set(stand_in), packs))


def test_result_names_the_loaded_weights(stand_in: Path, tmp_path: Path, packs: PackStore) -> None:
    data, file = read_data_set(stand_in), tmp_path / "net.pth"
    torch.save(build(CONFIG).state_dict(), file)
    config = CONFIG.but(weights=pin(str(file)))
    result = finish(config, 0, task(tmp_path, data, packs))
    assert result.weights_sha256 == sha256(file)
    assert finish(CONFIG, 0, task(tmp_path, data, packs)).weights_sha256 is None
    before = result.model_dump(mode="json", exclude={"weights_sha256"})  # as a version without it wrote it
    (tmp_path / result.run_id / RESULT).write_text(json.dumps(before))
    again = read_result(tmp_path / result.run_id)
    assert again == result.model_copy(update={"weights_sha256": None})


def test_resumed_run_names_the_weights_that_it_began_with(
    stand_in: Path, tmp_path: Path, packs: PackStore
) -> None:
    file = tmp_path / "net.pth"
    torch.save(build(CONFIG).state_dict(), file)
    began = sha256(file)
    context = task(tmp_path, read_data_set(stand_in), packs)
    config = CONFIG.but(weights=str(file))  # as a study of an earlier version names it
    context.stop_request.requested = True
    with pytest.raises(Interrupted):
        run_one(config, 0, context)
    torch.save(build(CONFIG).state_dict(), file)
    assert sha256(file) != began
    assert finish(config, 0, task(tmp_path, read_data_set(stand_in), packs)).weights_sha256 == began


def taken_by_another(folder: Path) -> None:
    """Give the run's lease to another process, as if this one had been suspended."""
    last = lease_files(folder)[-1]
    last.write_text(re.sub('"token": "[0-9a-f]+"', '"token": "another"', last.read_text()))


def test_failure_after_a_lost_lease_is_not_recorded(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / run_id(CONFIG, 0)

    def fails(*_: object, **__: object) -> None:
        taken_by_another(folder)
        raise ValueError("of the one that slept")

    monkeypatch.setattr("caltech_exp.training.run.train", fails)
    assert run_one(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs)) is None
    assert not (folder / FAILURE).exists()
    printed = capsys.readouterr().out
    assert "another process acquired the run; here it failed: ValueError: of the one that slept" in printed
    assert lease_files(folder)[0].stat().st_mtime > 0  # the other's


def test_progress_and_result_after_a_lost_lease_are_not_written(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / run_id(CONFIG, 0)

    def slow(*given: Any, on_epoch: OnEpoch, **_: Any) -> TrainingResult:
        trained = train(*given)
        taken_by_another(folder)
        with pytest.raises(LeaseLostError):
            on_epoch(trained.epochs, None)
        return trained

    monkeypatch.setattr("caltech_exp.training.run.train", slow)
    assert run_one(CONFIG, 0, task(tmp_path, read_data_set(stand_in), packs)) is None
    assert [path.name for path in folder.iterdir()] == ["lease.000001.json"]


def test_checkpoint_after_a_lost_lease_is_not_written(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / run_id(CONFIG, 0)
    on_step = CheckpointManager.on_step

    def asleep(manager: CheckpointManager, state_dict: Callable[[], dict[str, Any]]) -> None:
        taken_by_another(folder)
        on_step(manager, state_dict)

    monkeypatch.setattr(CheckpointManager, "on_step", asleep)
    context = replace(task(tmp_path, read_data_set(stand_in), packs), checkpoint_seconds=0.0)
    assert run_one(CONFIG, 0, context) is None
    assert not {RESULT, FAILURE, CHECKPOINT} & {path.name for path in folder.iterdir()}


def test_run_of_a_restarted_job_is_saved_and_resumed_by_the_new_process(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, longer = read_data_set(stand_in), CONFIG.but(epochs=3, max_images=8)
    whole = finish(longer, 0, task(tmp_path / "undisturbed", data, packs))
    folder = tmp_path / "runs" / whole.run_id
    write_progress = CheckpointManager.write_progress

    def request_lease(manager: CheckpointManager, progress: Progress) -> None:
        lease_info = read_lease(folder)
        assert lease_info is not None
        assert lease_info.owner is not None
        if progress.epoch == 1 and lease_info.number == 1:
            (folder / REQUEST).write_text(lease_info.owner.token)
        write_progress(manager, progress)

    monkeypatch.setattr(CheckpointManager, "write_progress", request_lease)
    context = task(tmp_path / "runs", data, packs)
    with pytest.raises(ReplacedError, match="Slurm has started this job again"):
        run_one(longer, 0, context)
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, PROGRESS, REQUEST, "lease.000001.json"}
    lease_info = read_lease(folder)
    assert lease_info is not None
    assert lease_info.heartbeat == 0  # given back
    result = finish(longer, 0, context)
    assert result.attempts == 2
    assert [(epoch.train_loss, epoch.val_loss) for epoch in result.epochs] == [
        (epoch.train_loss, epoch.val_loss) for epoch in whole.epochs
    ]
    assert [path.name for path in folder.iterdir()] == [RESULT]
