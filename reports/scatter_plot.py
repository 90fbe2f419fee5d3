"""Measured against reported, a point for every row."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from reports.frame import frame, room_below, wrap
from reports.scatter_data import ScatterPoint

WIDTH = 6.4
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
"""Okabe-Ito colours with a marker each, so that sections differ in grey too."""


def draw_scatter(points: Sequence[ScatterPoint], caution: str) -> Figure:
    """Reported accuracies across, measured ones up, both from 0 to 1; the diagonal is agreement."""
    caution = wrap(caution, WIDTH)
    below = room_below(caution)
    height = 5.9 + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, "Agreement with the report", caution)
    axes = figure.add_axes((0.7 / WIDTH, (0.55 + below) / height, 1 - 0.85 / WIDTH, 1 - (0.95 + below) / height))
    axes.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", label="agreement", zorder=1)
    sections = list(dict.fromkeys(point.section for point in points))
    for section, (colour, marker) in zip(sections, LOOKS, strict=False):
        own = [point for point in points if point.section == section]
        axes.errorbar(
            [point.reported for point in own],
            [point.mean for point in own],
            yerr=[point.half or 0 for point in own],
            xerr=[point.reported_std for point in own],
            fmt=marker,
            color=colour,
            markersize=6,
            markerfacecolor="white",
            markeredgewidth=1.5,
            elinewidth=1,
            capsize=2,
            label=section,
            zorder=2,
        )
    axes.set_xlabel("reported validation accuracy")
    axes.set_ylabel("measured validation accuracy")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9, loc="upper left")
    return figure
