"""The status of a study on a terminal, as plain text, and as JSON."""

import json
from collections import Counter
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from caltech_exp.catalog import table_key
from caltech_exp.cli import join_words, one_line
from caltech_exp.files import local_time
from caltech_exp.monitoring.bars import STYLES, bar, curve_words, fit_columns
from caltech_exp.monitoring.logs import LAST_LINES, last_lines, printable, shortest
from caltech_exp.monitoring.run_states import cancelled_lines, elsewhere_lines, reason_groups
from caltech_exp.monitoring.study_status import LISTED, StudyStatus
from caltech_exp.reporting.render.blocks import Column, shown
from caltech_exp.study.forecast import duration
from caltech_exp.study.plan import PlannedRun, describe_seeds

ALL_RUNS = "all runs, each once"
HOW_TO_RETRY = "failed=true shows why; submit with retry=failed trains them again"
RETRIED = ("failed", "lost")
# Runs that a screen lists one by one.
MAX_RUNS = 20
MAX_AGAIN = 6
HEADINGS = ("row", "runs", "validation accuracy")


# What text and screen say alike.


def shown_states(status: StudyStatus) -> list[str]:
    """The states that occur, in the order of STYLES."""
    return [state for state in STYLES if status.counts[state]]


def is_idle(counts: Counter[str]) -> bool:
    """Whether nothing of a table or section was submitted."""
    return not set(counts) - {"pending"}


def end_lines(status: StudyStatus) -> list[str]:
    """The expected end, what queued jobs wait for, what was not submitted, and how the report job stands."""
    forecast = status.forecast
    lines = []
    if status.counts["queued"] + status.counts["running"]:
        each = "each " if len(forecast.unknown) > 1 else ""
        end = f"unknown until a run {each}of {join_words(list(forecast.unknown))} has finished an epoch"
        if forecast.known_seconds is not None:
            when = clock(status, status.when + timedelta(seconds=forecast.known_seconds))
            how = f"{forecast.slots} at a time, {'as now' if status.counts['running'] else 'once they start'}"
            end = f"{when}, in {duration(forecast.known_seconds)} ({how})"
            unknown = [f"{count:,} of {kind}" for kind, count in forecast.unknown.items()]
            end += f", without runs of which none has finished an epoch: {', '.join(unknown)}" if unknown else ""
        lines.append(one_line(f"expected end: {end}"))
    if reasons := sorted(status.queue.reasons.items(), key=lambda item: (-item[1], item[0])):
        lines.append(one_line(f"waiting: {', '.join(f'{tasks:,} for {reason}' for reason, tasks in reasons)}"))
    if job := status.queue.preparation:
        does = "decodes the images, and the runs wait for it"
        if job.state == "queued":
            does = (
                f"waits for {job.reason}, and the runs wait for it; if it cannot start, run `scancel {job.id}`: "
                "the runs then decode the images themselves"
            )
        lines.append(one_line(f"{job.name} (job {job.id}) {does}"))
    submitted = {run.config.id for run in status.plan if status.runs[run.id].state != "pending"}
    if seeds := describe_seeds(run for run in status.plan if run.config.id in submitted):
        lines.append(one_line(seeds))
    if pending := status.counts["pending"]:
        seconds = forecast.pending_seconds
        of_runs = f" for {pending - forecast.pending_unknown:,} of them" if forecast.pending_unknown else " in all"
        cost = f", {duration(seconds)} of computing{of_runs}" if seconds is not None else ""
        lines.append(f"not submitted: {pending:,} runs ({not_submitted(status)}){cost}")
    runs = [status.runs[run.id] for run in status.plan]
    lines += [one_line(line) for line in (*_again_lines(status), *cancelled_lines(runs), *elsewhere_lines(runs))]
    if names := ", ".join(status.ignored_settings):
        lines.append(
            one_line(f"ignored settings of the last submission's profile, which no longer exist: {names}")
        )
    return [*lines, *filter(None, (status.preparation_failure, status.report))]


def _again_lines(status: StudyStatus) -> list[str]:
    """A line on the runs with a result that tasks in the queue train once more, if there are any."""
    runs = [
        f"{run.id} ({run.rows[0]}) {', '.join(filter(None, (again.state, again.detail)))}"
        for run in status.plan
        if (again := status.runs[run.id].again)
    ]
    more = [f"and {len(runs) - MAX_AGAIN:,} more"] if len(runs) > MAX_AGAIN else []
    return [f"trained again: {'; '.join([*runs[:MAX_AGAIN], *more])}"] if runs else []


def not_submitted(status: StudyStatus) -> str:
    """`all of scratch and resnet, part of transfer`"""
    sections = {name: counts for name, counts in status.sections.items() if counts["pending"]}
    idle = [name for name, counts in sections.items() if is_idle(counts)]
    begun = [name for name in sections if name not in idle]
    parts = [f"{share} of {join_words(names)}" for share, names in (("all", idle), ("part", begun)) if names]
    return one_line(", ".join(parts))


def accuracy_rows(status: StudyStatus, *, ascii_only: bool) -> list[list[str]]:
    """Each row with a result, its runs, and what the report's tables show of it; under HEADINGS."""
    values = {key: shown(Column("", "spread"), value) for key, (_, value) in status.accuracies.items()}
    return [
        [one_line(key), f"{status.accuracies[key][0]:,}", text.replace("±", "+-") if ascii_only else text]
        for key, text in values.items()
    ]


def queue_note(status: StudyStatus) -> str:
    return one_line(f"the queue did not answer, so queued runs may be lost: {status.note}")


def log_lines(status: StudyStatus, run: PlannedRun) -> list[str]:
    """The last lines of a failed run's traceback, or of a lost run's log, with terminal codes escaped."""
    failure, log = status.runs[run.id].failure, status.logs.get(run.id)
    lines = failure.traceback.strip().splitlines() if failure else last_lines(log) if log else []
    return [printable(line) for line in lines[-LAST_LINES:]]


def failure_groups(status: StudyStatus, *, failures: bool) -> list[list[PlannedRun]]:
    """The runs to list one by one; with `failures` a group for each reason."""
    runs = {run.id: run for run in status.in_state(*LISTED)}
    groups = reason_groups({name: status.runs[name] for name in runs}) if failures else [[name] for name in runs]
    return [[runs[name] for name in group] for group in groups]


def clock(status: StudyStatus, end: datetime) -> str:
    """`14:35 CET` today, `2026-01-31 14:35 CET` on another day, by this machine's clock."""
    is_today = end.astimezone().date() == status.when.astimezone().date()
    return f"{end.astimezone():%H:%M %Z}" if is_today else local_time(end)


def time_of_day(moment: datetime) -> str:
    """By this machine's clock."""
    return f"{moment.astimezone():%H:%M:%S %Z}"


# Plain text.


def as_text(status: StudyStatus, *, failures: bool, ascii_only: bool = False) -> str:
    """Runs by table and state, accuracies, the runs in training and without a result, the expected end.

    failures    also the last lines of each run that failed or was lost
    ascii_only  for a terminal that shows nothing else
    """
    states = shown_states(status)
    rows = [
        [table_key(section, table), *(counts[state] or "" for state in states)]
        for (section, table), counts in status.tables.items()
        if not is_idle(counts)
    ]
    rows.append([ALL_RUNS, *(status.counts[state] for state in states)])
    running = [run_line(status, run, ascii_only=ascii_only) for run in status.in_state("running")]
    without_result = []
    for run, *others in failure_groups(status, failures=failures):
        without_result.append(run_line(status, run, len(others)))
        without_result += [f"    {line}" for line in log_lines(status, run)] if failures else []
    parts = [
        f"study {status.folder}, {local_time(status.when)}",
        queue_note(status) if status.note else "",
        tabulate(rows, headers=("table", *states), disable_numparse=False),
        tabulate(accuracy_rows(status, ascii_only=ascii_only), HEADINGS, disable_numparse=True)
        if status.accuracies
        else "",
        "\n".join(running),
        "\n".join(without_result),
        *end_lines(status),
    ]
    count = len(status.in_state(*RETRIED))
    if count and not failures:
        parts.append(f"{count} failed or lost: {HOW_TO_RETRY}")
    return "\n\n".join(filter(None, parts))


def run_line(status: StudyStatus, run: PlannedRun, others: int = 0, *, ascii_only: bool = False) -> str:
    """`failed 0123456789-s0 (scratch.lr=1e-2) and 3 more: <why> (log: ...)`, or the like for other states."""
    run_status, log = status.runs[run.id], status.logs.get(run.id)
    words = [run_status.detail or "no epoch finished"]
    if curve := curve_words(run_status.progress, ascii_only=ascii_only) if run_status.state == "running" else "":
        words.append(curve)
    if run.id in status.forecast.eta:
        words.append(f"ends {clock(status, status.forecast.eta[run.id])}")
    if log and not run_status.failure:  # the detail of a failure names it
        words.append(f"log: {log}")
    name = f"{run_status.state} {run.id} ({', '.join(run.rows)}){_more(others)}"
    return one_line(f"{name}: {', '.join(words)}")


def _more(others: int) -> str:
    return f" and {others:,} more" if others else ""


# A terminal.


def fit_screen(status: StudyStatus, console: Console, *, failures: bool, notes: Sequence[Text] = ()) -> Group:
    """The status for the console, with as many single runs as its height has room for.

    failures  the last lines of all runs that failed or were lost, however many
    notes     lines near the top
    """
    for max_runs in (MAX_RUNS, 10, 6, 4, 2, 1):
        screen = Screen(status, console, failures).draw(max_runs, notes)
        if len(console.render_lines(screen, pad=False)) < console.height:
            break
    return screen


@dataclass(frozen=True)
class Screen:
    status: StudyStatus
    console: Console
    failures: bool

    @property
    def overflow(self) -> OverflowMethod:
        """How lines end that are too long: an ellipsis is not ASCII."""
        return "crop" if self.console.options.ascii_only else "ellipsis"

    def draw(self, max_runs: int, notes: Sequence[Text]) -> Group:
        """With at most `max_runs` runs in training, and as many without a result, up to five."""
        status = self.status
        parts: list[RenderableType] = [self._title(), *(Text(line, "bold") for line in end_lines(status))]
        if status.note:
            parts.append(Text(f"at {time_of_day(status.when)} {queue_note(status)}", "yellow"))
        parts += [*notes, self._table(), self._legend()]
        rows = [row[::-1] for row in accuracy_rows(status, ascii_only=self.console.options.ascii_only)]
        lines = tabulate(rows[: 2 * max_runs], tablefmt="plain", disable_numparse=True).splitlines()
        parts += _listed(
            rows, [Text(line, no_wrap=True, overflow=self.overflow) for line in lines], "results=true"
        )
        running = status.in_state("running")
        parts += _listed(running, [self._running(run) for run in running[:max_runs]])
        listed = failure_groups(status, failures=self.failures)
        shown = listed if self.failures else listed[: min(max_runs, 5)]
        parts += _listed(listed, [self._without_result(run, len(others)) for run, *others in shown])
        if status.in_state(*RETRIED) and not self.failures:
            parts.append(Text(HOW_TO_RETRY))
        return Group(*parts)

    def _title(self) -> Text:
        counts = self.status.counts
        done, submitted = counts["finished"] + counts["diverged"], len(self.status.plan) - counts["pending"]
        share = f"{done:,} of {submitted:,} submitted runs done, {100 * done // submitted} %" if submitted else ""
        return Text.assemble((one_line(str(self.status.folder)), "bold"), f"  {share or 'nothing submitted'}")

    def _table(self) -> Table:
        """A line per section and per table of it; a section that nothing was submitted of has one line."""
        status, states = self.status, shown_states(self.status)
        lines: list[tuple[str, Counter[str], str]] = []
        for section, counts in status.sections.items():
            lines.append((section, counts, "dim" if is_idle(counts) else "bold"))
            if not is_idle(counts):
                tables = [(table, counts) for (name, table), counts in status.tables.items() if name == section]
                lines += [(f"  {table}", counts, "") for table, counts in tables]
        lines.append((ALL_RUNS, status.counts, "bold"))
        largest = max((status.counts[state] for state in states), default=0)
        columns = fit_columns(self.console.width, max(len(name) for name, _, _ in lines), largest, states)
        grid = Table(box=None, padding=(0, 1 if columns.short else 2, 0, 0), pad_edge=False, show_edge=False)
        grid.add_column("", width=columns.name, no_wrap=True, overflow=self.overflow)
        if columns.bar:
            grid.add_column("", width=columns.bar, no_wrap=True)
        for state in states:
            head = Text(STYLES[state].short if columns.short else state, STYLES[state].colour)
            grid.add_column(head, width=columns.counts, justify="right", no_wrap=True)
        ascii_only = self.console.options.ascii_only
        for name, counts, style in lines:
            bars = [bar(counts, columns.bar, ascii_only=ascii_only)] if columns.bar else []
            numbers = [Text(columns.number(counts[state]) if counts[state] else "", style) for state in states]
            grid.add_row(Text(one_line(name), style), *bars, *numbers)
        return grid

    def _legend(self) -> Text:
        text = Text()
        for state in shown_states(self.status):
            style = STYLES[state]
            text.append(style.ascii if self.console.options.ascii_only else style.character, style.colour)
            text.append(f"{state} ", "dim")
        return text

    def _running(self, run: PlannedRun) -> Text:
        """`0123456789-s0 scratch.lr=1e-3  epoch 3/30, 185 images/s, ends 14:35`, below it curve, host and log."""
        status, run_status = self.status, self.status.runs[run.id]
        progress, eta = run_status.progress, status.forecast.eta.get(run.id)
        words = [f"epoch {progress.epoch}/{progress.epochs}" if progress else "starting"]
        if progress and progress.images_per_second:
            words.append(f"{progress.images_per_second:,.0f} images/s")
        words.append(f"ends {clock(status, eta)}" if eta else "end unknown")
        detail = ", ".join(words)
        row = Text(one_line(run.rows[0]), no_wrap=True)
        row.truncate(max(8, self.console.width - len(run.id) - len(detail) - 3), overflow=self.overflow)
        title = Text.assemble((run.id, STYLES["running"].colour), " ", row, "  ", detail)
        host = f"{one_line(run_status.owner.host)}, " if run_status.owner else ""
        heartbeat, log = f"{host}{run_status.seconds_since_heartbeat or 0:.0f} s ago", self._log(run)
        both = f"{heartbeat}, {log}" if log else heartbeat
        fits = len(both) < self.console.width - 2
        curve = curve_words(progress, ascii_only=self.console.options.ascii_only)
        return Text("\n").join([title, *_indented(curve), *_indented(both if fits else log or heartbeat)])

    def _without_result(self, run: PlannedRun, others: int) -> Text:
        """Why a run has no result, its log, and with `failures` its last lines."""
        run_status = self.status.runs[run.id]
        why = run_status.failure.error if run_status.failure else run_status.detail or "no epoch finished"
        name = (f"{run_status.state} {run.id}", STYLES[run_status.state].colour)
        title = Text.assemble(name, f" {one_line(f'{run.rows[0]}{_more(others)}: {why}')}")
        lines = [Text(f"    {line}") for line in log_lines(self.status, run)] if self.failures else []
        return Text("\n").join([title, *_indented(self._log(run)), *lines])

    def _log(self, run: PlannedRun) -> str:
        path = self.status.logs.get(run.id)
        return f"log {one_line(shortest(path))}" if path else ""


def _listed(runs: Sized, lines: Sequence[Text], option: str = "json=true") -> list[RenderableType]:
    """The lines, set off, and how many runs have none."""
    if not runs:
        return []
    left_out = len(runs) - len(lines)
    more = [Text(f"and {left_out:,} more; {option} lists all", "dim")] if left_out else []
    return [Text(), *lines, *more]


def _indented(line: str) -> list[Text]:
    return [Text(f"  {line}", "dim")] if line else []


# JSON.


def as_json(status: StudyStatus, *, failures: bool) -> str:
    """One object: the folder, the time, counts by state, table and section, the end, rows with results, every run.

    `curve` of a run without a result has a list for each epoch: number, train loss, validation loss and accuracy.
    Times are UTC in ISO 8601, lengths seconds; null is unknown. `note` says why Slurm did not answer, `waiting`
    gives its reasons with the tasks that wait for each, `preparation` is the job that decodes images first, and
    `unprepared` says why the last one failed.
    """
    forecast = status.forecast
    seconds_left = forecast.seconds_left
    whole = {
        "folder": str(status.folder),
        "when": utc(status.when),
        "note": status.note or None,
        "counts": dict(status.counts),
        "sections": {section: dict(counts) for section, counts in status.sections.items()},
        "tables": {table_key(section, table): dict(counts) for (section, table), counts in status.tables.items()},
        "seconds_left": seconds_left,
        "expected_end": None if seconds_left is None else utc(status.when + timedelta(seconds=seconds_left)),
        "at_once": forecast.slots,
        "pending_seconds": None if forecast.pending_unknown else forecast.pending_seconds,
        "report": status.report or None,
        "waiting": dict(status.queue.reasons),
        "preparation": vars(status.queue.preparation) if status.queue.preparation else None,
        "unprepared": status.preparation_failure or None,
        "rows": {
            key: {"runs": runs, "mean": getattr(value, "mean", None), "std": getattr(value, "std", None)}
            for key, (runs, value) in status.accuracies.items()
        },
        "runs": [run_values(status, run, failures=failures) for run in status.plan],
    }
    return json.dumps(whole, indent=1)


def run_values(status: StudyStatus, run: PlannedRun, *, failures: bool = False) -> dict[str, Any]:
    run_status, eta, log = status.runs[run.id], status.forecast.eta.get(run.id), status.logs.get(run.id)
    progress, owner = run_status.progress, run_status.owner
    values = {
        "id": run.id,
        "seed": run.seed,
        "serves": run.rows,
        "state": run_status.state,
        "queued_on": run_status.place or None,
        "detail": run_status.detail,
        "again": run_status.again.state if run_status.again else None,
        "epoch": progress.epoch if progress else None,
        "epochs": run.config.epochs,
        "images_per_second": progress.images_per_second if progress else None,
        "curve": progress.curve if progress else None,
        "silent_seconds": run_status.seconds_since_heartbeat,
        "seconds_left": (eta - status.when).total_seconds() if eta else None,
        "expected_end": utc(eta) if eta else None,
        "job": owner.job if owner else None,
        "host": owner.host if owner else None,
        "log": str(log) if log else None,
    }
    return {**values, "last_lines": log_lines(status, run)} if failures else values


def utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
