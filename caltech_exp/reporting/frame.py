"""What every picture carries around its axes: the title above, the caution below."""

import textwrap

from matplotlib.figure import Figure

CAUTION_COLOUR = "#B00000"
LETTERS_PER_INCH = 11
TITLE_LETTERS_PER_INCH = 9
LINE = 0.2
"""Height in inches of a line of the caution."""
MARGIN = 0.08
"""Inches between text and the picture's edge."""


def wrap(caution: str, width: float) -> str:
    """The caution in lines that fit into a picture of `width` inches."""
    lines = caution.splitlines()
    return "\n".join(textwrap.fill(line, int(LETTERS_PER_INCH * width)) for line in lines)


def room_below(caution: str) -> float:
    """Inches that the caution, wrapped, takes below the axes; 0 without one."""
    return LINE * (len(caution.splitlines()) + 0.5) if caution else 0.0


def frame(figure: Figure, title: str, caution: str) -> None:
    """Write title, cut to one line, and caution at the edges of the figure; the caution must be wrapped."""
    width, height = figure.get_size_inches()
    most = int(TITLE_LETTERS_PER_INCH * width)
    line = title if len(title) <= most else f"{title[: most - 1]}…"
    # Titles and names of overrides and files are no formulas, whatever dollar signs they hold.
    figure.suptitle(line, y=1 - MARGIN / height, va="top", parse_math=False)
    look = {"color": CAUTION_COLOUR, "ha": "center", "va": "bottom", "weight": "bold", "parse_math": False}
    figure.text(0.5, MARGIN / height, caution, look)
