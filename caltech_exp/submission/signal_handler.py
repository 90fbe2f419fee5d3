"""What ends a task early: signals, before which a run in training saves a checkpoint, and too many failed runs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from caltech_exp.child_environment import run_program, slurm_environment
from caltech_exp.cli import UserError
from caltech_exp.executors.executor import executor_named
from caltech_exp.executors.sbatch import ENDED, QUEUE_AGAIN
from caltech_exp.executors.slurm_queries import ERROR
from caltech_exp.files import make_folder, names_in, remove
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import record_cancelled
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
    With `may_requeue` False, in a process that a task has started for a run, both signals only end it.
    """

    def __init__(self, stop_request: StopRequest, *, may_requeue: bool = True) -> None:
        self.stop_request = stop_request
        self._signal: int = signal.SIGTERM
        self._submitit_handler: Callable[[int, FrameType | None], Any] | int | None
        self._submitit_handler = signal.getsignal(signal.SIGUSR2) if may_requeue else signal.SIG_IGN
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
        if self._submitit_handler == signal.SIG_IGN:
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the task's process and Slurm may both send it
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


@dataclass(frozen=True)
class Failures:
    """The failed runs of a submission, a file each in its folder `failed`; `most` of them end it (0: any number).

    No process has to live for it: whoever is about to start a run, or has seen one fail, looks at the folder.
    """

    folder: StudyFolder
    submission: str
    most: int

    @property
    def _marks(self) -> Path:
        return self.folder.submission(self.submission) / "failed"

    def add(self, run: str) -> None:
        if self.most:
            with contextlib.suppress(OSError):  # a full disk: one failure is not counted
                make_folder(self._marks)
                (self._marks / run).touch()

    def remove(self, run: str) -> None:
        """A run that failed before has a result."""
        if self.most:
            with contextlib.suppress(OSError):
                remove(self._marks / run)

    def end_submission(self, task: Sequence[str] = ()) -> str:
        """Why no further run may start, after cancelling the submission's queued tasks; empty if runs may start.

        task  the runs of this process's task, if none of them trains: those without a result count as cancelled
        """
        try:
            count = len(names_in(self._marks)) if self.most else 0
        except FileNotFoundError:
            count = 0
        if not self.most or count < self.most:
            return ""
        reason = f"{count} {'run' if count == 1 else 'runs'} of the submission failed (max_failures={self.most})"
        try:
            manifest = next(each for each in self.folder.manifests() if each.id == self.submission)
            executor = executor_named(manifest.executor)
            jobs = executor.queued(self.folder, [manifest])
            waiting = [job for job in jobs if job.part == "training" and job.job.state == "queued"]
            if waiting:
                executor.cancel(self.folder, waiting)
                print(f"{reason}: {len(waiting)} queued tasks are cancelled", flush=True)
            own = [job.job for job in manifest.tasks if list(job.runs) == list(task)]
            cancelled = [*own, *(job.job.id for job in waiting)]
            record_cancelled(self.folder.submission(self.submission), cancelled, reason)
        except (UserError, OSError, StopIteration) as error:
            print(f"{reason}; queued tasks are not cancelled ({error}), each ends when it starts", flush=True)
        return reason
