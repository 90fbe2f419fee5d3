"""The status of a study as a screen, as plain text, and as JSON."""

import json
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from caltech_exp.cli import one_line, shown
from caltech_exp.monitoring.logs import shortest
from caltech_exp.monitoring.study_status import LISTED, WITHOUT_RESULT, Standing
from caltech_exp.study.plan import PlannedRun


@dataclass(frozen=True)
class Look:
    """How a state is drawn: its character, that of terminals without Unicode, rich's name of its colour.

    The characters tell the states apart where there is no colour (NO_COLOR).
    """

    sign: str
    ascii: str
    style: str


LOOKS = {
    "finished": Look("█", "#", "green"),
    "diverged": Look("▓", "%", "yellow"),
    "running": Look("▒", "=", "cyan"),
    "queued": Look("░", "-", "blue"),
    "pending": Look("·", ".", "bright_black"),
    "failed": Look("×", "x", "bold red"),
    "lost": Look("?", "?", "bold magenta"),
    "damaged": Look("!", "!", "bold red"),
    "newer": Look("^", "^", "bold yellow"),
}


def bar(counts: Mapping[str, int], width: int, *, ascii_only: bool) -> Text:
    """`width` characters for the runs of a table by state, in the order of LOOKS."""
    text = Text(no_wrap=True)
    for state, cells in shares({state: counts.get(state, 0) for state in LOOKS}, width).items():
        look = LOOKS[state]
        text.append((look.ascii if ascii_only else look.sign) * cells, look.style)
    return text


def shares(counts: Mapping[str, int], width: int) -> dict[str, int]:
    """`width` cells shared out by the counts: at least one for each that is not 0, as long as there are enough."""
    total = sum(counts.values())
    if not total:
        return dict.fromkeys(counts, 0)
    exact = {name: count * width / total for name, count in counts.items()}
    cells = {name: max(int(part), min(1, counts[name])) for name, part in exact.items()}
    while sum(cells.values()) < width:
        name = max(exact, key=lambda name: exact[name] - cells[name])
        cells[name] += 1
    while sum(cells.values()) > width:
        name = max(cells, key=lambda name: (cells[name], cells[name] - exact[name]))
        cells[name] -= 1
    return cells


LAST_LINES = 8
TAIL_BYTES = 16_384
LONGEST = 400


def last_lines(now: Standing, run: PlannedRun) -> list[str]:
    """Indented: of a failed run its traceback's, of a lost one its log's, and its errors' (.err) if it has any.

    Whatever stands in them, a line is a line: terminal codes are escaped.
    """
    failure, log = now.states[run.id].failure, now.logs.get(run.id)
    if failure:
        lines = failure.traceback.strip().splitlines()
    elif log:
        lines = [*tail(log), *(tail(log.with_suffix(".err")) if log.suffix == ".out" else ())]
    else:
        lines = []
    return [f"    {one_line(shown(line.rstrip(), LONGEST))}" for line in lines[-LAST_LINES:]]


def tail(path: Path) -> list[str]:
    """The last lines of a file that are not empty; none if it cannot be read.

    Others may write into the folder of a study: a link there may name any file, and a pipe would never end.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return []
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()][-LAST_LINES:]


SHORT = {
    "finished": "done",
    "diverged": "div",
    "running": "run",
    "queued": "que",
    "pending": "pend",
    "failed": "fail",
    "lost": "lost",
    "damaged": "dam",
    "newer": "new",
}
"""Headings where the whole words have no room."""
MOST_RUNS = 20
"""Runs in training, and runs without a result, that are listed; a screen has an end."""
WIDEST_BAR, WIDEST_NAME = 40, 30


@dataclass(frozen=True)
class Widths:
    """Characters of the columns; a bar of 0 is left out, and `short` headings stand closer."""

    name: int
    bar: int
    counts: int
    short: bool


def widths(room: int, longest_name: int, largest: int, states: list[str]) -> Widths:
    """What fits into `room` characters, for counts up to `largest`: whole headings, short ones, then no bar."""
    name = min(longest_name, WIDEST_NAME)
    for short in (False, True):
        heads = [SHORT[state] if short else state for state in states]
        count = max(len(_number(largest, short)), *map(len, heads), 0)
        rest = room - len(states) * (count + (1 if short else 2)) - name - 1
        if rest >= (10 if short else 16):
            return Widths(name, min(rest, WIDEST_BAR), count, short)
    rest = room - len(states) * (count + 1) - 1
    return Widths(max(6, min(name, rest - 8)), rest - name - 1 if rest - name > 6 else 0, count, True)


def fitted(now: Standing, console: Console, *, failures: bool, notes: Sequence[Text] = ()) -> Group:
    """The standing for the console, with as many of the single runs as its height has room for.

    failures  the last lines of all runs that failed or were lost, however many
    notes     lines to stand near the top
    """
    for most in (MOST_RUNS, 10, 6, 4, 2, 1):
        whole = picture(now, console, failures=failures, most_runs=most, notes=notes)
        if len(console.render_lines(whole, pad=False)) < console.height:
            break
    return whole


def picture(
    now: Standing, console: Console, *, failures: bool, most_runs: int, notes: Sequence[Text] = ()
) -> Group:
    """The same with at most `most_runs` runs in training, and as many of those without a result up to five."""
    parts: list[RenderableType] = [_title(now), *(Text(line, "bold") for line in end_lines(now))]
    if now.note:
        parts.append(Text(f"at {at(now.when)} {unasked(now)}", "yellow"))
    parts += notes
    parts += [_table(now, console), _legend(now, console)]
    running = now.in_state("running")
    parts += _listed(running, most_runs, [_running(now, run, console) for run in running[:most_runs]])
    bad = now.in_state(*LISTED)
    most = len(bad) if failures else min(most_runs, 5)
    parts += _listed(bad, most, [_bad(now, run, failures) for run in bad[:most]])
    if now.in_state(*WITHOUT_RESULT) and not failures:
        parts.append(Text("failed=true shows why runs have no result, submit.py retry=failed tries them again"))
    return Group(*parts)


def _title(now: Standing) -> Text:
    done = now.counts["finished"] + now.counts["diverged"]
    share = f"{100 * done // len(now.plan)} %" if now.plan else "no runs"
    return Text.assemble(
        (one_line(str(now.folder)), "bold"), f"  {done:,} of {len(now.plan):,} runs done, {share}"
    )


def _table(now: Standing, console: Console) -> Table:
    """A line per section and per table of it; a section that nothing was submitted of has one line."""
    states = [state for state in LOOKS if now.counts[state]]
    lines: list[tuple[str, Counter[str], str]] = []
    for section, counts in now.sections.items():
        idle = not set(counts) - {"pending"}
        lines.append((section, counts, "dim" if idle else "bold"))
        of_section = [(table, each) for (name, table), each in now.tables.items() if name == section]
        lines += [(f"  {table}", each, "") for table, each in of_section if not idle]
    lines.append(("all runs, each once", now.counts, "bold"))
    largest = max((now.counts[state] for state in states), default=0)
    fit = widths(console.width, max(len(name) for name, _, _ in lines), largest, states)
    grid = Table(box=None, padding=(0, 1 if fit.short else 2, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("", width=fit.name, no_wrap=True, overflow="ellipsis")
    if fit.bar:
        grid.add_column("", width=fit.bar, no_wrap=True)
    for state in states:
        head = Text(SHORT[state] if fit.short else state, LOOKS[state].style)
        grid.add_column(head, width=fit.counts, justify="right", no_wrap=True)
    for name, counts, style in lines:
        drawn = [bar(counts, fit.bar, ascii_only=console.options.ascii_only)] if fit.bar else []
        numbers = [Text(_number(counts[state], fit.short) if counts[state] else "", style) for state in states]
        grid.add_row(Text(one_line(name), style), *drawn, *numbers)
    return grid


def _number(count: int, short: bool) -> str:
    return str(count) if short else f"{count:,}"


def _legend(now: Standing, console: Console) -> Text:
    text = Text()
    for state, look in LOOKS.items():
        if now.counts[state]:
            text.append(look.ascii if console.options.ascii_only else look.sign, look.style)
            text.append(f"{state} ", "dim")
    return text


def _listed(runs: list[PlannedRun], most: int, lines: list[Text]) -> list[RenderableType]:
    """The lines, set off, and how many are not among them."""
    if not runs:
        return []
    more = [Text(f"and {len(runs) - most:,} more; json=true lists all", "dim")] if len(runs) > most else []
    return [Text(), *lines, *more]


def _running(now: Standing, run: PlannedRun, console: Console) -> Text:
    """`0123456789-s0 scratch.lr=1e-3  epoch 3/30, 185 images/s, ends 14:35`, and below where, and its log."""
    state = now.states[run.id]
    words = [f"epoch {state.progress.epoch}/{state.progress.epochs}" if state.progress else "starting"]
    if state.progress and state.progress.images_per_second:
        words.append(f"{state.progress.images_per_second:,.0f} images/s")
    words.append(f"ends {clock(now, now.outlook.ends[run.id])}" if run.id in now.outlook.ends else "end not known")
    told = ", ".join(words)
    what = Text(one_line(run.serves[0]), no_wrap=True)
    what.truncate(max(8, console.width - len(run.id) - len(told) - 3), overflow="ellipsis")
    first = Text.assemble((run.id, LOOKS["running"].style), " ", what, "  ", told)
    host = f"{one_line(state.holder.host)}, " if state.holder else ""
    seen, log = f"{host}{state.silent_seconds or 0:.0f} s ago", _log(now, run)
    both = f"{seen}, {log}" if log else seen
    return Text("\n").join([first, *_indented(both if len(both) < console.width - 2 else log or seen)])


def _bad(now: Standing, run: PlannedRun, failures: bool) -> Text:
    """Why a run has no result, its log, and with `failures` its last lines."""
    state = now.states[run.id]
    why = state.failure.error if state.failure else state.detail or "no epoch done"
    first = Text.assemble(
        (f"{state.state} {run.id}", LOOKS[state.state].style), f" {one_line(f'{run.serves[0]}: {why}')}"
    )
    more = [Text(line) for line in last_lines(now, run)] if failures else []
    return Text("\n").join([first, *_indented(_log(now, run)), *more])


def _indented(*words: str) -> list[Text]:
    return [Text(f"  {word}", "dim") for word in words if word]


def _log(now: Standing, run: PlannedRun) -> str:
    path = now.logs.get(run.id)
    return f"log {one_line(shortest(path))}" if path else ""


NOT_KNOWN = "not known yet; it is once a run of each network has finished an epoch"


def as_text(now: Standing, *, failures: bool) -> str:
    """Runs by table and state, the runs in training and without a result, the expected end.

    failures  also the last lines of each run that failed or was lost
    """
    shown = [state for state in LOOKS if now.counts[state]]
    rows = [
        [f"{section}.{table}", *(counts[state] or "" for state in shown)]
        for (section, table), counts in now.tables.items()
        if set(counts) - {"pending"}
    ]
    idle = [f"{s}.{t}" for (s, t), counts in now.tables.items() if not set(counts) - {"pending"}]
    rows.append(["all runs, each once", *(now.counts[state] for state in shown)])
    parts = [f"study {now.folder}, {now.when:%Y-%m-%dT%H:%M:%SZ}"]
    if now.note:
        parts.append(unasked(now))
    parts.append(tabulate(rows, headers=("table", *shown), disable_numparse=False))
    if idle and len(rows) > 1:
        parts.append(f"nothing submitted of {', '.join(idle)}")
    running = [line_of(now, run) for run in now.in_state("running")]
    parts += ["\n".join(running)] if running else []
    bad = now.in_state(*WITHOUT_RESULT)
    lines = [
        line
        for run in now.in_state(*LISTED)
        for line in (line_of(now, run), *(last_lines(now, run) if failures else ()))
    ]
    parts += ["\n".join(lines)] if lines else []
    parts += [*end_lines(now)]
    if bad and not failures:
        parts.append(f"{len(bad)} without a result: failed=true shows why, submit.py retry=failed tries again")
    return "\n\n".join(parts)


def line_of(now: Standing, run: PlannedRun) -> str:
    """`failed 0123456789-s0 (scratch.lr=1e-2): <why> (log: ...)`, or the like for other states."""
    state = now.states[run.id]
    words = [state.detail or "no epoch done"]
    if run.id in now.outlook.ends:
        words.append(f"ends {clock(now, now.outlook.ends[run.id])}")
    log = now.logs.get(run.id)
    if log and not state.failure:  # a failure's detail names it
        words.append(f"log: {log}")
    return one_line(f"{state.state} {run.id} ({', '.join(run.serves)}): {', '.join(words)}")


def end_lines(now: Standing) -> list[str]:
    """When what is queued will have ended, what it waits for, what was not submitted.

    And why the images were not decoded first, if they were not, and how the report stands.
    """
    lines, ahead = [], now.outlook
    if now.open:
        how = f"{ahead.at_once} at a time, {'as now' if now.counts['running'] else 'once they start'}"
        end = NOT_KNOWN if ahead.left is None else f"{clock(now, ahead.left)}, in {duration(ahead.left)} ({how})"
        lines.append(f"expected end: {end}")
    lines += waiting_lines(now)
    if now.counts["pending"]:
        more = f", {duration(ahead.pending)} of computing in all" if ahead.pending is not None else ""
        lines.append(f"{now.counts['pending']:,} runs of the study were not submitted{more}")
    if now.ignored_settings:
        names = ", ".join(now.ignored_settings)
        lines.append(
            one_line(f"ignored settings of the last submission's profile, which no longer exist: {names}")
        )
    return [*lines, *filter(None, (now.unprepared, now.report))]


def waiting_lines(now: Standing) -> list[str]:
    """Slurm's reasons for what waits, and what keeps the job that goes before all others."""
    lines = []
    if now.reasons:
        told = sorted(now.reasons.items(), key=lambda each: (-each[1], each[0]))
        lines.append(one_line(f"waiting: {', '.join(f'{tasks:,} for {reason}' for reason, tasks in told)}"))
    first = now.preparation
    if first and first.state == "queued":
        lines.append(
            one_line(
                f"{first.name} (job {first.id}) waits for {first.reason}, and the runs for it; if it cannot "
                f"start, `scancel {first.id}`: the runs then decode the images themselves"
            )
        )
    elif first:
        lines.append(one_line(f"{first.name} (job {first.id}) decodes the images, and the runs wait for it"))
    return lines


def unasked(now: Standing) -> str:
    """A line for a standing that Slurm had no part in."""
    return f"the queue was not asked, so queued runs may be lost ones: {now.note}"


def clock(now: Standing, seconds: float) -> str:
    """`14:35` today, `2026-01-31 14:35` on another day, of this machine's clock."""
    here = now.when.astimezone()
    end = here + timedelta(seconds=seconds)
    return f"{end:%H:%M}" if end.date() == here.date() else f"{end:%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d {hours % 24} h"


def at(moment: datetime) -> str:
    """The time of day of a moment, by this machine's clock."""
    return f"{moment.astimezone():%H:%M:%S}"


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
