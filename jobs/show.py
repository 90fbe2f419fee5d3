"""The plan as text: what each run is for, its state, and what a submission would queue."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from caltech_exp.catalog import Section, Table
from caltech_exp.config import RunConfig
from caltech_exp.plan import PlannedRun
from caltech_exp.states import DONE, RunState
from caltech_exp.study import StudySettings
from jobs.arrays import Array

MOST_MERGED = 4
"""Lines about rows that overrides make the same run."""


def plan_table(plan: Sequence[PlannedRun], states: Mapping[str, RunState], arrays: Sequence[Array]) -> str:
    """One line per run: id, the table rows it serves, state, and the array and task it would be queued as."""
    places = {
        run.id: f"{array.name}[{index}]"
        for array in arrays
        for index, group in enumerate(array.tasks)
        for run in group
    }
    rows = [
        (run.id, ", ".join(run.serves), run.seed, states[run.id].state, places.get(run.id, "-")) for run in plan
    ]
    return tabulate(rows, headers=("run", "tables (row)", "seed", "state", "array task"), disable_numparse=True)


def summary(plan: Sequence[PlannedRun], states: Mapping[str, RunState]) -> str:
    """`120 runs of 40 configurations: 118 pending, 2 finished`"""
    if not plan:
        return "no runs: this section has figures of the data set only; python reports/aggregate.py draws them"
    counts = Counter(states[run.id].state for run in plan)
    configurations = len({run.config.id for run in plan})
    parts = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"{_plural(len(plan), 'run')} of {_plural(configurations, 'configuration')}: {parts}"


def queue_lines(arrays: Sequence[Array], verb: str, where: str) -> list[str]:
    """What is or would be queued, a line per array."""
    if not arrays:
        return [f"nothing to queue: every run is {' or '.join(DONE)} or in the queue"]
    return [
        f"{verb} {array.name}: {_plural(len(array.tasks), 'task')}, "
        f"{_plural(sum(len(group) for group in array.tasks), 'run')}, {where}"
        for array in arrays
    ]


def _plural(count: int, noun: str) -> str:
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
