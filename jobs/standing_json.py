"""A study's standing for programs: JSON, with every run."""

import json
from datetime import timedelta
from typing import Any

from caltech_exp.plan import PlannedRun
from jobs.last_lines import last_lines
from jobs.standing import Standing


def as_json(now: Standing, *, failures: bool) -> str:
    """One object: the folder, when it was looked at, counts by state, table and section, the end, every run.

    Times are UTC in ISO 8601, lengths seconds; null is what nobody knows. `note` says why Slurm was not asked,
    `waiting` its reasons with the tasks that wait for each, `preparation` is the job that decodes images first,
    `unprepared` says why the last one failed.
    """
    ahead = now.outlook
    whole = {
        "folder": str(now.folder),
        "when": _time(now, 0.0),
        "note": now.note or None,
        "counts": dict(now.counts),
        "sections": {section: dict(counts) for section, counts in now.sections.items()},
        "tables": {f"{section}.{table}": dict(counts) for (section, table), counts in now.tables.items()},
        "seconds_left": ahead.left,
        "expected_end": _time(now, ahead.left),
        "at_once": ahead.at_once,
        "pending_seconds": ahead.pending,
        "report": now.report or None,
        "waiting": dict(now.reasons),
        "preparation": vars(now.preparation) if now.preparation else None,
        "unprepared": now.unprepared or None,
        "runs": [_run(now, run, failures) for run in now.plan],
    }
    return json.dumps(whole, indent=1)


def _run(now: Standing, run: PlannedRun, failures: bool) -> dict[str, Any]:
    state, left, log = now.states[run.id], now.outlook.ends.get(run.id), now.logs.get(run.id)
    known = {
        "id": run.id,
        "seed": run.seed,
        "serves": run.serves,
        "state": state.state,
        "detail": state.detail,
        "epoch": state.progress.epoch if state.progress else None,
        "epochs": run.config.epochs,
        "images_per_second": state.progress.images_per_second if state.progress else None,
        "silent_seconds": state.silent_seconds,
        "seconds_left": left,
        "expected_end": _time(now, left),
        "job": state.holder.job if state.holder else None,
        "host": state.holder.host if state.holder else None,
        "log": str(log) if log else None,
    }
    return {**known, "last_lines": [line[4:] for line in last_lines(now, run)]} if failures else known


def _time(now: Standing, seconds: float | None) -> str | None:
    return None if seconds is None else f"{now.when + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
