"""The look of the report's pictures, the same whatever backend or matplotlibrc the user has.

Import it before matplotlib: a backend of the environment (a notebook's `module://...`) fails where it is not
installed, and so does a matplotlibrc that cannot be read.
"""

import base64
import io
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

os.environ["MPLBACKEND"] = "agg"
os.environ["MATPLOTLIBRC"] = str(distribution("matplotlib").locate_file("matplotlib/mpl-data/matplotlibrc"))

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from caltech_exp.files import write_atomically

Look: TypeAlias = dict[str, Any]
"""Keyword arguments of matplotlib."""
DPI = 300
PAPER, INK, QUIET, RULE, GRID, WARNING = "#ffffff", "#1b1f24", "#56606b", "#b9c1ca", "#e4e8ec", "#7d1a00"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0568a", "#8a6d00", "#56b4e9", "#e69f00", "#0a0a0a")
"""Okabe and Ito's colours, which colour-blind readers tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One beside each colour, so that series differ in grey too."""
VERDICTS = {"agrees": (SERIES[0], "o"), "differs": (SERIES[1], "s"), "inconclusive": (QUIET, "D")}
DARK = {
    PAPER: "#16181c",
    INK: "#e6e8eb",
    QUIET: "#a9b2bc",
    RULE: "#4a525c",
    GRID: "#2c3138",
    WARNING: "#ffb59e",
    **dict(
        zip(
            SERIES,
            ("#56b4e9", "#ff9a52", "#3fd1a3", "#e8a3cb", "#f0e442", "#9db8ff", "#e69f00", "#ffffff"),
            strict=True,
        )
    ),
}
"""Every colour of the light scheme -> the dark scheme's, as in web/report.css."""
LETTER = 0.066
"""Inches that a letter takes across, at the base size."""
LINE = 0.15
"""Inches that a line takes."""
SETTINGS: Look = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "text.color": INK,
    "text.parse_math": False,  # names of rows, overrides and files are no formulas
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.borderaxespad": 0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "figure.facecolor": "none",
    # Letters as outlines: the picture is the same, and no label runs into another, whatever fonts a reader has.
    "svg.fonttype": "path",
}


@contextmanager
def report_style() -> Iterator[None]:
    """Draw with the report's settings alone."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)  # type: ignore[arg-type]  # the names of settings are a literal type
        yield


def new_figure(width: float, height: float, title: str, caution: str) -> tuple[Figure, float]:
    """A figure with its title, cut to one line, above and its caution below, which adds to the height.

    Returns the inches of the caution, too.
    """
    lines = [part for line in caution.splitlines() for part in textwrap.wrap(line, int(width / LETTER))]
    below = LINE * len(lines) + 0.05 if lines else 0.0
    figure = Figure(figsize=(width, height + below))
    room = int(width / (LETTER * 1.3))
    figure.text(
        0.06 / width,
        1 - 0.06 / (height + below),
        title if len(title) <= room else f"{title[: room - 1]}…",
        {"ha": "left", "va": "top", "weight": "bold", "size": 9},
    )
    if lines:
        style = {"color": WARNING, "ha": "left", "va": "bottom", "size": 7.5, "weight": "bold"}
        figure.text(0.06 / width, 0.06 / (height + below), "\n".join(lines), style)
    return figure, below


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place in inches from the figure's lower left corner.

    A layout engine that finds the place takes longer than all the drawing.
    """
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def accuracy_axis(axis: Axis, low: float, high: float, min_span: float = 0.01) -> None:
    """Fit an axis to accuracies from low to high, with a small margin, within 0 to 1, at round ticks.

    min_span  of the axis, so that noise does not fill it
    """
    room = max((high - low) * 0.06, (min_span - (high - low)) / 2)
    limits = max(low - room, -0.01), min(high + room, 1.01)
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    (axis.axes.set_xlim if axis is axis.axes.xaxis else axis.axes.set_ylim)(*limits)


def legend_above(axes: Axes, entries: Sequence[Line2D], is_at_edge: bool = False) -> None:
    """A legend in one line above the axes, where it hides no data.

    is_at_edge  whether it starts at the picture's left edge, as the axes of rows with long labels are narrow
    """
    if entries:
        box = axes.get_position()
        left = (0.06 / axes.get_figure(root=True).get_figwidth() - box.x0) / box.width if is_at_edge else 0.0  # type: ignore[union-attr]
        where: Look = {"loc": "lower left", "bbox_to_anchor": (left, 1.02), "ncols": len(entries)}
        shape: Look = {"handlelength": 1.6, "columnspacing": 1.2, "handletextpad": 0.4, "labelcolor": QUIET}
        axes.legend(handles=entries, **where, **shape)


def entry(label: str, colour: str, marker: str = "", line: Any = "", **style: Any) -> Line2D:
    """What a legend shows of a marker or a line."""
    return Line2D([], [], color=colour, marker=marker, ls=line, ms=4.5, label=label, **style)


def shades(strongest: float) -> ListedColormap:
    """From nothing to blue, in opacities: cells and the text in them are seen on light and on dark paper."""
    return ListedColormap([(*to_rgb("#1f83cc"), alpha) for alpha in np.linspace(0.03, strongest, 64)])


def spread(places: Sequence[float], heights: Sequence[float], highest: float) -> list[float]:
    """Places from 0 to `highest`, as near to the given ones as labels of these heights can lie without overlap."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for _ in range(60):
        for lower, upper in pairwise(order):
            gap = (heights[lower] + heights[upper]) / 2
            lack = gap - (moved[upper] - moved[lower])
            if lack > 0:
                moved[lower] -= lack / 2
                moved[upper] += lack / 2
        for index in order:
            half = heights[index] / 2
            moved[index] = min(max(moved[index], half - 0.12), highest - half)
    return moved


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png and `name`.svg into a folder: the same bytes for the same figure. Raises OSError."""
    svg = io.BytesIO()
    # Without a date and with fixed ids, a report made twice differs only where its numbers do.
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    write_atomically(folder / f"{name}.svg", _for_both_schemes(svg.getvalue().decode()).encode())
    write_atomically(folder / f"{name}.png", _png(figure))


def _png(figure: Figure) -> bytes:
    """The figure on white paper; lines and letters in 256 colours, which takes a third of the room."""
    figure.set(dpi=DPI, facecolor=PAPER)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    shaded = [part.get_array() for axes in figure.axes for part in (*axes.images, *axes.collections)]
    if all(values is None for values in shaded):
        image = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette, paper = image.getpalette() or [], 3 * int(image.getpixel((0, 0)))  # type: ignore[arg-type]
        image.putpalette(
            [*palette[:paper], 255, 255, 255, *palette[paper + 3 :]]
        )  # not white mixed with its edges
    content = io.BytesIO()
    image.save(content, "PNG", dpi=(DPI, DPI), compress_level=3)
    return content.getvalue()


def _for_both_schemes(svg: str) -> str:
    """The SVG with a style that gives it the dark scheme's colours wherever the page around it is dark.

    Without that style, as in a paper, it is a plain SVG in light colours on a transparent ground.
    """
    rules = "".join(
        f'[style*="{what}: {light}"] {{ {what}: {dark} !important }} '
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
        if f"{what}: {light}" in svg
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{ {rules}}}</style>\n"
    return _PHOTOGRAPH.sub(_as_jpeg, svg.replace("<defs>", f"{style}<defs>", 1))


_PHOTOGRAPH = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]{100000,})")


def _as_jpeg(match: re.Match[str]) -> str:
    """A large embedded PNG as JPEG, some ten times smaller."""
    smaller = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(match[1]))).convert("RGB").save(smaller, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(smaller.getvalue()).decode()}"
