"""What Slurm's accounting knows of jobs that are gone, on clusters that have one."""

import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from caltech_exp.errors import UserError
from jobs.cluster import ask

AT_ONCE = 500
"""Job ids in one question; a command line has an end."""
WAITING = re.compile(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]")
"""The tasks of an array that never started are one job to accounting: `1234_[0-2,4,7-9%4]`."""


@dataclass(frozen=True)
class EndedJob:
    """How a job ended: Slurm's word for it (`CANCELLED`, `OUT_OF_MEMORY`, `NODE_FAIL`, ...) and where."""

    id: str
    name: str
    state: str
    node: str


def ended_jobs(ids: Collection[str], timeout: float) -> dict[str, EndedJob]:
    """Job id (`1234_5`) -> how it ended last. Empty where there is no sacct or it does not answer."""
    if not shutil.which("sacct"):
        return {}
    arrays = sorted({job.partition("_")[0] for job in ids})
    found: dict[str, EndedJob] = {}
    for start in range(0, len(arrays), AT_ONCE):
        for job in _ask(arrays[start : start + AT_ONCE], timeout):
            found |= {task: replace(job, id=task) for task in _tasks(job.id) if task in ids}
    return found


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


def _ask(arrays: Sequence[str], timeout: float) -> list[EndedJob]:
    command = [
        "sacct",
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,JobName,State,NodeList",
        f"--jobs={','.join(arrays)}",
    ]
    try:
        printed = ask(command, timeout)
    except UserError:  # accounting is switched off, or its daemon is down: nothing here depends on it
        return []
    jobs = []
    for line in printed.splitlines():
        fields = line.split("|")
        if len(fields) == 4 and (re.fullmatch(r"\d+(_\d+)?", fields[0]) or WAITING.fullmatch(fields[0])):
            jobs.append(EndedJob(fields[0], fields[1], fields[2].split()[0] if fields[2] else "", fields[3]))
    return jobs
