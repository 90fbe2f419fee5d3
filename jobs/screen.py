"""A study's standing on a terminal: a bar and the counts of each table, the runs in training, what went wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from caltech_exp.errors import one_line
from caltech_exp.plan import PlannedRun
from jobs.bar import LOOKS, bar
from jobs.last_lines import last_lines
from jobs.logs import shortest
from jobs.standing import LISTED, WITHOUT_RESULT, Standing
from jobs.standing_text import at, clock, end_lines, unasked

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
