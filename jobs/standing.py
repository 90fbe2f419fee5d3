"""How a study stands: its runs by table and state, and when it will end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from caltech_exp.catalog import Section, Table
from caltech_exp.config import RunConfig
from caltech_exp.plan import PlannedRun
from caltech_exp.results import Result
from caltech_exp.states import RunState


@dataclass(frozen=True)
class Standing:
    """A study now.

    plan    every run that the report's tables ask for with the study's seeds, whether submitted or not
    states  run id -> its state
    tables  (section, table) -> runs by state; a run that several tables ask for counts in each
    left    seconds until the queued and running runs have ended if as many run at once as now; None if unknown
    """

    folder: Path
    plan: tuple[PlannedRun, ...]
    states: Mapping[str, RunState]
    tables: Mapping[tuple[str, str], Counter[str]]
    left: float | None

    @property
    def counts(self) -> Counter[str]:
        """All runs by state, each once."""
        return Counter(self.states[run.id].state for run in self.plan)

    @property
    def open(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self.in_state("queued", "running"))

    def in_state(self, *states: str) -> list[PlannedRun]:
        return [run for run in self.plan if self.states[run.id].state in states]


def standing(
    folder: Path,
    asked: Sequence[tuple[Section, Table]],
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
) -> Standing:
    """How the study in `folder` stands, from the tables that it asks for and the states of its runs."""
    tables: dict[tuple[str, str], Counter[str]] = {
        (section.name, table.name): Counter() for section, table in asked
    }
    for run in plan:
        for place in dict.fromkeys(served.partition("=")[0] for served in run.serves):
            section, _, table = place.partition(".")
            tables[section, table][states[run.id].state] += 1
    return Standing(folder, tuple(plan), states, tables, seconds_left(plan, states, datetime.now(UTC)))


def seconds_left(plan: Sequence[PlannedRun], states: Mapping[str, RunState], now: datetime) -> float | None:
    """Seconds until what is queued or running has ended; None where a run's length cannot be told.

    What is left of a run in training is its own estimate, less the time since; a queued run takes what finished
    runs of the same configuration took, or else as many epochs as it has of the same network's.
    """
    running = [states[run.id] for run in plan if states[run.id].state == "running"]
    queued = [run.config for run in plan if states[run.id].state == "queued"]
    if not running and not queued:
        return None
    results = [state.result for state in states.values() if state.result and state.state == "finished"]
    parts = [_left_of(state, now) for state in running] + [_length(config, results) for config in queued]
    known = [seconds for seconds in parts if seconds is not None]
    if len(known) < len(parts):
        return None
    return max(sum(known) / max(1, len(running)), *known)


def _left_of(state: RunState, now: datetime) -> float | None:
    progress = state.progress
    if progress is None or progress.seconds_left is None:
        return None
    since = now - datetime.fromisoformat(progress.when)
    return max(0.0, progress.seconds_left - since.total_seconds())


def _length(config: RunConfig, results: Sequence[Result]) -> float | None:
    same = [result.wall_seconds for result in results if result.config == config]
    if same:
        return fmean(same)
    alike = [
        result.wall_seconds / len(result.epochs)
        for result in results
        if (result.config.model, result.config.engine) == (config.model, config.engine)
    ]
    return fmean(alike) * config.epochs if alike else None
