"""What Slurm's accounting knows of jobs that are gone, on clusters that have one."""

import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from caltech_exp.errors import UserError
from jobs.cluster import ask

AT_ONCE = 500
"""Job ids in one question; a command line has an end."""
SECONDS = 5.0
"""How long accounting may take in all. It only explains, and nobody waits a minute for that."""
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""One node; `None assigned` is none."""
WAITING = re.compile(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]")
"""The tasks of an array that never started are one job to accounting: `1234_[0-2,4,7-9%4]`."""


@dataclass(frozen=True)
class EndedJob:
    """How a job ended: Slurm's word for it (`CANCELLED`, `OUT_OF_MEMORY`, `NODE_FAIL`, ...) and where.

    submitted  when it came into the queue, for the last time if it was requeued; None if that is not said
    """

    id: str
    name: str
    state: str
    node: str
    submitted: datetime | None = None


def ended_jobs(ids: Collection[str], timeout: float) -> dict[str, EndedJob]:
    """Job id (`1234_5`) -> how it ended last. Empty where there is no sacct, or no answer in a few seconds."""
    if not shutil.which("sacct"):
        return {}
    arrays = sorted({job.partition("_")[0] for job in ids})
    found: dict[str, EndedJob] = {}
    end = time.monotonic() + min(timeout, SECONDS)
    for start in range(0, len(arrays), AT_ONCE):
        try:
            jobs = _ask(arrays[start : start + AT_ONCE], max(0.1, end - time.monotonic()))
        except UserError:  # accounting is switched off, or its daemon is down: nothing here depends on it
            break
        for job in jobs:
            found |= {task: replace(job, id=task) for task in _tasks(job.id) if task in ids}
    return found


def last_nodes(ids: Collection[str], timeout: float) -> dict[str, str]:
    """Job id -> the node that it was last on, for jobs that accounting knows a node of."""
    if not shutil.which("sacct"):
        return {}
    arrays = sorted({job.partition("_")[0] for job in ids})[:AT_ONCE]
    try:
        jobs = _ask(arrays, min(timeout, SECONDS), "--duplicates")  # a requeued job has a record for each start
    except UserError:
        return {}
    return {job.id: job.node for job in jobs if job.id in ids and NODE.fullmatch(job.node)}


def _tasks(shown: str) -> Iterator[str]:
    """The ids of a job, or of all tasks of an array that it stands for."""
    waiting = WAITING.fullmatch(shown)
    if not waiting:
        yield shown
        return
    for part in waiting[2].split(","):
        first, _, last = part.partition("-")
        for index in range(int(first), int(last or first) + 1):
            yield f"{waiting[1]}_{index}"


def _ask(arrays: Sequence[str], timeout: float, *options: str) -> list[EndedJob]:
    command = [
        "sacct",
        *options,
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,JobName,State,NodeList,Submit",
        f"--jobs={','.join(arrays)}",
    ]
    jobs = []
    for line in ask(command, timeout, answer=r"^\d").splitlines():
        fields = line.split("|")
        if len(fields) == 5 and (re.fullmatch(r"\d+(_\d+)?", fields[0]) or WAITING.fullmatch(fields[0])):
            number, name, state, node, submitted = fields
            jobs.append(EndedJob(number, name, state.split()[0] if state else "", node, _time(submitted)))
    return jobs


def _time(text: str) -> datetime | None:
    """What sacct prints in the time of this machine: `2026-01-31T12:00:00`."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None
