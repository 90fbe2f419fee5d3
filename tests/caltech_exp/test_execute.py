"""How a run ends is always on record."""

from pathlib import Path

import pytest
import torch

from caltech_exp.config import RunConfig, run_id
from caltech_exp.devices import choose_device
from caltech_exp.errors import UserError
from caltech_exp.execute import TaskContext, execute
from caltech_exp.failures import one_line
from caltech_exp.pack import Contents, Pack, load_pack
from caltech_exp.packs import PackPlace
from caltech_exp.provenance import Origin, code_version
from caltech_exp.results import FAILURE, PROGRESS, RESULT, Failure, Progress, Result, read_record, read_result
from caltech_exp.splits import DataSet, read_data_set

CPU = torch.device("cpu")
ORIGIN = Origin("20260101T000000-abcd", "12_3", "/logs/12_3.out", code_version())
CONFIG = RunConfig(model="resnet18", epochs=1, batch_size=4, max_images=4, workers=0)


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
    broken = CONFIG.but(weights=str(tmp_path / "missing.pth"))
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
