"""The curves behind the page's plots as one JSON text: every run and every mean once, whatever shows it."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np

from caltech_exp.catalog import row_key
from caltech_exp.reporting.banner import picture_caution
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.curve_data import Quantity, bands, step_downs, values
from caltech_exp.reporting.outcome import Array, Outcome

MOST_SINGLE_RUNS = 10
"""Runs of a configuration whose own curves are embedded, the first finished and the first diverged ones; of more
the page shows mean and range over all, and these."""
DIGITS = 4
"""Significant digits of an embedded value: more than a plot can show."""
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


def curve_json(collected: Collected) -> str:
    """What reports/web/curves.js draws, safe inside a script element:

    {"rows": {"scratch.lr=5e-2": {"label", "config", "reported"}},
     "configs": {"<config id>": {"caution", "n", "mean", "low", "high", "steps", "runs", "left_out"}},
     "runs": {"<run id>": {"seed", "state", "train_loss", "val_loss", "val_accuracy"}}}

    `caution` is what every picture of the runs must say; mean, low and high hold a list per quantity, one value an
    epoch, null where there is none. Rows whose runs have no epoch yet are left out.
    """
    rows: dict[str, Any] = {}
    configs: dict[str, Any] = {}
    runs: dict[str, Any] = {}
    cautions: dict[str, str] = {}
    for key, row in keyed_rows(collected).items():
        finished, diverged = _with_epochs(row.finished), _with_epochs(row.diverged)
        if not finished and not diverged:
            continue
        rows[key] = {
            "label": row.row.label,
            "config": row.config.id,
            "reported": row.row.reported.mean if row.row.reported else None,
        }
        if row.config.id in configs:
            continue
        single = finished[:MOST_SINGLE_RUNS] + diverged[:MOST_SINGLE_RUNS]
        if row.config.weights not in cautions:  # all else that it depends on is the study's
            cautions[row.config.weights] = picture_caution(collected, row.config)
        configs[row.config.id] = {
            "caution": cautions[row.config.weights],
            **_config(finished, diverged, single),
        }
        runs |= {result.run_id: _run(result) for result in single}
    text = json.dumps({"rows": rows, "configs": configs, "runs": runs}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # no text of a file can end the script element


def keyed_rows(collected: Collected) -> dict[str, RowRuns]:
    """Every row of the catalog by its key, in the report's order."""
    return {
        row_key(section.name, table.name, row.row.label): row
        for section, table in collected.catalog.tables
        for row in collected.of(section, table)
    }


def _with_epochs(results: Iterable[Outcome]) -> list[Outcome]:
    return [result for result in results if result.epochs]


def _config(finished: Sequence[Outcome], diverged: Sequence[Outcome], single: Sequence[Outcome]) -> dict[str, Any]:
    parts: dict[str, dict[str, list[float | None]]] = {"mean": {}, "low": {}, "high": {}}
    for quantity, over in bands(finished, QUANTITIES).items() if finished else ():
        for part in parts:
            parts[part][quantity] = _short(getattr(over, part))
    return {
        "n": len(finished),
        **parts,
        "steps": step_downs([*finished, *diverged]),
        "runs": [result.run_id for result in single],
        "left_out": len(finished) + len(diverged) - len(single),
    }


def _run(result: Outcome) -> dict[str, Any]:
    curves: dict[str, Any] = {quantity: _short(values(result, quantity)) for quantity in QUANTITIES}
    return {"seed": result.seed, "state": result.status, **curves}


def _short(numbers: Array) -> list[float | None]:
    """Values of shape (epochs,) with DIGITS significant digits; None for those that are not finite."""
    known = np.isfinite(numbers) & (numbers != 0)
    size = np.floor(np.log10(np.abs(numbers), where=known, out=np.zeros(len(numbers))))
    scale = 10.0 ** (DIGITS - 1 - size)
    rounded = np.round(numbers * scale) / scale
    return [value if math.isfinite(value) else None for value in rounded.tolist()]
