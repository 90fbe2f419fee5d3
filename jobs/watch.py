"""Look at a study again and again, in place, until all its runs have ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from caltech_exp.errors import UserError
from jobs.screen import fitted
from jobs.standing import Standing
from jobs.standing_text import as_text, at

REST = 4.0
"""Seconds of rest for each second that a look took: a large study on a slow disk is looked at less often."""


@dataclass(frozen=True)
class Seen:
    """The last standing that Slurm had a part in, or if there is none the last one; and any trouble since."""

    standing: Standing
    trouble: str = ""


def watch(look: Callable[[], Standing], console: Console, seconds: float, *, failures: bool) -> None:
    """Show what `look` sees, every `seconds` or less often, until nothing is queued or running any more.

    In place on a terminal, one after the other elsewhere. If Slurm or the disk does not answer for a while, the
    last picture stays and a line says so. Raises UserError if the first look does.
    """
    began = time.monotonic()
    seen = Seen(look())
    if not console.is_terminal or console.is_dumb_terminal:
        print(as_text(seen.standing, failures=failures), flush=True)
        while _goes_on(seen):
            began = _rest(began, seconds)
            seen = look_again(seen, look)
            print(f"\n{seen.trouble or as_text(seen.standing, failures=failures)}", flush=True)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
        screen.update(on_screen(seen, console, seconds, failures), refresh=True)
        while _goes_on(seen):
            began = _rest(began, seconds)
            seen = look_again(seen, look)
            screen.update(on_screen(seen, console, seconds, failures), refresh=True)


def look_again(before: Seen, look: Callable[[], Standing]) -> Seen:
    """What is seen now; what was seen before, with the trouble, if this look tells less."""
    try:
        now = look()
    except (UserError, OSError) as error:
        return Seen(before.standing, str(error))
    return Seen(before.standing, now.note) if now.note and not before.standing.note else Seen(now)


def on_screen(seen: Seen, console: Console, seconds: float, failures: bool) -> Group:
    """The picture, how old it is, and when it will be looked again."""
    now, ahead = seen.standing, f"again every {seconds:g} s; Ctrl-C ends watching only"
    if seen.trouble:
        trouble = seen.trouble.partition(";")[0]
        notes = [Text(f"no news since {at(now.when)}: {trouble}; asked {ahead}", "yellow")]
    else:
        notes = [Text(f"seen at {at(now.when)}, {ahead}", "dim")] if now.open else []
    return fitted(now, console, failures=failures, notes=notes)


def _goes_on(seen: Seen) -> bool:
    return seen.standing.open or bool(seen.trouble)


def _rest(began: float, seconds: float) -> float:
    """Wait until it is polite to look again; when that is."""
    time.sleep(max(seconds, REST * (time.monotonic() - began)))
    return time.monotonic()
