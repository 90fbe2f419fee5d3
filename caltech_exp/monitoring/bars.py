"""What the status is drawn with: states, bars of runs by state, the widths of columns, curves of one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from caltech_exp.reporting.render.blocks import accuracy
from caltech_exp.study.results import Progress, thin_out

MAX_BAR, MAX_NAME = 40, 30
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
MAX_SPARKS = 24


@dataclass(frozen=True)
class Style:
    """How a state is drawn; the characters tell states apart where there is no colour (NO_COLOR).

    ascii   the character on terminals without Unicode
    colour  as rich names it
    short   the heading where the whole word has no room
    """

    character: str
    ascii: str
    colour: str
    short: str


STYLES = {
    "finished": Style("█", "#", "green", "done"),
    "diverged": Style("▓", "%", "yellow", "div"),
    "running": Style("▒", "=", "cyan", "run"),
    "queued": Style("░", "-", "blue", "que"),
    "pending": Style("·", ".", "bright_black", "pend"),
    "failed": Style("×", "x", "bold red", "fail"),
    "lost": Style("?", "?", "bold magenta", "lost"),
    "cancelled": Style("○", "o", "magenta", "canc"),
    "damaged": Style("!", "!", "bold red", "dam"),
    "newer": Style("^", "^", "bold yellow", "new"),
}


@dataclass(frozen=True)
class Columns:
    """Widths in characters; a bar of 0 is left out, and `short` headings stand closer."""

    name: int
    bar: int
    counts: int
    short: bool

    def number(self, count: int) -> str:
        return _number(count, self.short)


def _number(count: int, short: bool) -> str:
    return str(count) if short else f"{count:,}"


def fit_columns(room: int, longest_name: int, largest: int, states: Sequence[str]) -> Columns:
    """What fits into `room` characters, for counts up to `largest`: whole headings, short ones, then no bar."""
    name = min(longest_name, MAX_NAME)
    for short in (False, True):
        heads = [STYLES[state].short if short else state for state in states]
        count = max(len(_number(largest, short)), *map(len, heads), 0)
        rest = room - len(states) * (count + (1 if short else 2)) - name - 1
        if rest >= (10 if short else 16):
            return Columns(name, min(rest, MAX_BAR), count, short)
    rest = room - len(states) * (count + 1) - 1
    return Columns(max(6, min(name, rest - 8)), rest - name - 1 if rest - name > 6 else 0, count, True)


def bar(counts: Mapping[str, int], width: int, *, ascii_only: bool) -> Text:
    """`width` characters for the runs of a table by state, in the order of STYLES."""
    text = Text(no_wrap=True)
    for state, cells in share_cells({state: counts.get(state, 0) for state in STYLES}, width).items():
        style = STYLES[state]
        text.append((style.ascii if ascii_only else style.character) * cells, style.colour)
    return text


def share_cells(counts: Mapping[str, int], width: int) -> dict[str, int]:
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


def sparkline(values: Sequence[float | None], *, ascii_only: bool, most: int = MAX_SPARKS) -> str:
    """A character a value, a blank for one that is not finite; of more than `most` values, at most as many."""
    values = thin_out(values, most)
    known = [value for value in values if value is not None]
    low, span = min(known, default=0.0), (max(known) - min(known) if known else 0.0) or 1.0
    levels = ASCII_BLOCKS if ascii_only else BLOCKS
    return "".join(" " if value is None else levels[round(7 * (value - low) / span)] for value in values)


def curve_words(progress: Progress | None, *, ascii_only: bool) -> str:
    """`accuracy 0.398, train loss 1.923 ▁▂▅▆`; empty where the record holds no epoch."""
    if progress is None or not progress.curve:
        return ""
    last = progress.curve[-1]
    loss = "not finite" if last.train_loss is None else f"{last.train_loss:.3f}"
    sparks = sparkline([point.val_accuracy for point in progress.curve], ascii_only=ascii_only)
    return f"accuracy {accuracy(last.val_accuracy)}, train loss {loss} {sparks}"
