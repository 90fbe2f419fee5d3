"""From tables, seeds and a study's settings to the runs they ask for, each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caltech_exp.catalog import Section, Table
from caltech_exp.config import RunConfig, run_id
from caltech_exp.errors import UserError
from caltech_exp.study import StudySettings

MAX_SEEDS = 100_000


@dataclass(frozen=True)
class PlannedRun:
    """A run and every table row that shows it, as `section.table=row`; `section` is the first one's."""

    config: RunConfig
    seed: int
    section: str
    serves: tuple[str, ...]

    @property
    def id(self) -> str:
        return run_id(self.config, self.seed)


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` -> (0, 1, 2); `0,1,5` -> (0, 1, 5); `7,` -> (7,). Raises UserError for anything else."""
    takes = "seeds takes how many, from 1 (seeds=3), or a list of seeds (seeds=0,1,2, or seeds=7, for one)"
    parts = [part.strip() for part in text.split(",")]
    listed = len(parts) > 1
    if listed and not parts[-1]:
        parts.pop()
    if not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise UserError(f"seeds={text}: {takes}")
    numbers = tuple(int(part) for part in parts)
    if listed:
        if len(set(numbers)) != len(numbers):
            raise UserError(f"seeds={text}: a seed stands there twice; {takes}")
        if max(numbers) >= 2**32:
            raise UserError(f"seeds={text}: a seed is below 2**32; {takes}")
        return numbers
    if not 1 <= numbers[0] <= MAX_SEEDS:
        raise UserError(f"seeds={text}: {takes}, at most {MAX_SEEDS}")
    return tuple(range(numbers[0]))


def expand(
    tables: Iterable[tuple[Section, Table]], seeds: Sequence[int], settings: StudySettings
) -> list[PlannedRun]:
    """Every row of the tables with every seed; a configuration that several rows ask for is one run.

    The order is the report's, all seeds of a configuration together.
    """
    serves: dict[str, list[str]] = {}
    first: dict[str, tuple[RunConfig, str]] = {}
    for section, table in tables:
        for row in table.rows:
            config = settings.apply(row.config)
            serves.setdefault(config.id, []).append(f"{section.name}.{table.name}={row.label}")
            first.setdefault(config.id, (config, section.name))
    return [
        PlannedRun(config, seed, section, tuple(serves[config_id]))
        for config_id, (config, section) in first.items()
        for seed in seeds
    ]
