"""Everything a runs folder tells about the report's rows, read once; nothing damaged passes unnamed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from caltech_exp.catalog import THE_REPORT, Catalog, Row, Section, Table
from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig, split_run_id
from caltech_exp.records import Corrupt
from caltech_exp.reporting.measured import Measured, measure
from caltech_exp.reporting.outcome import Outcome
from caltech_exp.reporting.published import NOT_COUNTED, Published, other_data, read_published
from caltech_exp.reporting.reading import Seen, read_runs, run_names
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, read_manifests
from caltech_exp.study.study import RUN_FOLDER, Study, StudySettings


@dataclass(frozen=True)
class Run:
    """A run that was submitted or left a folder, here or where the study was published from.

    state   one of caltech_exp.study.run_status.State, or NOT_COUNTED for a result of another data set
    result  of a finished or diverged run that counts
    """

    id: str
    seed: int
    state: str
    detail: str = ""
    result: Outcome | None = None


@dataclass(frozen=True)
class RowRuns:
    """A row of the catalog, its configuration in this study, and its runs by seed.

    missing  seeds of the study without a run of this row: not submitted
    """

    row: Row
    config: RunConfig
    runs: tuple[Run, ...]
    missing: tuple[int, ...]

    @cached_property
    def finished(self) -> tuple[Outcome, ...]:
        return tuple(run.result for run in self.runs if run.result and run.state == "finished")

    @cached_property
    def diverged(self) -> tuple[Outcome, ...]:
        return tuple(run.result for run in self.runs if run.result and run.state == "diverged")

    @cached_property
    def measured(self) -> Measured:
        """Over the finished runs."""
        return measure(self.finished)


@dataclass(frozen=True)
class Collected:
    """A study as its files tell it.

    fingerprint  of the data set whose results count; None where there is neither a study nor a result
    catalog      what the study asks; the report where there is no study
    seeds        that the study's submissions name, here or where it was published from; or the catalog's
    rows         (section name, table name) -> the table's rows in its order
    strays       runs in the folder that no row of the report asks for with this study's settings
    damaged      manifests, or a record of what was published, that cannot be read
    """

    folder: Path
    study: Study | None
    catalog: Catalog
    settings: StudySettings
    fingerprint: str | None
    seeds: tuple[int, ...]
    rows: dict[tuple[str, str], tuple[RowRuns, ...]]
    strays: tuple[Run, ...]
    manifests: tuple[Manifest, ...]
    damaged: tuple[Corrupt, ...]

    def all_rows(self) -> Iterable[RowRuns]:
        return (row for rows in self.rows.values() for row in rows)

    def all_runs(self) -> tuple[Run, ...]:
        """Every run that a row asks for, once, in the report's order."""
        return self._all_runs

    def results(self) -> tuple[Outcome, ...]:
        """Every result that counts, once."""
        return self._results

    @cached_property
    def _all_runs(self) -> tuple[Run, ...]:
        return tuple({run.id: run for row in self.all_rows() for run in row.runs}.values())

    @cached_property
    def _results(self) -> tuple[Outcome, ...]:
        return tuple(run.result for run in self.all_runs() if run.result)

    @cached_property
    def simulated(self) -> bool:
        """Whether the study, or any result of it, was drawn at random by tests/tools/simulate.py."""
        of_study = self.study is not None and self.study.data.simulated
        return of_study or any(result.data.simulated for result in self.results())

    @cached_property
    def stand_in(self) -> bool:
        """Whether the study, or any result of it, is of a generated stand-in for the data set."""
        of_study = self.study is not None and self.study.data.stand_in
        return of_study or any(result.data.stand_in for result in self.results())

    def of(self, section: Section, table: Table) -> tuple[RowRuns, ...]:
        return self.rows[section.name, table.name]


def collect(folder: Path, cache: Path | None = None) -> Collected:
    """Read the study in `folder`; a folder that is not there is an empty study.

    `cache` is a file that keeps what was read for the next time.
    Raises UserError if `folder` is a file or its study record is damaged, OSError if it cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"runs={folder} is a file; give the folder of a study")
    study = StudyFolder(folder).study()
    settings = study.settings if study else StudySettings()
    catalog = study.catalog if study else THE_REPORT
    found = read_manifests(folder)
    manifests = tuple(manifest for manifest in found if isinstance(manifest, Manifest))
    submitted = {name for m in manifests for task in m.tasks for name in task.runs if RUN_FOLDER.fullmatch(name)}
    record = read_published(folder)
    left = record if isinstance(record, Published) else Published()
    names = sorted(submitted | run_names(folder) | set(filter(RUN_FOLDER.fullmatch, left.runs)))
    states = read_runs(folder, names, submitted, cache)
    for name, one in left.runs.items():
        if name in states and states[name].state == "pending":  # its files tell nothing: they stayed behind
            states[name] = Seen(one.state, one.detail)
    fingerprint = study.data.fingerprint if study else _commonest_data(states.values())
    runs = [_run(name, state, fingerprint) for name, state in states.items()]
    seeds = tuple(sorted({*left.seeds, *(seed for m in manifests for seed in m.seeds)})) or catalog.seeds
    rows = _rows(catalog, settings, runs, seeds)
    asked = {run.id for table in rows.values() for row in table for run in row.runs}
    return Collected(
        folder=folder,
        study=study,
        catalog=catalog,
        settings=settings,
        fingerprint=fingerprint,
        seeds=seeds,
        rows=rows,
        strays=tuple(run for run in runs if run.id not in asked),
        manifests=manifests,
        damaged=tuple(one for one in (*found, record) if isinstance(one, Corrupt)),
    )


def _commonest_data(states: Iterable[Seen]) -> str | None:
    """Without a study record, the data set of most results counts."""
    prints = Counter(state.outcome.data.fingerprint for state in states if state.outcome)
    return prints.most_common(1)[0][0] if prints else None


def _run(name: str, state: Seen, fingerprint: str | None) -> Run:
    _, seed = split_run_id(name)
    result = state.outcome
    if result and result.data.fingerprint != fingerprint:
        return Run(name, seed, NOT_COUNTED, other_data(result.data.fingerprint))
    return Run(name, seed, state.state, state.detail, result)


def _rows(
    catalog: Catalog, settings: StudySettings, runs: list[Run], seeds: tuple[int, ...]
) -> dict[tuple[str, str], tuple[RowRuns, ...]]:
    of_config: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        of_config.setdefault(split_run_id(run.id)[0], []).append(run)

    def row_runs(row: Row) -> RowRuns:
        config = settings.apply(row.config)
        own = tuple(of_config.get(config.id, ()))
        return RowRuns(row, config, own, tuple(sorted(set(seeds) - {run.seed for run in own})))

    return {
        (section.name, table.name): tuple(row_runs(row) for row in table.rows) for section, table in catalog.tables
    }
