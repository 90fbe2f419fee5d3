"""The page's live data: the curves of every row as one JSON text, and the list of all runs."""

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from caltech_exp.catalog import split_row_key
from caltech_exp.reporting.comparison import TableRow, all_rows
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.wording import computed_with, shared_settings

Run: TypeAlias = dict[Hashable, Any]
RUN_VALUES = [
    *("run_id", "config_id", "seed", "state", "detail", "rows", "val_accuracy", "test_accuracy"),
    *("minutes", "device", "device_type", "host", "job"),
]
"""What the list of runs shows: columns of StudyFrames.runs, and the minutes of wall time."""
ORDER = {"finished": 0, "diverged": 1, "running": 2}
UNREQUESTED = "unrequested"
QUANTITIES = ["train_loss", "val_loss", "val_accuracy"]
DIGITS = 8
"""Significant digits of an embedded value: with three decimals it reads as the table's own mean does."""
MOST_SINGLE_RUNS = 10
"""Runs of a configuration whose own curves are embedded, the first finished and the first diverged ones. Mean and
range are over all."""
MOST_LISTED = 20
"""Runs of a configuration that are listed, those without a result first; of more only the number."""


def curve_json(study: StudyFrames) -> str:
    """What web/live_curves.js draws, safe inside a script element:

    {"rows": {"scratch.lr=5e-2": {"label", "config", "reported"}},
     "configs": {"<config id>": {"n", "mean", "low", "high", "steps", "runs", "left_out"}},
     "runs": {"<run id>": {"seed", "state", "train_loss", "val_loss", "val_accuracy"}}}

    mean, low and high hold a list per quantity, one value an epoch, null where there is none. Rows whose runs have
    no epoch yet are left out.
    """
    every = pd.concat([study.epochs, study.running])
    ended = study.requested[study.requested["run_id"].isin(every["run_id"])]
    is_finished = study.epochs["run_id"].isin(ended.loc[ended["state"] == "finished", "run_id"])
    finished = study.epochs[is_finished].replace([np.inf, -np.inf], np.nan)
    by_epoch = finished.groupby(["config_id", "epoch"])[QUANTITIES]
    # Mean, low and high of a configuration, one line an epoch.
    parts = {
        part: _groups(frame, "config_id")
        for part, frame in (("mean", by_epoch.mean()), ("low", by_epoch.min()), ("high", by_epoch.max()))
    }
    single = ended.groupby(["config_id", "state"], sort=False).head(MOST_SINGLE_RUNS)
    # Finished runs before diverged ones, then those in training.
    single = single.sort_values("state", key=lambda states: states.map(ORDER), kind="stable")
    epochs = every[every["run_id"].isin(single["run_id"])]
    curves = _groups(epochs, "run_id")
    runs_of, single_of = _groups(ended, "config_id"), _groups(single, "config_id")
    configs = {
        config: {
            "n": int((runs["state"] == "finished").sum()),
            **{part: _lists(frames[config]) if config in frames else {} for part, frames in parts.items()},
            "steps": _step_downs([curves[name] for name in single_of[config]["run_id"]]),
            "runs": single_of[config]["run_id"].tolist(),
            "left_out": len(runs) - len(single_of[config]),
        }
        for config, runs in runs_of.items()
    }
    data = {
        "rows": {
            row.key: {
                "label": row.label,
                "config": row.config.id,
                "reported": row.reported.mean if row.reported else None,
            }
            for row in all_rows(study)
            if row.config.id in configs
        },
        "configs": configs,
        "runs": {
            run["run_id"]: {"seed": run["seed"], "state": run["state"], **_lists(curves[run["run_id"]])}
            for run in single[["run_id", "seed", "state"]].to_dict("records")
        },
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # no text of a file can end the script element


def _groups(frame: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """The lines of each value of a column or level."""
    return {str(value): lines for value, lines in frame.groupby(name, sort=False)}


def _lists(frame: pd.DataFrame) -> dict[str, list[float | None]]:
    """A list per quantity, of DIGITS significant digits; None for values that are not finite."""
    return {
        name: [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in frame[name].tolist()]
        for name in QUANTITIES
    }


def _step_downs(curves: list[pd.DataFrame]) -> list[float]:
    """Where the learning rate steps down: between epochs 20 and 21 is 20.5."""
    rates = max(curves, key=len)["lr"].tolist()
    return [number + 0.5 for number, (before, after) in enumerate(pairwise(rates), start=1) if after < before]


@dataclass(frozen=True)
class RunGroup:
    """The runs of one configuration.

    anchor    the id that rows of tables link to
    runs      those that are listed: RUN_VALUES by name, None where there is none
    rows      keys of the catalog's rows that ask for it
    missing   seeds of the study that were not submitted
    left_out  runs that are not listed
    """

    anchor: str
    settings: str
    rows: tuple[str, ...]
    runs: tuple[Run, ...]
    missing: tuple[int, ...]
    left_out: int

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of its rows, `scratch.lr`, each once."""
        return tuple(dict.fromkeys(split_row_key(key)[0] for key in self.rows))

    @property
    def has_details(self) -> bool:
        return any(run["detail"] for run in self.runs)


def row_anchors(study: StudyFrames) -> dict[str, str]:
    """The place of a row's runs in the list: `scratch.lr=5e-2` -> `runs-0123456789`."""
    return {row.key: f"runs-{row.config.id}" for row in all_rows(study)}


def run_groups(study: StudyFrames) -> list[RunGroup]:
    """A group per configuration, in the report's order, and one of the runs that no row asks for."""
    runs_of: dict[str, list[Run]] = {}
    known = study.runs.assign(minutes=study.runs["wall_seconds"] / 60)[RUN_VALUES].astype(object)
    for run in known.where(known.notna(), None).to_dict("records"):
        runs_of.setdefault(run["config_id"] if run["rows"] else UNREQUESTED, []).append(run)
    rows_of: dict[str, list[TableRow]] = {}
    for row in all_rows(study):
        rows_of.setdefault(row.config.id, []).append(row)
    groups = [_group(config, runs_of[config], rows) for config, rows in rows_of.items()]
    return [*groups, _group(UNREQUESTED, runs_of[UNREQUESTED], [])] if UNREQUESTED in runs_of else groups


def _group(name: str, runs: Sequence[Run], rows: Sequence[TableRow]) -> RunGroup:
    configs = [row.config for row in rows]
    submitted = [run for run in runs if run["state"] != "pending"]
    without_result_first = sorted(submitted, key=lambda run: run["val_accuracy"] is not None)
    listed = without_result_first[:MOST_LISTED]
    return RunGroup(
        anchor=f"runs-{name}",
        settings=f"{shared_settings(configs)}; computed with {computed_with(configs)}" if configs else "",
        rows=tuple(row.key for row in rows),
        runs=tuple(sorted(listed, key=lambda run: (run["seed"], run["run_id"]))),
        missing=tuple(run["seed"] for run in runs if run["state"] == "pending"),
        left_out=len(submitted) - len(listed),
    )
