"""The page's list of runs: what became of each, where it ran, and where its log is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caltech_exp.catalog import split_row_key
from caltech_exp.reporting.collect import Collected, RowRuns, Run
from caltech_exp.reporting.curve_json import keyed_rows
from caltech_exp.reporting.markup import NOTHING, printable
from caltech_exp.reporting.vocabulary import computed_with, shared_settings
from caltech_exp.study.manifest import SUBMISSIONS

MOST_LISTED = 20
"""Runs of a configuration that are listed, those without a result that counts first; of more only the number."""


@dataclass(frozen=True)
class RunLine:
    """A run as plain text. Accuracies are shares after the last epoch; `wall` is minutes; `where` names device,
    host and job; `logs` the folder of its last submission, within the runs folder."""

    id: str
    seed: int
    state: str
    logs: str
    detail: str
    val: str = NOTHING
    test: str = NOTHING
    wall: str = NOTHING
    where: str = NOTHING


@dataclass(frozen=True)
class RunGroup:
    """The runs of one configuration as plain text.

    anchor    the id that rows of tables link to
    rows      keys of the catalog's rows that ask for it
    missing   seeds of the study that were not submitted
    left_out  runs that are not listed
    """

    anchor: str
    settings: str
    rows: tuple[str, ...]
    runs: tuple[RunLine, ...]
    missing: tuple[int, ...]
    left_out: int

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of its rows, `scratch.lr`, each once."""
        return tuple(dict.fromkeys(split_row_key(key)[0] for key in self.rows))

    @property
    def has_logs(self) -> bool:
        return any(run.logs for run in self.runs)

    @property
    def has_details(self) -> bool:
        return any(run.detail for run in self.runs)


def anchor(row: RowRuns) -> str:
    """`runs-0123456789`: the place of a row's runs in the list."""
    return f"runs-{row.config.id}"


def run_groups(collected: Collected) -> list[RunGroup]:
    """A group per configuration, in the report's order; then one of the runs that no row asks for, if any."""
    logs = {
        run: f"{SUBMISSIONS}/{manifest.id}"
        for manifest in collected.manifests
        for task in manifest.tasks
        for run in task.runs
    }
    asked: dict[str, list[str]] = {}
    rows = keyed_rows(collected)
    for key, row in rows.items():
        asked.setdefault(anchor(row), []).append(key)
    groups = []
    for name, keys in asked.items():
        row = rows[keys[0]]
        lines, left_out = _lines(row.runs, logs)
        settings = f"{shared_settings([row.config])}; computed with {computed_with([row.config])}"
        groups.append(RunGroup(name, settings, tuple(keys), lines, row.missing, left_out))
    if collected.strays:
        lines, left_out = _lines(collected.strays, logs)
        groups.append(RunGroup("runs-strays", "Runs that no row of the report asks for", (), lines, (), left_out))
    return groups


def _lines(runs: Sequence[Run], logs: dict[str, str]) -> tuple[tuple[RunLine, ...], int]:
    """What is listed, by seed, and how many are not."""
    if len(runs) > MOST_LISTED:
        telling = sorted(runs, key=lambda run: (run.result is not None, run.seed))[:MOST_LISTED]
        listed: Sequence[Run] = sorted(telling, key=lambda run: run.seed)
    else:
        listed = runs
    return tuple(_line(run, logs.get(run.id, "")) for run in listed), len(runs) - len(listed)


def _line(run: Run, logs: str) -> RunLine:
    line = RunLine(run.id, run.seed, run.state, printable(logs), printable(run.detail))
    result = run.result
    if result is None:
        return line
    return replace(
        line,
        val=_share(result.val_accuracy),
        test=_share(result.test_accuracy),
        wall=f"{result.wall_seconds / 60:,.1f}",
        where=printable(f"{result.device.name} ({result.device.type}), {result.host}, job {result.job}"),
    )


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"
