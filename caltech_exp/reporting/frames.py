"""A study as pandas frames, for reports and notebooks.

    from caltech_exp import read_study
    study = read_study("runs")
    study.runs.query("state == 'finished'").groupby("config_id")["val_accuracy"].agg(["mean", "std", "count"])

docs/notebooks.md lists the columns and has more examples.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from caltech_exp.catalog import Row, row_key
from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig, run_id, split_run_id
from caltech_exp.reporting.collect import Collected, Run, collect
from caltech_exp.reporting.outcome import COLUMNS as EPOCH_VALUES
from caltech_exp.reporting.outcome import Outcome
from caltech_exp.reporting.vocabulary import HOW_NOT_WHAT
from caltech_exp.study.study import StudySettings

# Missing values are NaN in float64 and <NA> in the other types.
FLOAT, INTEGER, TEXT, FLAG = "float64", "Int64", "string", "boolean"
SETTINGS = {
    name: {int: INTEGER, float: FLOAT}.get(type(field.default), TEXT)
    for name, field in RunConfig.model_fields.items()
}
RESULTS = {
    "first_loss": FLOAT,
    "val_accuracy": FLOAT,
    "best_val_accuracy": FLOAT,
    "balanced_accuracy": FLOAT,
    "test_loss": FLOAT,
    "test_accuracy": FLOAT,
    "wall_seconds": FLOAT,
    "images_per_second": FLOAT,
    "peak_memory_bytes": INTEGER,
    "energy_joules": FLOAT,
    "attempts": INTEGER,
    "job": TEXT,
    "host": TEXT,
    "started": TEXT,
    "weights_sha256": TEXT,
}
ORIGIN = {
    "device": TEXT,
    "device_type": TEXT,
    "torch": TEXT,
    "code": TEXT,
    "data": TEXT,
    "is_simulated": FLAG,
    "is_stand_in": FLAG,
}
RUN_COLUMNS = {
    "run_id": TEXT,
    "config_id": TEXT,
    "seed": INTEGER,
    "state": TEXT,
    "detail": TEXT,
    "rows": TEXT,
    "is_overridden": FLAG,
    **SETTINGS,
    "epochs_done": INTEGER,
    **RESULTS,
    **ORIGIN,
}
EPOCH_COLUMNS = {"run_id": TEXT, "config_id": TEXT, "seed": INTEGER, "epoch": INTEGER} | dict.fromkeys(
    EPOCH_VALUES, FLOAT
)
ROW_COLUMNS = {
    "key": TEXT,
    "section": TEXT,
    "table": TEXT,
    "row": TEXT,
    "config_id": TEXT,
    "is_overridden": FLAG,
    **SETTINGS,
    "reported_mean": FLOAT,
    "reported_std": FLOAT,
    "reported_runs": INTEGER,
    "reported_diverges": FLAG,
}


@dataclass(frozen=True)
class StudyFrames:
    """A study as frames.

    runs      one line a run that a row asks for, that was submitted, or that left a folder
    epochs    one line an epoch of a run with a result
    rows      one line a row of the study's tables, with the value that the report prints for it
    problems  records of the study that cannot be read, in words: what they hold is missing in the frames
    """

    folder: Path
    runs: pd.DataFrame
    epochs: pd.DataFrame
    rows: pd.DataFrame
    problems: tuple[str, ...] = ()

    @cached_property
    def row_runs(self) -> pd.DataFrame:
        """One line a row and run: `rows` with the columns of `runs` that it lacks."""
        columns = ["config_id", *(name for name in self.runs if name not in ROW_COLUMNS)]
        return self.rows.merge(self.runs[columns], on="config_id", how="left")


def read_study(folder: str | os.PathLike[str]) -> StudyFrames:
    """Read the study in a folder that jobs/submit.py wrote, or reports/publish.py.

    Raises UserError if the folder holds neither a study nor runs.
    """
    collected = collect(Path(folder).expanduser())
    if collected.study is None and not any(run.result for run in (*collected.all_runs(), *collected.strays)):
        raise UserError(f"{folder} holds no study; give the folder that jobs/submit.py wrote into")
    return to_frames(collected)


def to_frames(collected: Collected) -> StudyFrames:
    """The frames of a study that has been read."""
    rows = [
        _row_values(section.name, table.name, runs.row, runs.config, collected.settings)
        for section, table in collected.catalog.tables
        for runs in collected.of(section, table)
    ]
    return StudyFrames(
        folder=collected.folder,
        runs=_frame(_run_lines(collected, rows), RUN_COLUMNS),
        epochs=_epochs(run.result for run in _every_run(collected) if run.result),
        rows=_frame(rows, ROW_COLUMNS),
        problems=tuple(f"{record.path}: {record.reason}" for record in collected.damaged),
    )


def _frame(lines: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=list(columns)).astype(dict(columns))


def _row_values(section: str, table: str, row: Row, config: RunConfig, settings: StudySettings) -> dict[str, Any]:
    reported = row.reported
    return {
        "key": row_key(section, table, row.label),
        "section": section,
        "table": table,
        "row": row.label,
        "config_id": config.id,
        "is_overridden": is_overridden(row.config, settings),
        **config.model_dump(),
        "reported_mean": reported.mean if reported else None,
        "reported_std": reported.std if reported else None,
        "reported_runs": reported.runs if reported else None,
        "reported_diverges": row.diverges,
    }


def is_overridden(config: RunConfig, settings: StudySettings) -> bool:
    """Whether the study trains something else than the row says, so that its reported value does not hold."""
    return any(
        value != getattr(config, name) for name, value in settings.overrides.items() if name not in HOW_NOT_WHAT
    )


def _every_run(collected: Collected) -> tuple[Run, ...]:
    return (*collected.all_runs(), *collected.strays)


def _run_lines(collected: Collected, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs in the order of the tables, seed by seed, then those that no row asks for."""
    rows_of: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        rows_of.setdefault(row["config_id"], []).append(row)
    lines = {}
    for table_row in collected.all_rows():
        unsubmitted = [Run(run_id(table_row.config, seed), seed, "pending") for seed in table_row.missing]
        for run in sorted([*table_row.runs, *unsubmitted], key=lambda run: run.seed):
            lines[run.id] = _run_values(run, rows_of[table_row.config.id], table_row.config)
    for run in collected.strays:
        lines[run.id] = _run_values(run, [], run.result.config if run.result else None)
    return list(lines.values())


def _run_values(run: Run, rows: list[dict[str, Any]], config: RunConfig | None) -> dict[str, Any]:
    values = {
        "run_id": run.id,
        "config_id": split_run_id(run.id)[0],
        "seed": run.seed,
        "state": run.state,
        "detail": run.detail,
        "rows": "; ".join(row["key"] for row in rows),
        "is_overridden": any(row["is_overridden"] for row in rows),
        **(config.model_dump() if config else {}),
    }
    result = run.result
    if result is None:
        return values
    return values | {
        "epochs_done": len(result.epochs),
        **{name: getattr(result, name) for name in RESULTS},
        "device": result.device.name,
        "device_type": result.device.type,
        "torch": result.libraries.get("torch"),
        "code": result.all_code,
        "data": result.data.fingerprint,
        "is_simulated": result.data.simulated,
        "is_stand_in": result.data.stand_in,
    }


def _epochs(results: Iterable[Outcome]) -> pd.DataFrame:
    results = list(results)
    lengths = [len(result.epochs) for result in results]
    tables = [result.epochs.table for result in results] or [np.empty((0, len(EPOCH_VALUES)))]
    frame = pd.DataFrame(np.concatenate(tables), columns=list(EPOCH_VALUES))
    frame.insert(0, "run_id", np.repeat([result.run_id for result in results], lengths))
    frame.insert(1, "config_id", np.repeat([result.config.id for result in results], lengths))
    frame.insert(2, "seed", np.repeat([result.seed for result in results], lengths))
    frame.insert(3, "epoch", [number for length in lengths for number in range(1, length + 1)])
    return frame.astype(EPOCH_COLUMNS)
