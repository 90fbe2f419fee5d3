"""From tables, seeds and a study's settings to the runs they ask for, each once."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from caltech_exp.catalog import Catalog, Section, Table, row_key, split_row_key
from caltech_exp.catalog.model import MAX_RUNS
from caltech_exp.cli import UserError, join_words, unknown
from caltech_exp.config import RunConfig, run_id, split_run_id
from caltech_exp.study.manifest import Manifest, PublishedSeeds
from caltech_exp.study.run_status import STATES
from caltech_exp.study.study import StudySettings

MAX_NAMES = 4
"""So many rows or tables are named in a line."""
Tables = Iterable[tuple[Section, Table]]


@dataclass(frozen=True)
class RunFilter:
    """The runs that section=, table= and state= name, each with commas; those that name nothing leave all."""

    sections: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    states: tuple[str, ...] = ()

    @classmethod
    def parse(cls, section: str, table: str, state: str = "", allowed: Sequence[str] = STATES) -> "RunFilter":
        """Raises UserError for a state that there is not, or that is not `allowed`."""
        names = split_names("state", state)
        for name in names:
            if name not in STATES:
                raise unknown("state", name, STATES)
            if name not in allowed:
                raise UserError(f"state={name}: such runs cannot be chosen here; give {', '.join(allowed)}")
        return cls(tuple(split_names("section", section)), tuple(split_table_names(table)), tuple(names))


EVERYTHING = RunFilter()


def split_names(key: str, text: str) -> list[str]:
    """The names of `key=a,b`."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise UserError(f"{key}={text}: there is an empty name between the commas; remove it")
    return names


NEXT_TABLE = re.compile(r",(?=\s*[a-z0-9_]+\.[a-z0-9_]+\s*(?:[=,]|$))")  # the comma before `section.table`


def split_table_names(text: str) -> list[str]:
    """The names of `table=a.b,c.d=row`. The label of a row may contain commas."""
    return [name.strip() for name in NEXT_TABLE.split(text)] if "=" in text else split_names("table", text)


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
    tables: Tables, seeds: Mapping[str, Sequence[int]] | Sequence[int], settings: StudySettings
) -> list[PlannedRun]:
    """Every row of the tables with its seeds; a configuration that several rows ask for is one run a seed.

    seeds  of every row, or by configuration id

    The order is the report's, all seeds of a configuration together. Raises UserError that names a row that the
    settings do not fit, or for more than MAX_RUNS.
    """
    rows: dict[str, list[str]] = {}
    first: dict[str, tuple[RunConfig, str]] = {}
    for section, table in tables:
        for row in table.rows:
            key = row_key(section.name, table.name, row.label)
            config = settings.apply(row.config, key)
            rows.setdefault(config.id, []).append(key)
            first.setdefault(config.id, (config, section.name))
    chosen = {config_id: seeds[config_id] if isinstance(seeds, Mapping) else seeds for config_id in first}
    if (count := sum(map(len, chosen.values()))) > MAX_RUNS:
        raise UserError(f"{count:,} runs are more than {MAX_RUNS:,}; use fewer seeds= or rows")
    return [
        PlannedRun(config, seed, section, tuple(rows[config_id]))
        for config_id, (config, section) in first.items()
        for seed in chosen[config_id]
    ]


def check_frozen_batchnorm(configs: Iterable[RunConfig]) -> None:
    """Raises UserError if frozen_batchnorm=eval has no effect on any run that has it."""
    chosen = [config for config in configs if config.frozen_batchnorm == "eval"]
    causes = list(dict.fromkeys(config.unused.get("frozen_batchnorm", "") for config in chosen))
    if causes and "" not in causes:
        raise UserError(
            f"frozen_batchnorm=eval has no effect with {join_words(causes)}: it needs frozen layers with batch "
            "normalisation; set model=resnet18 freeze=conv, or leave it out"
        )


def describe_seeds(plan: Iterable[PlannedRun]) -> str:
    """`scratch.lr=6e-2: 10 seeds, other rows 3`; empty if all rows have the same number.

    A table whose rows have the same number goes by its own name.
    """
    counts = Counter(row for run in plan for row in run.rows)
    by_table: dict[str, list[int]] = {}
    for row, count in counts.items():
        by_table.setdefault(split_row_key(row)[0], []).append(count)
    names: dict[int, list[str]] = {}
    for row, count in counts.items():
        in_table = by_table[table := split_row_key(row)[0]]
        is_whole = len(in_table) > 1 and len(set(in_table)) == 1
        names.setdefault(count, []).append(table if is_whole else row)
    *exceptions, most = sorted(names, key=lambda count: (len(names[count]), -count)) or [0]
    parts = []
    for count in exceptions:
        distinct = list(dict.fromkeys(names[count]))
        more = f" and {len(distinct) - MAX_NAMES} more" if len(distinct) > MAX_NAMES else ""
        parts.append(f"{', '.join(distinct[:MAX_NAMES])}{more}: {count} seed{'s' if count > 1 else ''}")
    return ", ".join([*parts, f"other rows {most}"]) if parts else ""


def requested_seeds(
    catalog: Catalog,
    settings: StudySettings,
    manifests: Iterable[Manifest],
    published: PublishedSeeds | None = None,
    results: Iterable[str] = (),
) -> dict[str, tuple[int, ...]]:
    """Configuration id -> the seeds of its runs, for every row of the catalog.

    They are all seeds that submissions asked for, here or where the study was published from; the catalog's where
    none did.

    results  ids of runs that count as asked for, because they have a result
    """
    named = catalog_seeds(catalog.tables, settings)
    asked = merge_seeds(
        [
            published.asked(named) if published else {},
            *(manifest.asked for manifest in manifests),
            *({config_id: (seed,)} for config_id, seed in map(split_run_id, results)),
        ]
    )
    return {config_id: asked.get(config_id) or seeds for config_id, seeds in named.items()}


def catalog_seeds(tables: Tables, settings: StudySettings) -> dict[str, tuple[int, ...]]:
    """Configuration id -> the seeds of all its rows in the tables."""
    return merge_seeds({settings.apply(row.config).id: row.seeds} for _, table in tables for row in table.rows)


def merge_seeds(requests: Iterable[Mapping[str, Iterable[int]]]) -> dict[str, tuple[int, ...]]:
    """Configuration id -> all its seeds in the requests, sorted."""
    merged: dict[str, set[int]] = {}
    for request in requests:
        for config_id, seeds in request.items():
            merged.setdefault(config_id, set()).update(seeds)
    return {config_id: tuple(sorted(seeds)) for config_id, seeds in merged.items()}
