"""What became of a run, told from its files and, where it is known, from the queue."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caltech_exp.errors import one_line
from caltech_exp.lease import Holder, Sign, read_sign
from caltech_exp.leftovers import newer_record
from caltech_exp.manifest import recorded_log
from caltech_exp.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    Damaged,
    Failure,
    Progress,
    Result,
    read_record,
    read_result,
)

State = Literal["pending", "queued", "running", "finished", "diverged", "failed", "lost", "damaged", "newer"]
DONE: tuple[State, ...] = ("finished", "diverged")


@dataclass(frozen=True)
class InQueue:
    """A run's task in the queue: of which submission, and whether it runs by now or waits."""

    submission: str
    running: bool


@dataclass(frozen=True)
class RunState:
    """The state of a run and, in one line, what else is known of it.

    pending   never submitted, as far as this folder tells
    queued    waiting in the queue, or in a task that has not come to it yet
    running   a process trains it now: it holds the run's lease and shows signs of life
    failed    ended with an error, which `detail` gives and `failure` records; `in_task` while the task in which it
              did so trains its other runs
    lost      was submitted or training, and neither a queue nor a process has it any more
    damaged   its result file cannot be read; counts as missing
    newer     a newer version of caltech_exp has left a record of it; the run is left to that version

    `progress` is that of a run in training, `silent_seconds` the time since its last sign of life; `holder`
    trains it, or did so last, where that is known; `node` is to blame for the run's end, if any node is.
    """

    state: State
    detail: str = ""
    failure: Failure | None = None
    progress: Progress | None = None
    result: Result | None = None
    node: str = ""
    holder: Holder | None = None
    silent_seconds: float | None = None
    in_task: bool = False


def run_state(
    folder: Path,
    queue: Mapping[str, InQueue] | None,
    submitted: bool,
    fingerprint: str | None = None,
    now: float | None = None,
) -> RunState:
    """The state of the run in `folder`.

    queue        run id -> its task, for every run in the queue; None where nobody asked the queue
    submitted    whether some manifest names the run
    fingerprint  of the data set; a result on other data counts as damaged. None takes a result on any
    now          by the file system's clock (files.file_system_time), None for this machine's
    """
    result = read_result(folder)
    if isinstance(result, Result) and fingerprint not in (None, result.data.fingerprint):
        result = Damaged(folder / RESULT, f"is of another data set, {result.data.fingerprint}")
    if isinstance(result, Result):
        return RunState(result.status, result=result)
    sign = read_sign(folder)
    holder = sign.holder if sign else None
    now = time.time() if now is None else now
    progress = read_record(folder / PROGRESS, Progress)
    at = f"epoch {progress.epoch} of {progress.epochs}, {progress.when}" if isinstance(progress, Progress) else ""
    if sign and sign.is_held(now):
        known = progress if isinstance(progress, Progress) else None
        silent = max(0.0, now - sign.beat)
        return RunState(
            "running", _signs_of_life(sign, known, silent), progress=known, silent_seconds=silent, holder=holder
        )
    if newer := newer_record(folder):
        return RunState("newer", f"{newer.path.name}: {newer.reason}", holder=holder)
    task = queue.get(folder.name) if queue is not None else None
    if isinstance(result, Damaged):
        return RunState("queued" if task else "damaged", f"{result.path.name}: {result.reason}")
    failure = read_record(folder / FAILURE, Failure) if task is None or task.running else None
    # In a task that waits, or of another submission, the run has yet to be tried again.
    if isinstance(failure, Failure) and (task is None or failure.submission == task.submission):
        log = recorded_log(folder.parent, failure.submission, failure.log)
        detail = one_line(f"{failure.error} (log: {log})" if log else failure.error)
        node = failure.node if failure.kind == "node" else ""
        return RunState("failed", detail, failure, node=node, in_task=task is not None)
    if task:
        return RunState("queued")
    if isinstance(failure, Damaged):
        return RunState("failed", f"its failure record cannot be read: {failure.reason}")
    if queue is None and at:
        return RunState("queued", f"broken off at {at}; queued again, or lost", holder=holder)
    if queue is not None and (sign or at):
        return RunState("lost", at, holder=holder)
    return untouched_state(folder.name, queue, submitted)


def untouched_state(name: str, queue: Mapping[str, InQueue] | None, submitted: bool) -> RunState:
    """What `run_state` says of a run that has left no file."""
    if queue is None:
        return RunState("queued" if submitted else "pending")
    return RunState("queued" if name in queue else "lost" if submitted else "pending")


def _signs_of_life(sign: Sign, progress: Progress | None, silent: float) -> str:
    """`epoch 3 of 30, 185 images/s, heartbeat 4 s ago, job 1234_5 on gpu07`"""
    words = []
    if progress:
        words.append(f"epoch {progress.epoch} of {progress.epochs}")
        if progress.images_per_second:
            words.append(f"{progress.images_per_second:.0f} images/s")
    words.append(f"heartbeat {silent:.0f} s ago")
    if sign.holder:
        words.append(f"job {sign.holder.job} on {sign.holder.host}")
    return ", ".join(words)
