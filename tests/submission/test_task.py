"""The runs of one task: what they share, and whether those after a failure are tried."""

import errno
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig, run_id
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.executors.sbatch import ENDED
from caltech_exp.monitoring.report_job import PREPARATION_END, REPORT_END
from caltech_exp.study.lease import acquire
from caltech_exp.study.results import FAILURE, RESULT
from caltech_exp.submission.signal_handler import SignalHandler
from caltech_exp.submission.tasks import AggregateTask, PackTask, TrainTask
from caltech_exp.training.failures import StopRequest
from caltech_exp.training.run import run_one
from tests.tools.tasks import CONFIG, ORIGIN, task

STICKY = "CUDA error: an illegal memory access was encountered"


@pytest.fixture
def ending() -> Iterator[SignalHandler]:
    numbers = (signal.SIGUSR2, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield SignalHandler(StopRequest())
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def tasks_runs(*runs: tuple[RunConfig, int], folder: Path, data: DataSet, packs: PackStore) -> TrainTask:
    return TrainTask(
        submission=ORIGIN.submission, runs=runs, folder=str(folder), data=str(data.root), data_on_node=None,
        packs=str(packs.shared), packs_on_node=None, fingerprint=data.fingerprint, device="cpu", threads=None,
        torch_home=None, torch_home_here=None, checkpoint_minutes=10.0, log_mb=1.0, code=ORIGIN.code,
    )  # fmt: skip


def files(folder: Path, *runs: tuple[RunConfig, int]) -> list[list[str]]:
    return [sorted(path.name for path in (folder / run_id(*run)).glob("[a-z]*.json")) for run in runs]


def test_data_that_is_not_what_was_submitted_is_refused(stand_in: Path, tmp_path: Path, packs: PackStore) -> None:
    submitted = tasks_runs((CONFIG, 0), folder=tmp_path, data=read_data_set(stand_in), packs=packs)
    assert submitted._read_data().fingerprint == submitted.fingerprint
    with pytest.raises(UserError, match=rf"\(fingerprint {submitted.fingerprint}, not ffffffffffffffff\)"):
        replace(submitted, fingerprint="f" * 16)._read_data()


def test_minutes_between_checkpoints_are_seconds_to_its_runs(
    stand_in: Path, tmp_path: Path, packs: PackStore
) -> None:
    submitted = tasks_runs((CONFIG, 0), folder=tmp_path, data=read_data_set(stand_in), packs=packs)
    context = replace(submitted, checkpoint_minutes=2.5)._context(ORIGIN, StopRequest(), submitted._read_data())
    assert context.checkpoint_seconds == 150


def test_a_run_that_fails_does_not_keep_the_next_from_training(
    ending: SignalHandler, stand_in: Path, tmp_path: Path, packs: PackStore
) -> None:
    data, bad, good = read_data_set(stand_in), (CONFIG.but(weights=str(tmp_path / "none.pth")), 0), (CONFIG, 0)
    both = tasks_runs(bad, good, folder=tmp_path, data=data, packs=packs)
    with pytest.raises(RuntimeError, match=f"1 of 2 runs failed: {run_id(*bad)}$"):
        both._train(task(tmp_path, data, packs), ending)
    failed, finished = files(tmp_path, bad, good)
    assert FAILURE in failed
    assert finished == [RESULT]


def test_runs_after_one_that_broke_the_gpu_stay_without_a_record(
    ending: SignalHandler, stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caltech_exp.training.device.why_broken", lambda _device: STICKY)
    data, good = read_data_set(stand_in), (CONFIG, 0)
    bad = (CONFIG.but(weights=str(tmp_path / "none.pth")), 0)
    three = tasks_runs(good, bad, (CONFIG, 1), folder=tmp_path, data=data, packs=packs)
    with pytest.raises(
        RuntimeError, match=rf"any more \({STICKY}\) since run {run_id(*bad)} failed; 1 of 3 runs "
    ):
        three._train(task(tmp_path, data, packs), ending)
    finished, failed, untouched = files(tmp_path, good, bad, (CONFIG, 1))
    assert finished == [RESULT]
    assert FAILURE in failed
    assert untouched == []


def test_a_task_that_slurm_started_elsewhere_ends_and_is_not_queued_again(
    stand_in: Path, tmp_path: Path, packs: PackStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    calls: list[object] = []
    before = [signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD)]
    try:
        signal.signal(
            signal.SIGUSR2, lambda *given: calls.append(given)
        )  # submitit's: it has the task queued again
        data, two = read_data_set(stand_in), ((CONFIG, 0), (CONFIG, 1))
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        new = acquire(tmp_path / run_id(CONFIG, 0), ORIGIN.job)
        assert new is not None
        monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
        with pytest.raises(SystemExit) as caught:
            tasks_runs(*two, folder=tmp_path, data=data, packs=packs)._train(
                task(tmp_path, data, packs), SignalHandler(StopRequest())
            )
    finally:
        for number, handler in zip((signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD), before, strict=True):
            signal.signal(number, handler)
    assert (caught.value.code, calls) == (ENDED, [])
    assert f"run {run_id(CONFIG, 0)}: Slurm has restarted job {ORIGIN.job}, on " in capsys.readouterr().out
    assert not (tmp_path / run_id(CONFIG, 1)).exists()
    new.release()


def test_a_task_that_fails_before_training_records_it_for_runs_that_nobody_else_has(
    local_job: Path, stand_in: Path, packs: PackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    data, runs = read_data_set(stand_in), local_job / "runs"
    finished, trained, died, free = ((CONFIG, seed) for seed in range(4))
    assert run_one(*finished, task(runs, data, packs))
    elsewhere = acquire(runs / run_id(*trained), "99_0")
    assert elsewhere is not None
    former = acquire(runs / run_id(*died), "98_0")
    assert former is not None
    former.release()
    given = tasks_runs(finished, trained, died, free, folder=runs, data=data, packs=packs)
    with pytest.raises(UserError, match="no data"):
        replace(given, data=str(local_job / "no data"))()
    assert files(runs, finished, trained, died, free) == [
        [RESULT], ["lease.000001.json"], [FAILURE, "lease.000001.json", "lease.000002.json"],
        [FAILURE, "lease.000001.json"],
    ]  # fmt: skip
    assert f"run {run_id(*trained)} is skipped: another process trains it" in capsys.readouterr().out
    elsewhere.confirm()
    elsewhere.release()
    # Those that failed are free for the next task.
    assert run_one(*free, task(runs, data, packs))


@pytest.fixture
def local_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: SignalHandler) -> Path:
    """A folder of a submission, and an environment as submitit's on this machine."""
    assert ending
    for name, value in (("EXECUTOR", "local"), ("LOCAL_JOB_ID", "77"), ("FOLDER", str(tmp_path))):
        monkeypatch.setenv(f"SUBMITIT_{name}", value)
    return tmp_path


def test_a_report_whose_process_cannot_be_started_says_why(
    local_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        AggregateTask(str(local_job), str(local_job / "report"), str(local_job), 1.0)()
    record = json.loads((local_job / REPORT_END).read_text())
    assert (record["status"], record["job"]) == ("failed", "77")
    assert record["reason"] == "OSError: [Errno 12] Cannot allocate memory"


def test_a_job_that_cannot_decode_images_says_why(local_job: Path) -> None:
    with pytest.raises(UserError):
        PackTask(str(local_job / "no data"), str(local_job), (), 1.0, str(local_job))()
    record = json.loads((local_job / PREPARATION_END).read_text())
    assert (record["status"], record["job"]) == ("failed", "77")
    assert "no data" in record["reason"]
