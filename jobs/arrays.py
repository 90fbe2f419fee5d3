"""How open runs become Slurm arrays: one per section, no larger than the cluster allows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from caltech_exp.plan import PlannedRun

Item = TypeVar("Item")


@dataclass(frozen=True)
class Array:
    """Tasks to be queued together, each a group of runs of one section; `name` is shown by squeue."""

    name: str
    tasks: tuple[tuple[PlannedRun, ...], ...]


def make_arrays(runs: Sequence[PlannedRun], study: str, runs_per_task: int, most_tasks: int | None) -> list[Array]:
    """One array per section, named `section.study`; several where it would exceed `most_tasks` tasks."""
    arrays = []
    for section, group in groupby(runs, key=lambda run: run.section):
        tasks = _chunks(tuple(group), runs_per_task)
        name = queue_name(section, study)
        arrays += [Array(name, part) for part in _chunks(tasks, most_tasks or len(tasks))]
    return arrays


def queue_name(part: str, study: str) -> str:
    """`part.study`, as squeue shows a job."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{part}.{study}")


def _chunks(items: tuple[Item, ...], size: int) -> tuple[tuple[Item, ...], ...]:
    return tuple(items[start : start + size] for start in range(0, len(items), size))
