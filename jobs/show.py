"""The plan as text: what each run is for, its state, and what a submission would queue."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from caltech_exp.plan import PlannedRun
from caltech_exp.states import DONE, RunState
from jobs.arrays import Array


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
