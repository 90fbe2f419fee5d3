"""Signals that end a task: when it is queued again, and by whom. On a real Slurm: test_slurm_faults."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from submitit.core import job_environment
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJobEnvironment

from caltech_exp.executors.sbatch import ENDED, QUEUE_AGAIN, THIS_JOB, sbatch_parameters
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.submission import signal_handler
from caltech_exp.submission.signal_handler import SignalHandler
from caltech_exp.training.failures import StopRequest
from tests.tools.testbed import path_with


class _Again:
    """A task that may be queued again, as TrainTask."""

    def __call__(self) -> None:
        raise NotImplementedError

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


JOB = "JobId=7 JobName=x\n   JobState={} Reason=None\n   PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime={}\n"


@pytest.fixture
def signals() -> Iterator[None]:
    """What the process does on signals, as before the test."""
    numbers = (signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def end(number: int, requeue: Callable[..., Any]) -> int | str | None:
    """The exit status of a task of submitit's, with its handler `requeue`, that gets signal `number`."""
    signal.signal(signal.SIGUSR2, requeue)
    SignalHandler(StopRequest())
    with pytest.raises(SystemExit) as caught:
        os.kill(os.getpid(), number)
    return caught.value.code


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("number", "state", "when", "executor", "again"),
    [
        (signal.SIGUSR2, "RUNNING", "None", "slurm", True),
        (signal.SIGTERM, "RUNNING", "None", "slurm", False),
        (signal.SIGTERM, "CANCELLED", "None", "slurm", False),
        (signal.SIGTERM, "RUNNING", "2026-01-01T00:00:00", "slurm", True),
        (signal.SIGTERM, "CANCELLED", "2026-01-01T00:00:00", "slurm", False),
        (signal.SIGTERM, "RUNNING", "2026-01-01T00:00:00", "local", False),
    ],
)
def test_who_is_queued_again(
    number: int, state: str, when: str, executor: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job").write_text(JOB.format(state, when))
    monkeypatch.setenv("PATH", path_with(tmp_path, "scontrol", f'[ "$*" = "show job 7" ] && cat {tmp_path}/job'))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    calls: list[object] = []

    def requeue(number: int, _frame: object) -> None:
        calls.append(number)
        raise SystemExit(255)

    assert end(number, requeue) == (255 if again else ENDED)
    assert calls == ([signal.SIGUSR2] if again else [])


@pytest.mark.usefixtures("signals")
def test_the_time_limits_sigterm_after_its_sigusr2_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def requeue(_number: int, _frame: object) -> None:
        raise SystemExit(255)

    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)  # not preempted
    signal.signal(signal.SIGUSR2, requeue)
    asked = SignalHandler(StopRequest(listening=True))
    for number in (signal.SIGUSR2, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert asked.stop_request.requested
    with pytest.raises(SystemExit) as caught:
        asked.end_task()
    assert caught.value.code == 255


@pytest.mark.parametrize(
    ("array", "own"), [({}, "7"), ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}, "7_3")]
)
def test_a_task_of_an_array_asks_about_itself_and_not_about_all(
    array: dict[str, str], own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job").write_text(JOB.format("RUNNING", "2026-01-01T00:00:00"))
    stub = f'[ "$*" = "show job {own}" ] && cat {tmp_path}/job'
    monkeypatch.setenv("PATH", path_with(tmp_path, "scontrol", stub))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"SLURM_JOB_ID": "7", **array}.items():
        monkeypatch.setenv(name, value)
    assert signal_handler._is_preempted()
    told = subprocess.run(["bash", "-c", f"echo {THIS_JOB}"], capture_output=True, text=True, check=True).stdout
    assert told == f"{own}\n"


def test_a_controller_that_does_not_answer_at_first_is_asked_again_about_preemption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job").write_text(JOB.format("RUNNING", "2026-01-01T00:00:00"))
    monkeypatch.setattr(signal_handler, "RETRY_SECONDS", 1.0)
    stub = (
        f"if [ ! -e {tmp_path}/asked ]; then touch {tmp_path}/asked; "
        f"echo 'slurm_load_jobs error: Socket timed out' >&2; exit 0; fi; cat {tmp_path}/job"
    )
    monkeypatch.setenv("PATH", path_with(tmp_path, "scontrol", stub))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert signal_handler._is_preempted()


@pytest.mark.usefixtures("signals")
def test_a_requeue_that_fails_with_status_0_is_tried_again_without_the_users_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_handler, "RETRY_SECONDS", 0.01)
    asked = tmp_path / "asked"
    stub = (
        f'echo "$* $SCONTROL_ALL" >>{asked}; '
        f"if [ $(wc -l <{asked}) = 1 ]; then echo 'Socket timed out on send/recv operation' >&2; fi"
    )
    monkeypatch.setenv("PATH", path_with(tmp_path, "scontrol", stub))
    for name, value in {"SLURM_JOB_ID": "7", "SCONTROL_ALL": "1", "SUBMITIT_EXECUTOR": "slurm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    task = DelayedSubmission(_Again())
    task.set_timeout(60, 3)
    paths = JobPaths(tmp_path, "7")
    handler = job_environment.SignalHandler(SlurmJobEnvironment(), paths, task)
    assert end(signal.SIGUSR2, handler.checkpoint_and_try_requeue) == -1
    assert asked.read_text() == "requeue 7 \nrequeue 7 \n"
    assert paths.submitted_pickle.exists()


@pytest.mark.usefixtures("signals")
def test_a_task_that_has_no_scontrol_leaves_it_to_the_batch_script(capsys: pytest.CaptureFixture[str]) -> None:
    def requeue(_number: int, _frame: object) -> None:
        raise FileNotFoundError("scontrol")

    assert end(signal.SIGUSR2, requeue) == QUEUE_AGAIN
    assert "the batch script requeues the task" in capsys.readouterr().out


@pytest.mark.usefixtures("signals")
def test_a_controller_that_is_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_handler, "RETRY_SECONDS", 0.01)
    answers = iter([subprocess.CalledProcessError(1, "scontrol"), PermissionError(), SystemExit(255)])

    def requeue(_number: int, _frame: object) -> None:
        raise next(answers)

    assert end(signal.SIGUSR2, requeue) == 255


@pytest.mark.parametrize("first", ["true", "set -euo pipefail"])
@pytest.mark.parametrize(
    ("setup", "status", "printed"),
    [
        ([], QUEUE_AGAIN, "requeued 7\n"),
        ([], 3, ""),
        (["trap 'echo clean $?' EXIT"], 3, "clean 3\n"),
        (["trap 'echo clean $?' EXIT"], QUEUE_AGAIN, f"clean {QUEUE_AGAIN}\nrequeued 7\n"),
        (
            ["trap 'echo gone' EXIT", "trap 'echo \"it'\\''s $?\"; exit 0' EXIT"],
            QUEUE_AGAIN,
            "it's 75\nrequeued 7\n",
        ),
        (["clean() { echo clean; false; return 9; }", "trap clean EXIT"], 3, "clean\n"),
        (["trap 'echo clean' EXIT", "trap 'echo told' TERM"], 3, "clean\n"),
        (["trap 'echo clean' EXIT", "trap - EXIT"], QUEUE_AGAIN, "requeued 7\n"),
    ],
)
def test_a_trap_of_the_users_runs_before_the_task_is_queued_again(
    setup: list[str], status: int, printed: str, first: str, tmp_path: Path
) -> None:
    done = run_batch_script([first, *setup], f"exit {status}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, printed, "")


@pytest.mark.parametrize(
    ("setup", "printed"),
    [
        (["trap 'echo clean' EXIT"], "saved\nclean\n"),
        (["trap 'echo clean' EXIT", "trap 'echo told' TERM"], "saved\ntold\nclean\n"),
    ],
)
def test_a_trap_of_the_users_waits_for_a_task_that_saves_where_it_is(
    setup: list[str], printed: str, tmp_path: Path
) -> None:
    done = run_batch_script(setup, "bash -c 'kill -TERM $PPID; sleep 0.5; echo saved; exit 143'", tmp_path)
    assert (done.returncode, done.stdout) == (ENDED, printed)


def run_batch_script(setup: list[str], command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The setup lines of a profile and the suite's, then a command in place of srun."""
    lines = sbatch_parameters("name", SlurmProfile(executor="slurm", device="cpu", setup=tuple(setup)))["setup"]
    path = path_with(folder, "scontrol", '[ "$1" = requeue ] && echo requeued $2')
    return subprocess.run(
        ["bash", "-c", "\n".join([*lines, command])],
        env={"PATH": path, "SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
