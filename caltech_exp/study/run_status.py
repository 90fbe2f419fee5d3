"""What became of a run, from its files and the queue, and which of its files may be removed."""

import contextlib
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from caltech_exp.cli import one_line
from caltech_exp.files import names_in, remove
from caltech_exp.records import SCHEMA_VERSION, Corrupt, newer, read_record
from caltech_exp.study.lease import REQUEST, LeaseInfo, Owner, lease_files, read_lease
from caltech_exp.study.manifest import recorded_log
from caltech_exp.study.results import FAILURE, PROGRESS, RESULT, Failure, Progress, Result, read_result

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
    holder: Owner | None = None
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
        result = Corrupt(folder / RESULT, f"is of another data set, {result.data.fingerprint}")
    if isinstance(result, Result):
        return RunState(result.status, result=result)
    lease_info = read_lease(folder)
    holder = lease_info.owner if lease_info else None
    now = time.time() if now is None else now
    progress = read_record(folder / PROGRESS, Progress)
    at = f"epoch {progress.epoch} of {progress.epochs}, {progress.when}" if isinstance(progress, Progress) else ""
    if lease_info and lease_info.is_held(now):
        known = progress if isinstance(progress, Progress) else None
        silent = max(0.0, now - lease_info.heartbeat)
        return RunState(
            "running",
            _signs_of_life(lease_info, known, silent),
            progress=known,
            silent_seconds=silent,
            holder=holder,
        )
    if newer := newer_record(folder):
        return RunState("newer", f"{newer.path.name}: {newer.reason}", holder=holder)
    task = queue.get(folder.name) if queue is not None else None
    if isinstance(result, Corrupt):
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
    if isinstance(failure, Corrupt):
        return RunState("failed", f"its failure record cannot be read: {failure.reason}")
    if queue is None and at:
        return RunState("queued", f"broken off at {at}; queued again, or lost", holder=holder)
    if queue is not None and (lease_info or at):
        return RunState("lost", at, holder=holder)
    return untouched_state(folder.name, queue, submitted)


def untouched_state(name: str, queue: Mapping[str, InQueue] | None, submitted: bool) -> RunState:
    """What `run_state` says of a run that has left no file."""
    if queue is None:
        return RunState("queued" if submitted else "pending")
    return RunState("queued" if name in queue else "lost" if submitted else "pending")


def _signs_of_life(lease_info: LeaseInfo, progress: Progress | None, silent: float) -> str:
    """`epoch 3 of 30, 185 images/s, heartbeat 4 s ago, job 1234_5 on gpu07`"""
    words = []
    if progress:
        words.append(f"epoch {progress.epoch} of {progress.epochs}")
        if progress.images_per_second:
            words.append(f"{progress.images_per_second:.0f} images/s")
    words.append(f"heartbeat {silent:.0f} s ago")
    if lease_info.owner:
        words.append(f"job {lease_info.owner.job} on {lease_info.owner.host}")
    return ", ".join(words)


CHECKPOINT = "checkpoint.pt"
CHECKPOINT_MARK = re.compile(rb"caltech_exp checkpoint (\d{1,9}) sha256 [0-9a-f]{64}")
"""What a checkpoint of any version ends with (checkpoint.MARK)."""
LONGEST_MARK = 128


def newer_record(folder: Path) -> Corrupt | None:
    """A record of a newer version in a run's folder, None if there is none.

    Such a run is neither trained nor recorded as failed: what the newer version knows of it would be lost.
    """
    for name, kind in ((RESULT, Result), (FAILURE, Failure), (PROGRESS, Progress)):
        found = read_record(folder / name, kind)
        if isinstance(found, Corrupt) and found.is_newer:
            return found
    with contextlib.suppress(OSError):  # whoever takes the run finds out why
        for path in (path for path in lease_files(folder)[-1:] if stat.S_ISREG(path.lstat().st_mode)):
            holder = read_record(path, Owner)
            if isinstance(holder, Corrupt) and holder.is_newer:
                return holder
    version = _checkpoint_version(folder / CHECKPOINT)
    return newer(folder / CHECKPOINT, f"checkpoint {version}") if version > SCHEMA_VERSION else None


def _checkpoint_version(path: Path) -> int:
    """0 where there is no checkpoint, or only a part of one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST_MARK))
            end = file.read()
    except OSError:  # whoever trains the run finds out why
        return 0
    mark = CHECKPOINT_MARK.search(end)
    return int(mark[1]) if mark and mark.end() == len(end) else 0


def remove_half_written(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. Only for who holds the run's lease."""
    for name in names_in(folder):
        if fnmatch(name, ".*.*"):
            remove(folder / name)


def remove_after_result(folder: Path) -> None:
    """Remove what a run with a result no longer needs: checkpoint, progress, an earlier try's failure, leases.

    What cannot be removed stays; the run is finished. The next process that finds the result tries again.
    """
    with contextlib.suppress(OSError):
        remove_half_written(folder)
    for name in (CHECKPOINT, PROGRESS, FAILURE, REQUEST):
        with contextlib.suppress(OSError):
            remove(folder / name)
    with contextlib.suppress(OSError):
        for path in lease_files(folder):
            remove(path)
