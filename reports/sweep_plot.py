"""A table as a plot: measured and reported accuracy of its rows side by side."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reports.frame import frame, room_below, wrap
from reports.sweep_data import SweepRow

WIDTH = 7.0
MEASURED, REPORTED, SEED = "#0072B2", "#D55E00", "#56B4E9"
ASIDE = 0.12
"""How far from the row's place the two values stand, to the left and to the right."""
LETTERS = 18
"""Of a label's line."""


def draw_sweep(title: str, heading: str, rows: Sequence[SweepRow], caution: str) -> Figure:
    """Every row a place on the axis: each run a dot, their mean with its interval, the report's mean with its
    standard deviation. Diverged runs are a cross on the lower edge with their number."""
    caution = wrap(caution, WIDTH)
    labels = [textwrap.fill(row.label.replace("$", r"\$"), LETTERS) for row in rows]
    lines = max(label.count("\n") for label in labels)
    below = room_below(caution)
    height = 3.9 + 0.15 * lines + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, title, caution)
    bottom = (0.6 + 0.15 * lines + below) / height
    axes = figure.add_axes((0.85 / WIDTH, bottom, 1 - 1 / WIDTH, 1 - 0.42 / height - bottom))
    aside = ASIDE if any(row.reported is not None for row in rows) else 0
    for place, row in enumerate(rows):
        left, right = place - aside, place + aside
        axes.plot([left - ASIDE] * len(row.single), row.single, "o", color=SEED, markersize=4, zorder=2)
        if row.mean is not None:
            axes.errorbar(left, row.mean, row.half, fmt="o", color=MEASURED, capsize=4, markersize=7, zorder=3)
        if row.reported is not None:
            axes.errorbar(right, row.reported, row.reported_std, fmt="s", color=REPORTED, capsize=4, markersize=7,
                          markerfacecolor="white", zorder=3)  # fmt: skip
        if row.diverged:
            mark = {"ha": "center", "va": "bottom", "weight": "bold"}
            axes.text(left, 0.01, f"✕ {row.diverged} diverged", mark, transform=axes.get_xaxis_transform())
    _legend(axes, rows)
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(heading.replace("$", r"\$").lower())
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02), min(high, 1.02))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _legend(axes: Axes, rows: Sequence[SweepRow]) -> None:
    if any(row.mean is not None for row in rows):
        axes.plot([], [], "o", color=MEASURED, label="measured mean, 95 % CI")
        axes.plot([], [], "o", color=SEED, markersize=4, label="each run")
    if any(row.reported is not None for row in rows):
        axes.plot([], [], "s", color=REPORTED, markerfacecolor="white", label="reported mean, std")
    axes.legend(fontsize=9, loc="best")
