"""How a study stands: its runs by section, table and state, their logs, and when they will have ended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from caltech_exp.catalog import Section, Table
from caltech_exp.plan import PlannedRun
from caltech_exp.states import RunState
from jobs.cluster import QueuedJob
from jobs.forecast import Paces, ended_after, left_of, lengths
from jobs.queued import Queue

WITHOUT_RESULT = ("failed", "lost", "damaged")
LISTED = (*WITHOUT_RESULT, "newer")
"""The states of runs that have ended, or were left, without a result that counts; the last are not tried again."""


@dataclass(frozen=True)
class Outlook:
    """When a study will have ended.

    ends       run in training -> seconds it has left; runs of which nothing is known yet are not among them
    left       seconds until all queued and running runs have ended if `at_once` run at a time; None if unknown
    pending    seconds of all runs together that were not submitted; None if unknown
    """

    ends: Mapping[str, float] = field(default_factory=dict)
    left: float | None = None
    at_once: int = 1
    pending: float | None = None


@dataclass(frozen=True)
class Standing:
    """A study when it was looked at.

    plan      every run that the report's tables ask for with the study's seeds, whether submitted or not
    states    run id -> its state
    tables    (section, table) -> runs by state; a run that several tables ask for counts in each
    sections  section -> runs by state, each once
    logs      run id -> its log, for those in training, failed or lost that have one
    note      why Slurm was not asked, if it was not: then queued runs may be lost ones
    report    how the last report that was asked for stands; empty if none was
    reasons   Slurm's reason for waiting -> tasks that wait for it
    preparation  the job that decodes images before the runs, while Slurm holds it
    unprepared   why the last such job failed; empty if it did not, or if no run needs the images any more
    """

    folder: Path
    when: datetime
    plan: tuple[PlannedRun, ...]
    states: Mapping[str, RunState]
    tables: Mapping[tuple[str, str], Counter[str]]
    sections: Mapping[str, Counter[str]]
    outlook: Outlook
    logs: Mapping[str, Path]
    note: str = ""
    report: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)
    preparation: QueuedJob | None = None
    unprepared: str = ""

    @cached_property
    def counts(self) -> Counter[str]:
        """All runs by state, each once."""
        return Counter(self.states[run.id].state for run in self.plan)

    @property
    def open(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self.counts["queued"] + self.counts["running"])

    def in_state(self, *states: str) -> list[PlannedRun]:
        return [run for run in self.plan if self.states[run.id].state in states]


def standing(
    folder: Path,
    tables: Sequence[tuple[Section, Table]],
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
    outlook: Outlook,
    logs: Mapping[str, Path],
    note: str = "",
    report: str = "",
    queue: Queue | None = None,
) -> Standing:
    """How the study in `folder` stands, from the states of its runs."""
    by_table: dict[tuple[str, str], Counter[str]] = {(s.name, table.name): Counter() for s, table in tables}
    by_section: dict[str, Counter[str]] = {s.name: Counter() for s, _ in tables}
    for run in plan:
        state = states[run.id].state
        places = dict.fromkeys(tuple(served.partition("=")[0].split(".", 1)) for served in run.serves)
        for section, table in places:
            by_table[section, table][state] += 1
        for section in dict.fromkeys(section for section, _ in places):
            by_section[section][state] += 1
    now = datetime.now(UTC)
    reasons, preparation = (queue.reasons, queue.preparation) if queue else ({}, None)
    return Standing(
        folder, now, tuple(plan), states, by_table, by_section, outlook, logs, note, report, reasons, preparation
    )


def outlook(
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
    paces: Paces,
    train_val_images: int,
    at_once: int,
    now: datetime,
) -> Outlook:
    """When runs will have ended: as many at a time as run now, or `at_once` if none does."""
    of = {
        state: [run for run in plan if states[run.id].state == state] for state in ("running", "queued", "pending")
    }
    told = {state: lengths(runs, paces, train_val_images) for state, runs in of.items()}
    running = {
        run.id: left_of(states[run.id], whole, now)
        for run, whole in zip(of["running"], told["running"], strict=True)
    }
    ends = {name: seconds for name, seconds in running.items() if seconds is not None}
    queued = [one.seconds for one in told["queued"] if one]
    pending = [one.seconds for one in told["pending"] if one]
    at_once = len(running) or at_once
    known = len(ends) == len(running) and len(queued) == len(of["queued"]) and bool(running or queued)
    return Outlook(
        ends=ends,
        left=ended_after(queued, at_once, tuple(ends.values())) if known else None,
        at_once=at_once,
        pending=sum(pending) if pending and len(pending) == len(of["pending"]) else None,
    )
