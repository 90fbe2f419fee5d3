"""From tables, seeds and a study's settings to the runs they ask for, each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from caltech_exp.catalog import Section, Table, row_key
from caltech_exp.config import RunConfig, run_id
from caltech_exp.study.study import StudySettings


@dataclass(frozen=True)
class PlannedRun:
    """A run, and the keys of all table rows that show it; `section` is the first row's."""

    config: RunConfig
    seed: int
    section: str
    rows: tuple[str, ...]

    @cached_property  # a hash of the settings: studies of 10,000 runs ask for it often
    def id(self) -> str:
        return run_id(self.config, self.seed)


def expand(
    tables: Iterable[tuple[Section, Table]], seeds: Sequence[int], settings: StudySettings
) -> list[PlannedRun]:
    """Every row of the tables with every seed; a configuration that several rows ask for is one run.

    The order is the report's, all seeds of a configuration together. Raises UserError that names a row that the
    settings do not fit.
    """
    rows: dict[str, list[str]] = {}
    first: dict[str, tuple[RunConfig, str]] = {}
    for section, table in tables:
        for row in table.rows:
            key = row_key(section.name, table.name, row.label)
            config = settings.apply(row.config, key)
            rows.setdefault(config.id, []).append(key)
            first.setdefault(config.id, (config, section.name))
    return [
        PlannedRun(config, seed, section, tuple(rows[config_id]))
        for config_id, (config, section) in first.items()
        for seed in seeds
    ]
