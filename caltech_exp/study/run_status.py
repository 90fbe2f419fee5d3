"""The status of a run from its files and the queue, and which of its files may be removed."""

import contextlib
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, get_args

from caltech_exp.cli import one_line
from caltech_exp.files import local_time, names_in, open_file, remove
from caltech_exp.records import SCHEMA_VERSION, Corrupt, newer, read_record
from caltech_exp.study.lease import REQUEST, Owner, lease_files, read_lease
from caltech_exp.study.manifest import recorded_log
from caltech_exp.study.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    Failure,
    Progress,
    Result,
    again_folders,
    first_difference,
    has_same_kept,
    read_result,
)

State = Literal[
    "pending", "queued", "running", "finished", "diverged", "failed", "lost", "cancelled", "damaged", "newer"
]
STATES: tuple[State, ...] = get_args(State)
DONE: tuple[State, ...] = ("finished", "diverged")


@dataclass(frozen=True)
class QueuedTask:
    """A run's task in the queue, by its submission; `place` names another cluster or machine that has it."""

    submission: str
    is_running: bool
    place: str = ""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run, with one line of detail.

    pending   never submitted, as far as this folder shows
    queued    its task waits in the queue, or has not reached the run yet; `place` as QueuedTask has it
    running   a process holds the run's lease and sends heartbeats
    failed    ended with an error: see `detail` and `failure`; `in_task` while its task still trains other runs
    lost      its process died without a result: no queue holds its task, and no process trains it
    cancelled its job was cancelled before the run had a result
    damaged   its result cannot be read; counts as missing
    newer     a newer version of caltech_exp has written a record of it; this version leaves the run alone

    progress  at the end of the last epoch, of a run without a result
    owner    the process that trains the run, or did last, if known
    node     the node that caused the run's end, if one did
    end      how the job of a lost run ended, if accounting says so, or why that of a cancelled one was cancelled
    again    of a run with a result that a queued task trains once more: how that stands
    """

    state: State
    detail: str = ""
    failure: Failure | None = None
    progress: Progress | None = None
    result: Result | None = None
    node: str = ""
    owner: Owner | None = None
    seconds_since_heartbeat: float | None = None
    in_task: bool = False
    end: str = ""
    again: "RunStatus | None" = None
    place: str = ""

    @property
    def words(self) -> str:
        return f"{self.state} on {self.place}" if self.place else self.state


def run_status(
    folder: Path,
    queue: Mapping[str, QueuedTask] | None,
    submitted: bool,
    fingerprint: str | None = None,
    now: float | None = None,
    *,
    cancelled_in: str = "",
) -> RunStatus:
    """The status of the run in `folder`.

    queue        run id -> its task, for every run in the queue; None if the queue was not asked
    submitted    whether a manifest names the run
    fingerprint  of the data set; a result on other data counts as damaged. None accepts a result on any data
    now          by the file system's clock (files.file_system_time); None for this machine's
    cancelled_in the submission that was the run's last if its job there was cancelled (manifest.cancelled_runs)
    """
    result = read_result(folder)
    if isinstance(result, Result) and fingerprint not in (None, result.data.fingerprint):
        result = Corrupt(folder / RESULT, f"is of another data set, {result.data.fingerprint}")
    if isinstance(result, Result):
        return RunStatus(result.status, result=result)
    lease = read_lease(folder)
    owner = lease.owner if lease else None
    record = read_record(folder / PROGRESS, Progress)
    progress = record if isinstance(record, Progress) else None
    now = time.time() if now is None else now
    if lease and lease.is_held(now):
        seconds = max(0.0, now - lease.heartbeat)
        return RunStatus(
            "running",
            _running_detail(progress, seconds, owner),
            progress=progress,
            seconds_since_heartbeat=seconds,
            owner=owner,
        )
    if record_of_newer := newer_record(folder):
        return RunStatus("newer", f"{record_of_newer.path.name}: {record_of_newer.reason}", owner=owner)
    task = queue.get(folder.name) if queue is not None else None
    if isinstance(result, Corrupt):
        return RunStatus("queued" if task else "damaged", f"{result.path.name}: {result.reason}")
    # A task that waits, or that another submission queued, has yet to try the run again.
    failure = read_record(folder / FAILURE, Failure) if task is None or task.is_running else None
    if isinstance(failure, Failure) and (
        failure.submission >= cancelled_in if task is None else failure.submission == task.submission
    ):
        log = recorded_log(folder.parent, failure.submission, failure.log)
        detail = one_line(f"{failure.error} (log: {log})" if log else failure.error)
        node = failure.node if failure.kind == "node" else ""
        return RunStatus("failed", detail, failure, progress, node=node, in_task=bool(task and not task.place))
    if task:
        return RunStatus("queued", progress=progress, place=task.place)
    epoch = f"epoch {progress.epoch} of {progress.epochs}, {local_time(progress.when)}" if progress else ""
    if cancelled_in:
        return RunStatus("cancelled", epoch, progress=progress, owner=owner)
    if isinstance(failure, Corrupt):
        return RunStatus("failed", f"its failure record cannot be read: {failure.reason}")
    if queue is None and progress:
        return RunStatus("queued", f"interrupted at {epoch}; queued again, or lost", owner=owner)
    if queue is not None and (lease or progress):
        return RunStatus("lost", epoch, progress=progress, owner=owner)
    return status_without_files(folder.name, queue, submitted)


def status_without_files(
    name: str, queue: Mapping[str, QueuedTask] | None, submitted: bool, *, cancelled_in: str = ""
) -> RunStatus:
    """`run_status` for a run that has written no file."""
    if cancelled_in and name not in (queue or {}):
        return RunStatus("cancelled")
    if queue is None:
        return RunStatus("queued" if submitted else "pending")
    if task := queue.get(name):
        return RunStatus("queued", place=task.place)
    return RunStatus("lost" if submitted else "pending")


EQUAL, DIFFERS = "equal to the bit", "differs in "


def again_words(folder: Path, first: Result) -> str:
    """What came of training a finished run once more: `equal to the bit`, or where it differs, for each time."""
    words = []
    for second in again_folders(folder):
        status = run_status(second, queue=None, submitted=True)
        if status.result is None:
            why = f" ({status.state}: {status.detail})" if status.detail else ""
            words.append(f"no second result{why}")
        elif difference := first_difference(first, status.result):
            words.append(f"{DIFFERS}{difference}")
        else:
            words.append(f"{EQUAL}, with its weights" if has_same_kept(first, status.result) else EQUAL)
    return "; ".join(words)


def _running_detail(progress: Progress | None, seconds_since_heartbeat: float, owner: Owner | None) -> str:
    """`epoch 3 of 30, 185 images/s, heartbeat 4 s ago, job 1234_5 on gpu07`"""
    words = []
    if progress:
        words.append(f"epoch {progress.epoch} of {progress.epochs}")
        if progress.images_per_second:
            words.append(f"{progress.images_per_second:.0f} images/s")
    words.append(f"heartbeat {seconds_since_heartbeat:.0f} s ago")
    if owner:
        words.append(f"job {owner.job} on {owner.host}")
    return ", ".join(words)


CHECKPOINT = "checkpoint.pt"
CHECKPOINT_MARK = re.compile(rb"caltech_exp checkpoint (\d{1,9}) sha256 [0-9a-f]{64}")
"""The end of a checkpoint of any version (checkpoint.MARK)."""
LONGEST_MARK = 128


def newer_record(folder: Path) -> Corrupt | None:
    """A record of a newer version in a run's folder, None if there is none.

    Such a run is neither trained nor recorded as failed, which would overwrite the newer version's records.
    """
    for name, kind in ((RESULT, Result), (FAILURE, Failure), (PROGRESS, Progress)):
        record = read_record(folder / name, kind)
        if isinstance(record, Corrupt) and record.is_newer:
            return record
    with contextlib.suppress(OSError):  # the process that acquires the run reports it
        for path in (path for path in lease_files(folder)[-1:] if stat.S_ISREG(path.lstat().st_mode)):
            owner = read_record(path, Owner)
            if isinstance(owner, Corrupt) and owner.is_newer:
                return owner
    version = _checkpoint_version(folder / CHECKPOINT)
    return newer(folder / CHECKPOINT, f"checkpoint {version}") if version > SCHEMA_VERSION else None


def _checkpoint_version(path: Path) -> int:
    """0 if there is no checkpoint, or only a part of one."""
    try:
        with open_file(path) as file:
            file.seek(max(0, path.stat().st_size - LONGEST_MARK))
            end = file.read()
    except OSError:  # the process that trains the run reports it
        return 0
    mark = CHECKPOINT_MARK.search(end)
    return int(mark[1]) if mark and mark.end() == len(end) else 0


def remove_half_written(folder: Path) -> None:
    """Remove the temporary files of killed writers. Only the owner of the run's lease may do so."""
    for name in names_in(folder):
        if fnmatch(name, ".*.*"):
            remove(folder / name)


def remove_after_result(folder: Path) -> None:
    """Remove what a run with a result no longer needs: checkpoint, progress, failures of earlier attempts, leases.

    What cannot be removed stays; the next process that finds the result tries again.
    """
    with contextlib.suppress(OSError):
        remove_half_written(folder)
    for name in (CHECKPOINT, PROGRESS, FAILURE, REQUEST):
        with contextlib.suppress(OSError):
            remove(folder / name)
    with contextlib.suppress(OSError):
        for path in lease_files(folder):
            remove(path)
