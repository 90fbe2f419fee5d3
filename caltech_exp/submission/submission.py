"""What one submission queues: arrays of tasks, and the jobs before and after them; its id; its text."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path, PurePath
from typing import TypeVar

from tabulate import tabulate

from caltech_exp.config import PIN
from caltech_exp.data.pack_format import PackKey
from caltech_exp.executors.executor import Executor, JobArray, StudyJob
from caltech_exp.monitoring.queued_runs import packs_in_preparation
from caltech_exp.monitoring.run_states import bad_nodes
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.plan import PlannedRun, describe_seeds
from caltech_exp.study.run_status import RunStatus
from caltech_exp.study.study import StudyData
from caltech_exp.submission.preflight import Preflight, has_broken_network, open_runs, pack_keys
from caltech_exp.submission.request import Request

Item = TypeVar("Item")

NO_RUNS = "no runs: this section has figures of the data set only; python reports/aggregate.py draws them"


@dataclass(frozen=True)
class TaskSize:
    """How many runs a task trains, and the executor with what it asks for; None: that of the submission."""

    runs: int = 1
    executor: Executor | None = None


@dataclass(frozen=True)
class Submission:
    """What one submission queues.

    data            None only in a dry run that cannot read the data set
    missing_packs   packs that a job makes before the arrays start, each with its index file
    pack_jobs       ids of jobs, already in the queue, that make packs the arrays wait for
    report          folder of the report that a job writes after the arrays; None for no report
    dependencies    what the report also waits for: Slurm arrays, or submissions on this machine, that run already
    excluded_nodes  nodes on which runs failed; the arrays avoid them
    kept_nodes      nodes on which runs failed, and without which no node could run the arrays
    left_out        arrays of the tasks that Slurm has no room for now
    """

    request: Request
    data: StudyData | None = None
    arrays: tuple[JobArray, ...] = ()
    missing_packs: Mapping[PackKey, Path] = field(default_factory=dict)
    pack_jobs: tuple[str, ...] = ()
    report: Path | None = None
    dependencies: tuple[str, ...] = ()
    excluded_nodes: tuple[str, ...] = ()
    kept_nodes: tuple[str, ...] = ()
    left_out: tuple[JobArray, ...] = ()

    @classmethod
    def of(
        cls,
        plan: Sequence[PlannedRun],
        states: Mapping[str, RunStatus],
        request: Request,
        checked: Preflight,
        sizes: Mapping[str, TaskSize],
    ) -> "Submission":
        """The submission of the runs of the plan that are open, whose tasks have these sizes by section."""
        runs = seeds_outermost(plan, {run.id for run in open_runs(plan, states, request)})
        keys = pack_keys(run.config for run in runs)
        return cls(
            request=request,
            data=checked.study_data,
            arrays=tuple(make_arrays(runs, request.runs.name, sizes, checked.max_tasks)),
            missing_packs={key: file for key, file in checked.packs.items() if key in keys},
            report=request.report,
        )

    def fitting(self, room: int | None) -> "Submission":
        """The submission without the tasks for which Slurm has no room, which are those of the last seeds."""
        if room is not None:
            room = max(0, room - bool(self.missing_packs) - bool(self.report))
        order = sorted(
            (index / len(array.tasks), number)
            for number, array in enumerate(self.arrays)
            for index in range(len(array.tasks))
        )
        counts = Counter(number for _, number in order[:room])
        parts = [
            (array, array.tasks[: counts[n]], array.tasks[counts[n] :]) for n, array in enumerate(self.arrays)
        ]
        return replace(
            self,
            arrays=tuple(replace(array, tasks=tasks) for array, tasks, _ in parts if tasks),
            left_out=tuple(replace(array, tasks=tasks) for array, _, tasks in parts if tasks),
        )

    def avoiding(self, states: Mapping[str, RunStatus], executor: Executor) -> "Submission":
        """The submission whose arrays avoid nodes on which runs failed, but not the last that could run them."""
        if not self.arrays or not self.request.options.avoid_nodes:
            return self
        nodes = bad_nodes(states.values())
        excluded = executor.can_exclude(nodes)
        return replace(
            self, excluded_nodes=excluded, kept_nodes=tuple(node for node in nodes if node not in excluded)
        )

    def with_pack_jobs(self, jobs: Iterable[StudyJob], executor: Executor) -> "Submission":
        """The submission without packs that a job in the queue makes, or that its only task makes by itself."""
        makers = packs_in_preparation(jobs, executor)
        pack_jobs = dict.fromkeys(makers[file] for file in self.missing_packs.values() if file in makers)
        unmade = {key: file for key, file in self.missing_packs.items() if file not in makers}
        is_single = sum(len(array.tasks) for array in self.arrays) < 2
        return replace(self, missing_packs={} if is_single else unmade, pack_jobs=tuple(pack_jobs))

    @property
    def preparation_name(self) -> str:
        return queue_name("prepare", self.request.runs.name)

    @property
    def aggregation_name(self) -> str:
        return queue_name("aggregate", self.request.runs.name)

    def __bool__(self) -> bool:
        return bool(self.arrays or self.report)

    def describe(
        self, plan: Sequence[PlannedRun], states: Mapping[str, RunStatus], executor: Executor
    ) -> list[str]:
        """The lines that say what is queued; in a dry run, what would be, with a table of all runs."""
        dry_run = self.request.options.dry_run
        verb = "would queue" if dry_run else "queued"
        lines = [plan_table(plan, states, self.arrays), ""] if dry_run and plan else []
        lines += filter(None, [summary(plan, states), describe_seeds(plan)])
        if plan and not self.arrays and not self.left_out:
            lines.append(nothing_to_submit(plan, states, retry=self.request.options.retry == "failed"))
        if self.request.trains_again and self.arrays:
            lines.append("the first results count; the second are kept beside them, and compared to the bit")
        elif self.request.is_retry:
            lines += _broken_networks(plan, states)
        excluded = executor.excluding(self.excluded_nodes).excluded_nodes
        where = self.request.profile_name + (f", not on {excluded}" if excluded else "")
        for array in self.arrays:
            runs = sum(len(group) for group in array.tasks)
            lines.append(
                f"{verb} {array.name}: {count_of(len(array.tasks), 'task')}, {count_of(runs, 'run')}, {where}"
            )
        if self.left_out:
            tasks = sum(len(array.tasks) for array in self.left_out)
            runs = sum(len(group) for array in self.left_out for group in array.tasks)
            lines.append(
                f"{'would be left out' if dry_run else 'left out'}: {count_of(tasks, 'task')}, "
                f"{count_of(runs, 'run')}, because Slurm limits the jobs you may have queued; give the same "
                "command again when some have ended, or use runs_per_task=auto"
            )
        lines += [
            f"{node} is not avoided although runs failed there: no other node could run them. If every node fails "
            "alike, correct the profile"
            for node in self.kept_nodes
        ]
        if self.pack_jobs and self.arrays:
            lines.append(f"the runs wait for job {', '.join(self.pack_jobs)}, which decodes their images")
        if self.missing_packs and self.arrays:
            packs = count_of(len(self.missing_packs), "pack")
            lines.append(f"{verb} {self.preparation_name}: {packs} of images, before the runs")
        if self.report:
            when = "after the runs" if self.arrays or self.dependencies else "now"
            lines.append(f"{verb} {self.aggregation_name}: {when}, report in {self.report / 'report.md'}")
        return lines


def make_arrays(
    runs: Iterable[PlannedRun], study: str, sizes: Mapping[str, TaskSize], max_tasks: int | None
) -> list[JobArray]:
    """One array per section, named `section.study`; several if it would exceed `max_tasks` tasks."""
    arrays = []
    for section, group in groupby(runs, key=lambda run: run.section):
        size = sizes.get(section, TaskSize())
        tasks = _chunks(tuple(group), size.runs)
        name = queue_name(section, study)
        arrays += [JobArray(name, part, size.executor) for part in _chunks(tasks, max_tasks or len(tasks))]
    return arrays


def seeds_outermost(plan: Sequence[PlannedRun], chosen: Collection[str]) -> list[PlannedRun]:
    """The chosen runs by section, in each the first seed of every row, then the second, and so on."""
    sections = {section: place for place, section in enumerate(dict.fromkeys(run.section for run in plan))}
    seeds: Counter[str] = Counter()
    order = {}
    for run in plan:
        order[run.id] = (sections[run.section], seeds[run.config.id])
        seeds[run.config.id] += 1
    return sorted((run for run in plan if run.id in chosen), key=lambda run: order[run.id])


def queue_name(part: str, study: str) -> str:
    """`part.study`, as squeue shows a job."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{part}.{study}")


def _chunks(items: tuple[Item, ...], size: int) -> tuple[tuple[Item, ...], ...]:
    return tuple(items[start : start + size] for start in range(0, len(items), size))


def _broken_networks(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus]) -> list[str]:
    """A line for every custom network in whose code runs failed."""
    models = Counter(run.config.model for run in plan if has_broken_network(run, states[run.id]))
    names = {model: PurePath(model.partition(PIN)[0]).name for model in models}
    return [
        f"not tried again: {count_of(count, 'run')} that failed in the code of {names[model]}; correct your own "
        "file and submit with study=FILE, or with model= and another runs= folder"
        for model, count in models.items()
    ]


def plan_table(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus], arrays: Sequence[JobArray]) -> str:
    """One line per run: id, the table rows that show it, state, and the task that it would be queued as."""
    tasks = {
        run.id: f"{array.name}[{index}]"
        for array in arrays
        for index, group in enumerate(array.tasks)
        for run in group
    }
    rows = [(run.id, ", ".join(run.rows), run.seed, states[run.id].words, tasks.get(run.id, "-")) for run in plan]
    return tabulate(rows, headers=("run", "tables (row)", "seed", "state", "array task"), disable_numparse=True)


def summary(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus]) -> str:
    """`120 runs of 40 configurations: 118 pending, 2 finished`"""
    if not plan:
        return NO_RUNS
    configurations = len({run.config.id for run in plan})
    counts = _count_states(plan, states)
    return f"{count_of(len(plan), 'run')} of {count_of(configurations, 'configuration')}: {counts}"


def nothing_to_submit(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus], *, retry: bool) -> str:
    """`nothing to submit: all 30 runs are finished`"""
    distinct = {states[run.id].words for run in plan}
    if retry and len(distinct) > 1 and not distinct & {"failed", "lost"}:
        return "nothing to submit: no run failed or was lost"
    if len(distinct) == 1 and len(plan) > 1:
        return (
            f"nothing to submit: all {len(plan):,} runs {'' if distinct == {'failed'} else 'are '}{distinct.pop()}"
        )
    return f"nothing to submit: {_count_states(plan, states)}"


def _count_states(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus]) -> str:
    counts = Counter(states[run.id].words for run in plan)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def all_queued(manifest: Manifest) -> str:
    """What Ctrl-C leaves of a submission that is queued."""
    tasks = count_of(len(manifest.tasks), "task")
    return f"{tasks} of submission {manifest.id} stay queued; python jobs/cancel.py would cancel them"


def count_of(count: int, noun: str) -> str:
    """`1 run`, `1,200 runs`"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


ID = re.compile(r"(\d{8}T\d{6})-([0-9a-f]{4})", re.ASCII)
TICK = timedelta(microseconds=20)  # what the last digits of an id count


def submission_id(now: datetime, others: Iterable[str]) -> str:
    """`20260131T235959-1a2b`: the time in UTC, made later than the study's `others`, since the latest one counts.

    So ids stay in order when several are made at once and when the clock of another login node is ahead.
    """
    if last := ID.fullmatch(max(filter(ID.fullmatch, others), default="")):
        second = datetime.strptime(last[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        now = max(now, second + (int(last[2], 16) + 1) * TICK)
    return f"{now:%Y%m%dT%H%M%S}-{now.microsecond // TICK.microseconds:04x}"
