"""A study's standing as text for people, and as JSON for programs."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from tabulate import tabulate

from caltech_exp.plan import PlannedRun
from caltech_exp.states import RunState
from jobs.standing import Standing

STATES = ("pending", "queued", "running", "finished", "diverged", "failed", "lost", "damaged")
MOST_RUNNING = 20
"""Runs in training that are listed; a screen has an end."""
LAST_LINES = 8


def as_text(now: Standing, *, failures: bool) -> str:
    """Runs by table and state, the runs in training, the expected end; with `failures`, why runs failed."""
    shown = [state for state in STATES if now.counts[state]]
    rows = [
        [f"{section}.{table}", *(counts[state] or "" for state in shown)]
        for (section, table), counts in now.tables.items()
        if set(counts) - {"pending"}
    ]
    idle = [f"{s}.{t}" for (s, t), counts in now.tables.items() if not set(counts) - {"pending"}]
    rows.append(["all runs, each once", *(now.counts[state] for state in shown)])
    parts = [f"study {now.folder}", tabulate(rows, headers=("table", *shown), disable_numparse=False)]
    if idle and len(rows) > 1:
        parts.append(f"nothing submitted of {', '.join(idle)}")
    parts += _running(now)
    if now.open:
        parts.append(f"expected end: {_end(now.left)}")
    bad = now.in_state("failed", "lost", "damaged")
    if bad and failures:
        parts += [_why(run, now.states[run.id], now.folder) for run in bad]
    elif bad:
        parts.append(f"{len(bad)} without a result: failed=true shows why, submit.py retry=failed tries again")
    return "\n\n".join(parts)


def as_json(now: Standing) -> str:
    """The same with every run."""
    runs = [
        {
            "id": run.id,
            "seed": run.seed,
            "serves": run.serves,
            "state": state.state,
            "detail": state.detail,
            "epoch": state.progress.epoch if state.progress else None,
            "epochs": run.config.epochs,
            "images_per_second": state.progress.images_per_second if state.progress else None,
        }
        for run in now.plan
        for state in [now.states[run.id]]
    ]
    tables = {f"{section}.{table}": dict(counts) for (section, table), counts in now.tables.items()}
    whole = {"folder": str(now.folder), "counts": dict(now.counts), "tables": tables, "seconds_left": now.left}
    return json.dumps({**whole, "runs": runs}, indent=1)


def _running(now: Standing) -> list[str]:
    running = now.in_state("running")
    if not running:
        return []
    lines = [(run.id, run.serves[0], now.states[run.id].detail) for run in running[:MOST_RUNNING]]
    more = f"\nand {len(running) - MOST_RUNNING} more" if len(running) > MOST_RUNNING else ""
    return [tabulate(lines, headers=("running", "for", ""), disable_numparse=True) + more]


def _end(left: float | None) -> str:
    if left is None:
        return "not known yet; it is once a run of each network has finished an epoch"
    end = datetime.now() + timedelta(seconds=left)
    return f"{end:%Y-%m-%d %H:%M}, in {timedelta(seconds=round(left))}"


def _why(run: PlannedRun, state: RunState, folder: Path) -> str:
    lines = [f"{run.id} ({', '.join(run.serves)}) {state.state}: {state.detail or 'no epoch done'}"]
    if state.failure:
        last = state.failure.traceback.strip().splitlines()[-LAST_LINES:]
        lines += [f"    {line}" for line in last]
    elif state.state == "lost":
        lines.append(f"    logs: {folder / 'submissions'}")
    return "\n".join(lines)
