"""Measured against reported, a point for every row."""

from collections.abc import Sequence
from math import nan

from matplotlib.figure import Figure

from caltech_exp.reporting.frame import frame, room_below, wrap
from caltech_exp.reporting.scatter_data import ScatterPoint

WIDTH = 6.4
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
"""Okabe-Ito colours with a marker each, so that sections differ in grey too."""
FILLS = ("", "full", "left", "bottom", "right", "top")
"""The part of the marker that is filled, another for every four sections: 24 of them look different."""
FEW_SECTIONS = 4
"""Up to here the legend has its place in the plot, above it below the axes."""
LONGEST = 40
"""Letters of a section's name in the legend."""
LEGEND_LINE = 0.17
"""Height in inches of a line of the legend below the axes."""


def draw_scatter(points: Sequence[ScatterPoint], caution: str) -> Figure:
    """Reported accuracies across, measured ones up, both from 0 to 1; the diagonal is agreement."""
    caution = wrap(caution, WIDTH)
    sections = list(dict.fromkeys(point.section for point in points))
    many = len(sections) > FEW_SECTIONS
    below = room_below(caution) + (LEGEND_LINE * (-(-len(sections) // 2) + 1) if many else 0)
    height = 5.9 + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, "Agreement with the report", caution)
    axes = figure.add_axes((0.7 / WIDTH, (0.55 + below) / height, 1 - 0.85 / WIDTH, 1 - (0.95 + below) / height))
    axes.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", label="agreement", zorder=1)
    for number, section in enumerate(sections):
        (colour, marker), fill = LOOKS[number % len(LOOKS)], FILLS[number // len(LOOKS) % len(FILLS)]
        own = [point for point in points if point.section == section]
        axes.errorbar(
            [point.reported for point in own],
            [point.mean for point in own],
            yerr=[nan if point.half is None else point.half for point in own],
            xerr=[point.reported_std for point in own],
            fmt=marker,
            color=colour,
            markersize=6,
            fillstyle=fill or "full",
            markerfacecolor=colour if fill else "white",
            markerfacecoloralt="white",
            markeredgewidth=1.5,
            elinewidth=1,
            capsize=2,
            label=_entry(section),
            zorder=2,
        )
    axes.set_xlabel("reported validation accuracy")
    axes.set_ylabel("measured validation accuracy")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    if many:
        below_axes = (0.0, -0.52 / (height * axes.get_position().height))
        legend = axes.legend(
            fontsize=8, ncols=2, borderaxespad=0, frameon=False, loc="upper left", bbox_to_anchor=below_axes
        )
    else:
        legend = axes.legend(fontsize=9, loc="upper left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _entry(section: str) -> str:
    """The section in the legend, which leaves out labels that start with an underscore."""
    short = section if len(section) <= LONGEST else f"{section[: LONGEST - 1]}…"
    return f" {short}" if short.startswith("_") else short
