"""A bar of characters that shows shares: every part that is not nothing is seen."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.text import Text


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
