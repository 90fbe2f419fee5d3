"""From tables, seeds and a study's settings to the runs they ask for, each once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from caltech_exp.catalog import Catalog, Section, Table, row_key
from caltech_exp.config import RunConfig, run_id, split_run_id
from caltech_exp.study.manifest import Manifest, PublishedSeeds, SeedRequest
from caltech_exp.study.study import StudySettings

Tables = Iterable[tuple[Section, Table]]


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
        for seed in (seeds[config_id] if isinstance(seeds, Mapping) else seeds)
    ]


def requested_seeds(
    catalog: Catalog,
    settings: StudySettings,
    manifests: Iterable[Manifest],
    published: PublishedSeeds | None = None,
    results: Iterable[str] = (),
) -> dict[str, tuple[int, ...]]:
    """Configuration id -> the seeds of its runs, for every row of the catalog.

    They are all seeds that submissions asked for, here or where the study was published from. Where none did, they
    are the catalog's, of all rows of the configuration together.

    results  ids of runs that count as asked for, because they have a result
    """
    seeds = _catalog_seeds(catalog.tables, settings)
    asked = _asked_seeds(seeds, manifests, published, results)
    return {config_id: tuple(sorted(asked[config_id] or seeds[config_id])) for config_id in seeds}


def seeds_to_submit(
    tables: Tables, settings: StudySettings, manifests: Iterable[Manifest], published: PublishedSeeds
) -> dict[str, tuple[int, ...]]:
    """Configuration id -> the seeds that a user who names none submits: the catalog's and all asked for before."""
    seeds = _catalog_seeds(tables, settings)
    asked = _asked_seeds(seeds, manifests, published)
    return {config_id: tuple(sorted(asked[config_id] | seeds[config_id])) for config_id in seeds}


def _asked_seeds(
    config_ids: Iterable[str],
    manifests: Iterable[Manifest],
    published: PublishedSeeds | None,
    results: Iterable[str] = (),
) -> dict[str, set[int]]:
    published = published or PublishedSeeds()
    asked = merge_requests([*published.requests, *(part for manifest in manifests for part in manifest.asked)])
    for config_id, seed in map(split_run_id, results):
        asked.setdefault(config_id, set()).add(seed)
    of_every_row = set(() if published.requests else published.seeds)
    return {config_id: of_every_row | asked.get(config_id, set()) for config_id in config_ids}


def _catalog_seeds(tables: Tables, settings: StudySettings) -> dict[str, set[int]]:
    seeds: dict[str, set[int]] = {}
    for _, table in tables:
        for row in table.rows:
            seeds.setdefault(settings.apply(row.config).id, set()).update(row.seeds)
    return seeds


def merge_requests(requests: Iterable[SeedRequest]) -> dict[str, set[int]]:
    """Configuration id -> all seeds that were asked for it."""
    seeds: dict[str, set[int]] = {}
    for request in requests:
        for config_id in request.configs if request.seeds else ():
            seeds.setdefault(config_id, set()).update(request.seeds)
    return seeds


def group_requests(seeds: Mapping[str, Iterable[int]]) -> tuple[SeedRequest, ...]:
    """The same seeds by configuration id as requests, each for all configurations with the same seeds."""
    configs: dict[tuple[int, ...], list[str]] = {}
    for config_id in sorted(seeds):
        configs.setdefault(tuple(sorted(seeds[config_id])), []).append(config_id)
    return tuple(SeedRequest(seeds=own, configs=tuple(configs[own])) for own in sorted(configs))
