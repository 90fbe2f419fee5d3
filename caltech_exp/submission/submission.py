"""What one submission queues: arrays of tasks, packs to make first, its id, and its summary as text."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from tabulate import tabulate

from caltech_exp.catalog import Section, Table
from caltech_exp.config import RunConfig
from caltech_exp.data.pack_format import ALL_PACKS, PackKey, index_file, split_contents
from caltech_exp.data.splits import DataSet
from caltech_exp.executors.executor import JobArray
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.run_status import DONE, RunStatus
from caltech_exp.study.study import StudyData, StudySettings
from caltech_exp.submission.request import Request

Item = TypeVar("Item")


def make_arrays(
    runs: Sequence[PlannedRun], study: str, runs_per_task: int, most_tasks: int | None
) -> list[JobArray]:
    """One array per section, named `section.study`; several where it would exceed `most_tasks` tasks."""
    arrays = []
    for section, group in groupby(runs, key=lambda run: run.section):
        tasks = _chunks(tuple(group), runs_per_task)
        name = queue_name(section, study)
        arrays += [JobArray(name, part) for part in _chunks(tasks, most_tasks or len(tasks))]
    return arrays


def queue_name(part: str, study: str) -> str:
    """`part.study`, as squeue shows a job."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{part}.{study}")


def _chunks(items: tuple[Item, ...], size: int) -> tuple[tuple[Item, ...], ...]:
    return tuple(items[start : start + size] for start in range(0, len(items), size))


def missing_packs(configs: Iterable[RunConfig], data: DataSet, folder: Path) -> dict[PackKey, Path]:
    """The packs that runs of these configurations use and that are not in `folder`, each with its index file.

    Whether one that is there is sound is checked when it is opened. Raises UserError for an image that is gone.
    """
    asked = {(c.max_images, c.resize, c.augment != "none") for c in configs if c.engine == "fast"}
    items = dict.fromkeys(
        (split, most, layout, resize)
        for most, resize, augmented in sorted(asked)
        for split, layout in ALL_PACKS
        if augmented or layout != "resized"  # which is for random crops
    )
    files = {item: index_file(folder, split_contents(data, *item).name) for item in items}
    return {item: file for item, file in files.items() if not file.exists()}


@dataclass(frozen=True)
class Submission:
    """What one submission queues.

    missing_packs   packs that a job makes before the arrays start, each with its index file
    pack_jobs       ids of jobs, already in the queue, that make packs the arrays wait for
    report          folder of the report that a job writes after the arrays; None for no report
    dependencies    what the report also waits for: Slurm arrays, or submissions on this machine, that run already
    excluded_nodes  nodes on which runs failed; the arrays avoid them
    """

    request: Request
    data: StudyData | None = None
    arrays: tuple[JobArray, ...] = ()
    missing_packs: Mapping[PackKey, Path] = field(default_factory=dict)
    pack_jobs: tuple[str, ...] = ()
    report: Path | None = None
    dependencies: tuple[str, ...] = ()
    excluded_nodes: tuple[str, ...] = ()

    @property
    def study(self) -> str:
        """The name of the study, which its jobs carry in squeue."""
        return self.request.runs.name

    @property
    def preparation_name(self) -> str:
        return queue_name("prepare", self.study)

    @property
    def aggregation_name(self) -> str:
        return queue_name("aggregate", self.study)

    def __bool__(self) -> bool:
        return bool(self.arrays or self.report)


def packs_of(arrays: Sequence[JobArray], data: DataSet, folder: Path) -> dict[PackKey, Path]:
    """The packs that the arrays use and that are not in `folder`. Raises UserError for an image that is gone."""
    configs = (run.config for array in arrays for task in array.tasks for run in task)
    return missing_packs(configs, data, folder)


def with_packs(submission: Submission, packs: Mapping[PackKey, Path], pack_jobs: Mapping[Path, str]) -> Submission:
    """The submission with the missing packs that no job in the queue makes. A single task makes its own.

    pack_jobs  a pack's index file -> the id of the job in the queue that makes it
    """
    waits_for = dict.fromkeys(pack_jobs[file] for file in packs.values() if file in pack_jobs)
    unmade = {item: file for item, file in packs.items() if file not in pack_jobs}
    if sum(len(array.tasks) for array in submission.arrays) < 2:
        unmade = {}
    return replace(submission, missing_packs=unmade, pack_jobs=tuple(waits_for))


def single_lines(submission: Submission, verb: str) -> Sequence[str]:
    """The jobs that are, or would be, queued beside the arrays, a line each."""
    lines = []
    if submission.pack_jobs:
        lines.append(f"the runs wait for job {', '.join(submission.pack_jobs)}, which decodes their images")
    if submission.missing_packs and submission.arrays:
        count = f"{len(submission.missing_packs)} pack{'s' if len(submission.missing_packs) > 1 else ''} of images"
        lines.append(f"{verb} {submission.preparation_name}: {count}, before the runs")
    if submission.report:
        when = "after the runs" if submission.arrays or submission.dependencies else "now"
        page = submission.report / "report.md"
        lines.append(f"{verb} {submission.aggregation_name}: {when}, report in {page}")
    return lines


MOST_MERGED = 4
"""Lines about rows that overrides make the same run."""


def plan_table(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus], arrays: Sequence[JobArray]) -> str:
    """One line per run: id, the table rows it serves, state, and the array and task it would be queued as."""
    places = {
        run.id: f"{array.name}[{index}]"
        for array in arrays
        for index, group in enumerate(array.tasks)
        for run in group
    }
    rows = [(run.id, ", ".join(run.rows), run.seed, states[run.id].state, places.get(run.id, "-")) for run in plan]
    return tabulate(rows, headers=("run", "tables (row)", "seed", "state", "array task"), disable_numparse=True)


def summary(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus]) -> str:
    """`120 runs of 40 configurations: 118 pending, 2 finished`"""
    if not plan:
        return "no runs: this section has figures of the data set only; python reports/aggregate.py draws them"
    counts = Counter(states[run.id].state for run in plan)
    configurations = len({run.config.id for run in plan})
    parts = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"{count_of(len(plan), 'run')} of {count_of(configurations, 'configuration')}: {parts}"


def queue_lines(arrays: Sequence[JobArray], verb: str, where: str) -> list[str]:
    """What is or would be queued, a line per array."""
    if not arrays:
        return [f"nothing to queue: every run is {' or '.join(DONE)} or in the queue"]
    return [
        f"{verb} {array.name}: {count_of(len(array.tasks), 'task')}, "
        f"{count_of(sum(len(group) for group in array.tasks), 'run')}, {where}"
        for array in arrays
    ]


def count_of(count: int, noun: str) -> str:
    """`1 run`, `1,200 runs`"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def merged_lines(
    tables: Sequence[tuple[Section, Table]], settings: StudySettings, seeds: Sequence[int]
) -> list[str]:
    """A warning where the settings make rows the same run that differ in the tables; few lines for many tables."""
    rows_of_run: dict[str, list[tuple[str, RunConfig]]] = {}
    for section, table in tables:
        for row in table.rows:
            place = f"{section.name}.{table.name}"
            rows_of_run.setdefault(settings.apply(row.config).id, []).append((place, row.config))
    merged: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for rows in rows_of_run.values():
        configs = [config for _, config in rows]
        if len({config.id for config in configs}) > 1:
            places = tuple(dict.fromkeys(place for place, _ in rows))
            merged.setdefault((_cause(configs, settings), places), []).append(len(rows))
    lines = [
        f"warning: {_makes(cause)} {_rows(sum(counts), places, tables)} {_runs(len(counts), seeds)}"
        for (cause, places), counts in merged.items()
    ]
    if len(lines) <= MOST_MERGED:
        return lines
    rest = list(merged.items())[MOST_MERGED - 1 :]
    places = tuple(dict.fromkeys(place for (_, places), _ in rest for place in places))
    counts = [count for _, counts in rest for count in counts]
    causes = str(settings.model_copy(update={"imagenet_weights": {}}))
    last = f"warning: {_makes(causes)} {_rows(sum(counts), places, tables)} {_runs(len(counts), seeds)}"
    return [*lines[: MOST_MERGED - 1], last]


def _cause(configs: Sequence[RunConfig], settings: StudySettings) -> str:
    """Those of the overrides in which the configurations differ without them."""
    differing = {
        name: value
        for name, value in settings.overrides.items()
        if len({getattr(config, name) for config in configs}) > 1
    }
    return str(settings.model_copy(update={"overrides": differing or settings.overrides, "imagenet_weights": {}}))


def _makes(cause: str) -> str:
    return f"{cause} {'make' if ' ' in cause else 'makes'}"


def _rows(count: int, places: Sequence[str], tables: Sequence[tuple[Section, Table]]) -> str:
    """`the 5 rows of scratch.lr`, `7 of the 11 rows of scratch.lr and scratch.epochs`"""
    of = f"{', '.join(places[:-1])} and {places[-1]}" if len(places) > 1 else places[0]
    whole = sum(len(table.rows) for section, table in tables if f"{section.name}.{table.name}" in places)
    if count == whole:
        return f"the {count} rows of {of}"
    return f"{count} of the {whole} rows of {of}"


def _runs(count: int, seeds: Sequence[int]) -> str:
    return f"{'one run' if count == 1 else f'{count} runs'}{' per seed' if len(seeds) > 1 else ''}"


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
