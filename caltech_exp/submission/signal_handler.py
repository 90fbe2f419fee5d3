"""Signals that end a task. A run in training saves where it is first."""

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
SECONDS_BETWEEN = 5.0
REQUEUE_SECONDS = 60.0
PREEMPTED_TRIES = 3
"""How often Slurm is asked whether this job is preempted. If it does not answer, the task just ends."""
IN_GRACE = re.compile(r"JobState=RUNNING\b.*\bPreemptTime=(?!None\b|Unknown\b)\S", re.DOTALL)
"""In `scontrol show job`: another job is to have this one's place, and this one still runs (GraceTime)."""
JOB_STATE = "JobState="
"""In every answer of `scontrol show job`."""


class Ending:
    """Answers the signals of the batch system for as long as the task lives.

    SIGUSR2 (the time limit, and preemption where the site sends it; submitit's) ends the task and has it queued
    again in place. SIGTERM just ends it (scancel, a machine that goes down), unless it begins the grace time of a
    preempted job: Slurm would queue that again at the end of it, but not if it has ended before. Where
    `stop_request.listening`, the run in training is asked to stop, and whoever runs it calls `now` once it has.
    """

    def __init__(self, stop_request: StopRequest) -> None:
        self.stop_request = stop_request
        self._number: int = signal.SIGTERM
        self._requeue: Callable[[int, FrameType | None], Any] | int | None = signal.getsignal(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, self._asked)
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, number: int, _frame: FrameType | None) -> None:
        if self._number != signal.SIGUSR2:  # the time limit's SIGTERM comes after its SIGUSR2
            self._number = number
        if self.stop_request.listening:
            self.stop_request.requested = True
        else:
            self.now()

    def now(self) -> None:
        """End the task. Raises SystemExit, or submitit's UncompletedJobError where it is not to run again."""
        _let_workers_end()
        if callable(self._requeue) and (self._number == signal.SIGUSR2 or _preempted()):
            self._queue_again(self._requeue)
        sys.exit(ENDED)

    def leave(self) -> None:
        """End the task, which Slurm has started elsewhere: it is not queued again. Raises SystemExit."""
        _let_workers_end()
        sys.exit(ENDED)

    def _queue_again(self, requeue: Callable[[int, FrameType | None], Any]) -> None:
        # submitit's own call of scontrol inherits all of the environment, and takes status 0 for success.
        environment = getattr(getattr(requeue, "__self__", None), "env", None)
        if environment is not None:
            environment._requeue = _requeue
        for _ in range(REQUEUE_TRIES):
            try:
                requeue(signal.SIGUSR2, None)
            except FileNotFoundError:
                print("scontrol is not to be had here: the batch script has the task queued again", flush=True)
                sys.exit(QUEUE_AGAIN)
            except (subprocess.SubprocessError, OSError) as error:  # slurmctld may be away for a moment
                print(f"not queued again yet: {error}", flush=True)
                time.sleep(SECONDS_BETWEEN)


def _let_workers_end() -> None:
    """torch raises an error when a DataLoader worker ends, and all of them end with the task."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _preempted() -> bool:
    """Whether this is a job of Slurm's in its grace time."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":  # one of this machine's may run within a job
        return False
    for left in reversed(range(PREEMPTED_TRIES)):
        try:
            shown = _scontrol("show", "job", _this_job(), seconds=SECONDS_BETWEEN).stdout
        except FileNotFoundError:  # in a container
            return False
        except (OSError, subprocess.SubprocessError):
            shown = ""
        if JOB_STATE in shown:
            return IN_GRACE.search(shown) is not None
        if left:
            time.sleep(SECONDS_BETWEEN / PREEMPTED_TRIES)
    return False


def _requeue(_countdown: int) -> None:
    """Have Slurm queue this task again. Raises OSError or SubprocessError if it does not."""
    done = _scontrol("requeue", _this_job(), seconds=REQUEUE_SECONDS)
    complaint = done.stderr.strip()
    if done.returncode or ERROR.search(complaint):
        raise subprocess.SubprocessError(complaint or f"scontrol ended with status {done.returncode}")


def _scontrol(*words: str, seconds: float) -> "subprocess.CompletedProcess[str]":
    return run_program(["scontrol", *words], seconds, slurm_environment())


def _this_job() -> str:
    """THIS_JOB, as the shell reads it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID", "")
