"""How many of the report's runs there are, by state."""

from collections import Counter

from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.published import NOT_COUNTED
from caltech_exp.study.run_status import State

NOT_SUBMITTED = "not submitted"
_STATES: tuple[State, ...] = (
    "finished",
    "diverged",
    "failed",
    "damaged",
    "newer",
    "lost",
    "running",
    "queued",
    "pending",
)
ORDER: tuple[str, ...] = (*_STATES, NOT_COUNTED, NOT_SUBMITTED)
WORDS = {"pending": "started, without a trace"}
"""States that their name alone would not explain here."""


def state_words(counts: Counter[str]) -> list[str]:
    """`["2 finished", "1 failed"]`, most advanced first; states that nothing is in are left out."""
    return [f"{counts[state]} {WORDS.get(state, state)}" for state in ORDER if counts[state]]


def row_counts(row: RowRuns) -> Counter[str]:
    """State -> number of the row's runs: those it has, and one for each further seed of the study."""
    return Counter([*(run.state for run in row.runs), *(NOT_SUBMITTED for _ in row.missing)])


def count_runs(collected: Collected, section: str | None = None) -> Counter[str]:
    """State -> number of runs, each once, of the whole report or of one section."""
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for (name, _), rows in collected.rows.items():
        for row in rows:
            if row.config.id in seen or section not in (None, name):
                continue
            seen.add(row.config.id)
            counts += row_counts(row)
    return counts


def count_line(collected: Collected) -> str:
    """`27 of 120 runs finished; 1 failed, 92 not submitted`"""
    counts = count_runs(collected)
    head = f"{counts.pop('finished', 0)} of {count_runs(collected).total()} runs finished"
    return "; ".join([head, ", ".join(state_words(counts))]) if counts.total() else head
