"""All runs as one CSV."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from caltech_exp import provenance
from caltech_exp.catalog import row_key
from caltech_exp.config import RunConfig, split_run_id
from caltech_exp.reporting import outcome, recall, table_files
from caltech_exp.reporting.collect import Collected, Run
from caltech_exp.reporting.grid import Value
from caltech_exp.reporting.line_file import Lines, write_lines
from caltech_exp.reporting.outcome import Outcome
from caltech_exp.reporting.table_files import csv_lines
from caltech_exp.study import results

SETTINGS = tuple(RunConfig.model_fields)
RESULT_COLUMNS = (
    "first_loss",
    "val_accuracy",
    "best_val_accuracy",
    "test_loss",
    "test_accuracy",
    "balanced_accuracy",
    "wall_seconds",
    "attempts",
    "images_per_second",
    "peak_memory_bytes",
    "energy_joules",
    "job",
    "host",
    "started",
)
ORIGIN = ("device", "device_type", "code", "torch", "simulated", "stand_in")
HEADINGS = ("run_id", "seed", "state", "rows", *SETTINGS, "epochs_done", *RESULT_COLUMNS, *ORIGIN, "detail")
WRITERS = (__file__, *(str(module.__file__) for module in (provenance, results, outcome, recall, table_files)))
"""The code that decides what a line holds."""


@dataclass(frozen=True)
class Asked:
    """What the report asks of a configuration: the rows that its runs serve, its settings, a digest of both."""

    rows: str
    settings: tuple[Value, ...]
    digest: str


def write_runs(path: Path, index: Path, collected: Collected) -> None:
    """One line per run that is known of, those that no row asks for too: settings, state, numbers, origin.

    `index` remembers where the line of every run stands in `path`. Raises OSError.
    """
    code = b"".join(Path(file).read_bytes() for file in WRITERS)
    write_lines(path, index, csv_lines([HEADINGS]), _entries(collected), code)


def every_outcome(collected: Collected) -> list[Outcome]:
    """Of all runs, in the order of `write_runs`."""
    return [run.result for run in (*collected.all_runs(), *collected.strays) if run.result]


def _entries(collected: Collected) -> Iterator[Lines]:
    of_config = _asked(collected)
    for run in (*collected.all_runs(), *collected.strays):
        asked = of_config.get(split_run_id(run.id)[0])
        # The digest is of all but the balanced accuracy, which is computed from what the result holds.
        shows = (run.result.digest, repr(run.result.balanced_accuracy)) if run.result else ()
        parts = (asked.digest if asked else "", *shows, run.state, run.detail)
        yield run.id, " ".join(parts), partial(_line, run, asked)


def _asked(collected: Collected) -> dict[str, Asked]:
    """By id of the configuration."""
    rows: dict[str, list[str]] = {}
    settings: dict[str, tuple[Value, ...]] = {}
    for (section, table), of_table in collected.rows.items():
        for row in of_table:
            rows.setdefault(row.config.id, []).append(row_key(section, table, row.row.label))
            settings[row.config.id] = _settings(row.config)
    found = {}
    for name, words in rows.items():
        text = "; ".join(words)
        digest = hashlib.blake2b(repr((text, settings[name])).encode(), digest_size=16).hexdigest()
        found[name] = Asked(text, settings[name], digest)
    return found


def _line(run: Run, asked: Asked | None) -> str:
    one = run.result
    settings: Sequence[Value] = (None,) * len(SETTINGS)
    if asked:
        settings = asked.settings
    elif one:
        settings = _settings(one.config)
    rows = asked.rows if asked else ""
    return csv_lines([(run.id, run.seed, run.state, rows, *settings, *_numbers(one), run.detail)])


def _settings(config: RunConfig) -> tuple[Value, ...]:
    return tuple(getattr(config, name) for name in SETTINGS)


def _numbers(one: Outcome | None) -> Sequence[Value]:
    """The columns from `epochs_done` to `stand_in`."""
    if one is None:
        return (None,) * (1 + len(RESULT_COLUMNS) + len(ORIGIN))
    return (
        len(one.epochs),
        *(getattr(one, name) for name in RESULT_COLUMNS),
        one.device.name,
        one.device.type,
        one.all_code,
        one.libraries.get("torch"),
        str(one.data.simulated).lower(),
        str(one.data.stand_in).lower(),
    )
