"""Signals that end a task. A run in training saves a checkpoint first."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from caltech_exp.child_environment import run_program, slurm_environment
from caltech_exp.executors.sbatch import ENDED, QUEUE_AGAIN
from caltech_exp.executors.slurm_queries import ERROR
from caltech_exp.training.failures import StopRequest

REQUEUE_TRIES = 10
REQUEUE_SECONDS = 60.0
RETRY_SECONDS = 5.0
PREEMPTION_TRIES = 3
# In `scontrol show job`: another job is to replace this one, which still runs (GraceTime).
IN_GRACE_TIME = re.compile(r"JobState=RUNNING\b.*\bPreemptTime=(?!None\b|Unknown\b)\S", re.DOTALL)


class SignalHandler:
    """Answers the signals of the batch system while the task lives.

    SIGUSR2, which Slurm sends before the time limit and some sites at preemption, ends the task and requeues it in
    place. SIGTERM (scancel, a shutdown) only ends it, unless it begins the grace time of a preempted
    job: Slurm requeues such a job after the grace time, but not if it has ended before. While
    `stop_request.listening`, the handler only asks the run to stop, and whoever trains it then calls `end_task`.
    """

    def __init__(self, stop_request: StopRequest) -> None:
        self.stop_request = stop_request
        self._signal: int = signal.SIGTERM
        self._submitit_handler: Callable[[int, FrameType | None], Any] | int | None
        self._submitit_handler = signal.getsignal(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._signal != signal.SIGUSR2:  # the time limit's SIGTERM follows its SIGUSR2
            self._signal = number
        if self.stop_request.listening:
            self.stop_request.requested = True
        else:
            self.end_task()

    def end_task(self) -> None:
        """End the task and requeue it if that is due. Raises SystemExit, or submitit's UncompletedJobError."""
        _ignore_ending_workers()
        if callable(self._submitit_handler) and (self._signal == signal.SIGUSR2 or _is_preempted()):
            self._requeue_by(self._submitit_handler)
        sys.exit(ENDED)

    def abandon_task(self) -> None:
        """End the task without a requeue: Slurm has started it elsewhere. Raises SystemExit."""
        _ignore_ending_workers()
        sys.exit(ENDED)

    def _requeue_by(self, submitit_handler: Callable[[int, FrameType | None], Any]) -> None:
        # submitit's own call of scontrol passes on the whole environment and takes status 0 for success.
        environment = getattr(getattr(submitit_handler, "__self__", None), "env", None)
        if environment is not None:
            environment._requeue = _requeue
        for _ in range(REQUEUE_TRIES):
            try:
                submitit_handler(signal.SIGUSR2, None)
            except FileNotFoundError:
                print("there is no scontrol here: the batch script requeues the task", flush=True)
                sys.exit(QUEUE_AGAIN)
            except (subprocess.SubprocessError, OSError) as error:  # slurmctld may be away for a moment
                print(f"not requeued yet: {error}", flush=True)
                time.sleep(RETRY_SECONDS)


def _ignore_ending_workers() -> None:
    """torch raises an error when a DataLoader worker ends, and all workers end with the task."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _is_preempted() -> bool:
    """Whether this is a Slurm job in its grace time; False if Slurm does not answer."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":  # a task of this machine may run inside a Slurm job
        return False
    for tries_left in reversed(range(PREEMPTION_TRIES)):
        try:
            answer = _scontrol("show", "job", _this_job(), seconds=RETRY_SECONDS).stdout
        except FileNotFoundError:  # in a container
            return False
        except (OSError, subprocess.SubprocessError):
            answer = ""
        if "JobState=" in answer:
            return IN_GRACE_TIME.search(answer) is not None
        if tries_left:
            time.sleep(RETRY_SECONDS / PREEMPTION_TRIES)
    return False


def _requeue(_countdown: int) -> None:
    """Have Slurm requeue this task. Raises OSError or SubprocessError if it does not."""
    done = _scontrol("requeue", _this_job(), seconds=REQUEUE_SECONDS)
    complaint = done.stderr.strip()
    if done.returncode or ERROR.search(complaint):
        raise subprocess.SubprocessError(complaint or f"scontrol ended with status {done.returncode}")


def _scontrol(*words: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    return run_program(["scontrol", *words], seconds, slurm_environment())


def _this_job() -> str:
    """The id of this job, as THIS_JOB in the batch script."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID", "")
