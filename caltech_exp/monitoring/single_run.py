"""One run of a study: its settings, curve and files, and its log as it grows."""

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from caltech_exp.catalog import TEMPLATE
from caltech_exp.cli import UserError, did_you_mean, one_line
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.bars import sparkline
from caltech_exp.monitoring.logs import LogReader, job_log, last_lines, log_path, printable
from caltech_exp.monitoring.render import run_values
from caltech_exp.monitoring.study_status import StudyStatus, read_status
from caltech_exp.reporting.render.blocks import accuracy
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.plan import PlannedRun, RunFilter
from caltech_exp.study.results import CurvePoint, Result, read_result
from caltech_exp.study.run_status import DONE, RunStatus, again_words, run_status

MAX_NAMED = 6
MOST_SPARKS = 60
READ_SECONDS = 1.0


@dataclass(frozen=True)
class SingleRun:
    """A run and what its files say; `log` is that of its last task that has one."""

    study: StudyStatus
    run: PlannedRun
    folder: Path
    result: Result | None
    log: Path | None

    @property
    def status(self) -> RunStatus:
        return self.study.runs[self.run.id]

    @property
    def curve(self) -> tuple[CurvePoint, ...]:
        """Its epochs: all of a run with a result, what its progress record keeps of another."""
        if self.result:
            return tuple(epoch.point for epoch in self.result.epochs)
        return self.status.progress.curve if self.status.progress else ()


def read_run(folder: StudyFolder, slurm: Slurm, name: str, seed: int | None) -> SingleRun:
    """The run that `name` means: the beginning of an id, or a row with a seed; UserError for none or several."""
    is_row = "." in name
    study = read_status(folder, slurm, run_filter=RunFilter(tables=(name,) if is_row else ()))
    runs = [run for run in study.plan if is_row or run.id.startswith(name)]
    runs = [run for run in runs if run.id == name] or runs  # a seed may be the beginning of another
    seeds = [str(run.seed) for run in runs]
    runs = [run for run in runs if seed in (None, run.seed)]
    if not runs:
        wrong = f"no run with seed={seed}{did_you_mean('', seeds)}" if seeds else "no such run; see json=true"
        raise UserError(f"{name}: {wrong}")
    if len(runs) > 1:
        names = ", ".join(f"{run.id} ({run.rows[0]})" for run in runs[:MAX_NAMED])
        more = f" and {len(runs) - MAX_NAMED:,} more" if len(runs) > MAX_NAMED else ""
        raise UserError(f"{name} means {len(runs):,} runs: {names}{more}; add seed=, or give more of the id")
    path = folder.run(runs[0].id)
    result = read_result(path) if study.runs[path.name].state in DONE else None
    result = result if isinstance(result, Result) else None
    log = study.logs.get(path.name) or _last_log(folder, path.name, result.job if result else "")
    return SingleRun(study, runs[0], path, result, log)


def _last_log(folder: StudyFolder, run_id: str, job: str = "") -> Path | None:
    """The log of the last task of a run that has one; that of `job` first. Second trainings do not count."""
    for manifest in reversed([each for each in folder.manifests() if not each.again]):
        for task in (task for task in manifest.tasks if run_id in task.runs):
            own = job_log(folder, manifest.id, job, run_id) if job else None
            paths = (own, log_path(folder, manifest, task, run_id))
            if path := next((path for path in paths if path and path.exists()), None):
                return path
    return None


def run_text(single: SingleRun, *, ascii_only: bool) -> str:
    """State, settings, curve, where its files are, and the last lines of its log."""
    run, status, curve = single.run, single.status, single.curve
    settings = {name: f"{name}={value}" for name, value in run.config.settings.items() if value != ""}
    changed = [name for name in settings if getattr(run.config, name) != getattr(TEMPLATE, name)]
    lines = [
        f"run       {run.id}: {', '.join(run.rows)}",
        f"state     {status.state}{f', {status.detail}' if status.detail else ''}",
        f"settings  {' '.join([f'seed={run.seed}', *(settings[name] for name in changed)])}",
        f"          as the template: {' '.join(word for name, word in settings.items() if name not in changed)}",
    ]
    if curve:
        draw = partial(sparkline, ascii_only=ascii_only, most=MOST_SPARKS)
        best, last = max(curve, key=lambda point: point.val_accuracy), curve[-1]
        loss = "not finite" if last.train_loss is None else f"{last.train_loss:.3f}"
        lines += [
            f"epochs    {last.epoch} of {run.config.epochs}",
            f"accuracy  {draw([point.val_accuracy for point in curve])} {accuracy(last.val_accuracy)}, "
            f"best {accuracy(best.val_accuracy)} after epoch {best.epoch}",
            f"loss      {draw([point.train_loss for point in curve])} {loss} in training",
        ]
    if single.result and single.result.test_accuracy is not None:
        lines.append(f"test      {accuracy(single.result.test_accuracy)}")
    if single.result and (again := again_words(single.folder, single.result)):
        lines.append(f"again     {again}")
    lines += [f"files     {single.folder}", f"log       {single.log or 'none yet'}"]
    log_lines = last_lines(single.log) if single.log else []
    return "\n".join([*map(one_line, lines), *(f"    {printable(line)}" for line in log_lines)])


def run_json(single: SingleRun) -> str:
    """What render.as_json says of the run, its settings, all epochs of a result, files, last lines of its log."""
    result, log = single.result, single.log
    values = {
        **run_values(single.study, single.run),
        "settings": single.run.config.model_dump(),
        "curve": single.curve,
        "val_accuracy": result.val_accuracy if result else None,
        "test_accuracy": result.test_accuracy if result else None,
        "folder": str(single.folder),
        "log": str(log) if log else None,
        "last_lines": [printable(line) for line in last_lines(log)] if log else [],
    }
    return json.dumps(values, indent=1)


def print_log(folder: StudyFolder, slurm: Slurm, single: SingleRun, poll_seconds: float | None) -> int:
    """Print the log of a run; with `poll_seconds` go on over requeues until the run has ended.

    A run that no process trains is looked for in the queue every `poll_seconds`. Returns 1 if a run that was
    followed ended without a result.
    """
    reader, name, status, log = LogReader(), single.run.id, single.status, single.log
    asked = time.monotonic()
    while True:
        if poll_seconds and log and log != reader.path:
            print(one_line(f"log of {name}: {log}"), flush=True)
        text = reader.read(log) if log else ""
        print(text, end="", flush=True)
        if poll_seconds is None:
            if not text:
                raise UserError(f"{name} is {status.state} and has no log that can be read yet")
            return 0
        if not text and status.state not in ("queued", "running"):
            print(one_line(f"{name} {status.state}{f': {status.detail}' if status.detail else ''}"))
            return 0 if status.state in DONE else 1
        time.sleep(READ_SECONDS)
        status = run_status(folder.run(name), None, True)
        if status.state in ("running", *DONE):
            time.sleep(READ_SECONDS if status.state in DONE else 0)  # the last lines may be on their way
            log = _last_log(folder, name, status.owner.job if status.owner else "") or log
        elif time.monotonic() - asked < poll_seconds:
            status = RunStatus("queued")  # until the queue is asked
        else:
            single = read_run(folder, slurm, name, None)
            status, log, asked = single.status, single.log or log, time.monotonic()
