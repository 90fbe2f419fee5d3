"""A table as a plot: measured and reported accuracy of its rows side by side, or below each other where many."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caltech_exp.reporting.frame import frame, room_below, wrap
from caltech_exp.reporting.sweep_data import SweepRow

WIDTH = 7.0
MEASURED, REPORTED, SEED = "#0072B2", "#D55E00", "#56B4E9"
ASIDE = 0.12
"""How far from the row's place the two values stand, as parts of the room of a row."""
ABOVE = 0.7
"""Inches above the axes, for title and legend: within them the legend would cover values."""
LETTER, LINE = 0.08, 0.15
"""Inches that a letter of a label takes across, and a line of it up."""
LETTERS, LINES = 18, 4
"""Of a label's line, and lines of a label, at most, where rows stand side by side."""
LYING_LETTERS = 26
"""Of a label's line where rows lie below each other."""
MOST_UPRIGHT = 8
"""Rows that find room side by side."""


def draw_sweep(title: str, heading: str, rows: Sequence[SweepRow], caution: str) -> Figure:
    """Every row a place on the axis: each run a dot, their mean with its interval, the report's mean with its
    standard deviation. Diverged runs are a cross on the axis' edge with their number.

    Rows stand side by side, or below each other where they are many or their labels long.
    """
    letters = min(LETTERS, int((WIDTH - 1) / len(rows) / LETTER))
    labels = [textwrap.fill(row.label, max(letters, 4)) for row in rows]
    if len(rows) > MOST_UPRIGHT or max(label.count("\n") for label in labels) >= LINES:
        return _lying(title, heading, rows, wrap(caution, WIDTH))
    return _upright(title, heading, rows, labels, wrap(caution, WIDTH))


def _upright(title: str, heading: str, rows: Sequence[SweepRow], labels: Sequence[str], caution: str) -> Figure:
    """Rows across, values up."""
    lines = max(label.count("\n") for label in labels)
    below = room_below(caution)
    height = 3.5 + ABOVE + LINE * lines + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, title, caution)
    bottom = (0.6 + LINE * lines + below) / height
    axes = figure.add_axes((0.85 / WIDTH, bottom, 1 - 1 / WIDTH, 1 - ABOVE / height - bottom))
    _values(axes, rows, lying=False)
    axes.set_xticks(range(len(rows)), labels, parse_math=False)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(heading.lower(), parse_math=False)
    axes.set_ylabel("validation accuracy")
    low, high, ticks = _range(*axes.get_ylim(), 0.1 if any(row.diverged for row in rows) else 0)
    axes.set_yticks(ticks)
    axes.set_ylim(low, high)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    return figure


def _lying(title: str, heading: str, rows: Sequence[SweepRow], caution: str) -> Figure:
    """Values across, rows down, the first on top."""
    labels = [textwrap.fill(row.label, LYING_LETTERS) for row in rows]
    lines = max(label.count("\n") for label in labels) + 1
    letters = max(len(line) for label in labels for line in label.splitlines())
    left, below = 0.55 + LETTER * letters, 0.55 + room_below(caution)
    tall = len(rows) * max(0.3, 0.17 * lines + 0.12)
    height = ABOVE + tall + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, title, caution)
    axes = figure.add_axes((left / WIDTH, below / height, 1 - (left + 0.2) / WIDTH, tall / height))
    _values(axes, rows, lying=True)
    axes.set_yticks(range(len(rows)), labels, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_ylabel(textwrap.shorten(heading.lower(), int(tall / LETTER), placeholder="…"), parse_math=False)
    axes.set_xlabel("validation accuracy")
    low, high, ticks = _range(*axes.get_xlim(), 0.22 if any(row.diverged for row in rows) else 0)
    axes.set_xticks(ticks)
    axes.set_xlim(low, high)
    axes.grid(color="0.9", linewidth=0.6)
    return figure


def _range(low: float, high: float, room: float) -> tuple[float, float, list[float]]:
    """Limits of an axis of accuracies and its ticks; `room`, a share of its length, is for the crosses."""
    low, high = max(low, -0.02), min(high, 1.02)
    ticks = [tick for tick in MaxNLocator(nbins=8).tick_values(low, high) if 0 <= tick <= 1]
    return low - room * (high - low), high, ticks


def _values(axes: Axes, rows: Sequence[SweepRow], *, lying: bool) -> None:
    """What is drawn of every row, and what the legend says of it."""
    aside = ASIDE if any(row.reported is not None for row in rows) else 0
    for place, row in enumerate(rows):
        before, after = place - aside, place + aside
        dots = [before - ASIDE] * len(row.single), list(row.single)
        axes.plot(*(dots[::-1] if lying else dots), "o", color=SEED, markersize=4, zorder=2)
        if row.mean is not None:
            _bar(axes, before, row.mean, row.half, lying, fmt="o", color=MEASURED)
        if row.reported is not None:
            _bar(
                axes,
                after,
                row.reported,
                row.reported_std,
                lying,
                fmt="s",
                color=REPORTED,
                markerfacecolor="white",
            )
        if row.diverged:
            _diverged(axes, before, row.diverged, lying)
    if any(row.mean is not None for row in rows):
        interval = ", 95 % CI" if any(row.half is not None for row in rows) else ""
        axes.plot([], [], "o", color=MEASURED, label=f"measured mean{interval}")
        axes.plot([], [], "o", color=SEED, markersize=4, label="each run")
    if any(row.reported is not None for row in rows):
        axes.plot([], [], "s", color=REPORTED, markerfacecolor="white", label="reported mean, std")
    if axes.get_legend_handles_labels()[1]:  # of diverged runs alone there is nothing to explain
        axes.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _bar(axes: Axes, place: float, value: float, half: float | None, lying: bool, **look: Any) -> None:
    if lying:
        axes.errorbar(value, place, xerr=half, zorder=3, capsize=3, markersize=5, **look)
    else:
        axes.errorbar(place, value, yerr=half, zorder=3, capsize=4, markersize=7, **look)


def _diverged(axes: Axes, place: float, runs: int, lying: bool) -> None:
    text = f"✕ {runs} diverged"
    if lying:
        mark = {"ha": "left", "va": "center", "weight": "bold", "size": 8}
        axes.text(0.01, place, text, mark, transform=axes.get_yaxis_transform())
    else:
        mark = {"ha": "center", "va": "bottom", "weight": "bold"}
        axes.text(place, 0.01, text, mark, transform=axes.get_xaxis_transform())
