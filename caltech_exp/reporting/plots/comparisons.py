"""Rows side by side: measured beside reported values, differences from the report, and two settings as a map."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from caltech_exp.reporting.plots.data import HeatMap, RowPlot, RowPoint
from caltech_exp.reporting.plots.style import (
    INK,
    LETTER,
    PAPER,
    QUIET,
    RULE,
    SERIES,
    VERDICTS,
    Look,
    accuracy_axis,
    add_axes,
    entry,
    legend_above,
    new_figure,
    shades,
    spread,
)
from caltech_exp.reporting.render.blocks import Column, Interval, shown

WIDTH, SWEEP_WIDTH = 6.6, 5.0
ROW = 0.2
"""Inches of a row of one line."""
TOP, BOTTOM = 0.56, 0.42
"""Inches above the axes for title and legend, and below them."""
LABEL_LETTERS, LABEL_LINES = 40, 2
"""Of a row's label."""
WIDEST_DIFFERENCE = 0.1
"""Differences beyond it become arrows at the edge, as they would squeeze all others."""
MOST_NAMED = 5
"""Rows that the plot of measured against reported values names."""
DIFFERENCE = Column("difference", "difference")
MEASURED, REPORTED = SERIES[0], SERIES[1]
CELL = (0.62, 0.3)
"""Inches of a cell of a map."""
MOST_CELLS = 12
"""Up to which in a line of a map each shows its number."""
SHADES = shades(0.62)


def draw_sweep(plot: RowPlot) -> Figure:
    """A table's rows below each other: every run, their mean with its 95 % interval, and the report's mean with
    its standard deviation."""
    rows = plot.rows
    figure, axes, places = _row_axes(plot, [row.label for row in rows], SWEEP_WIDTH, 0.15, tall=0.27)
    aside = 0.17 if any(row.reported is not None for row in rows) else 0
    for row, place in zip(rows, places, strict=True):
        dots = np.full(len(row.accuracies), place - aside)
        axes.plot(row.accuracies, dots, "|", color=INK, markersize=5, mew=0.8, zorder=4)
        if row.mean is not None:
            _point(axes, row.mean, place - aside, row.half_width, MEASURED, marker="o")
        if row.reported is not None:
            _point(
                axes, row.reported, place + aside, row.reported_std, REPORTED, marker="D", markerfacecolor=PAPER
            )
        if row.diverged:
            _say_diverged(axes, row, place)
    values = [value for row in rows for value in _ends(row)]
    accuracy_axis(axes.xaxis, min(values, default=0.0), max(values, default=1.0))
    axes.set_xlabel("validation accuracy", labelpad=2)
    entries = []
    if any(row.mean is not None for row in rows):
        interval = ", 95 % interval" if any(row.half_width is not None for row in rows) else ""
        entries.append(entry(f"measured mean{interval}", MEASURED, "o"))
        entries.append(entry("each run", INK, "|", mew=0.8))
    if any(row.reported is not None for row in rows):
        entries.append(entry("reported ± deviation", REPORTED, "D", mfc=PAPER))
    legend_above(axes, entries, is_at_edge=True)
    return figure


def _ends(row: RowPoint) -> list[float]:
    """All accuracies that are drawn of a row; no interval reaches beyond 0 and 1."""
    values = list(row.accuracies)
    for middle, half in ((row.mean, row.half_width), (row.reported, row.reported_std)):
        if middle is not None:
            values += [max(middle - (half or 0), 0), min(middle + (half or 0), 1)]
    return values


def draw_differences(plot: RowPlot) -> Figure:
    """Measured minus reported accuracy of rows, section by section, in numbers too; the marker is the verdict."""
    lines: list[RowPoint | str] = []
    for row in plot.rows:
        if row.group and row.group not in lines:
            lines.append(row.group)
        lines.append(row)
    labels = [line if isinstance(line, str) else line.label for line in lines]
    figure, axes, places = _row_axes(plot, labels, WIDTH, 1.15)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        if isinstance(line, str):
            label.set(weight="bold", color=INK)
    widest = max(abs(row.difference or 0) + (row.difference_half_width or 0) for row in plot.rows)
    limit = min(max(widest * 1.05, 0.01), WIDEST_DIFFERENCE)
    axes.axvline(0, color=QUIET, linewidth=1, zorder=1)
    axes.set_xlim(-limit * 1.04, limit * 1.04)
    rows = {place: line for line, place in zip(lines, places, strict=True) if not isinstance(line, str)}
    for verdict, (colour, marker) in VERDICTS.items():
        _differences({y: row for y, row in rows.items() if row.verdict == verdict}, axes, limit, colour, marker)
    for place, row in rows.items():
        if row.difference is not None:
            text = shown(DIFFERENCE, Interval(row.difference, row.difference_half_width))
            style: Look = {"va": "center_baseline", "size": 7, "color": QUIET}
            axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), **style)
        if row.diverged:
            _say_diverged(axes, row, place)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], symmetric=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0")
    )
    axes.set_xlabel("measured − reported validation accuracy, 95 % interval", labelpad=2)
    verdicts = {row.verdict for row in plot.rows}
    entries = [entry(name, colour, marker) for name, (colour, marker) in VERDICTS.items() if name in verdicts]
    if widest > limit:
        entries.append(entry(f"beyond ±{limit:g}", QUIET, ">"))
    legend_above(axes, entries, is_at_edge=True)
    return figure


def _differences(rows: dict[float, RowPoint], axes: Axes, limit: float, colour: str, marker: str) -> None:
    """The points of rows by their place, with intervals that arrows cut at the limit."""
    y = np.array([place for place, row in rows.items() if row.difference is not None])
    known = [row for row in rows.values() if row.difference is not None]
    values = np.array([row.difference for row in known], dtype=np.float64)
    halves = np.array([row.difference_half_width or 0.0 for row in known])
    low, high = values - halves, values + halves
    axes.hlines(y, np.clip(low, -limit, limit), np.clip(high, -limit, limit), colour, linewidth=1.2)
    style: Look = {"color": colour, "markersize": 4.5, "ls": "", "clip_on": False, "zorder": 3}
    inside = abs(values) <= limit
    axes.plot(values[inside], y[inside], marker, **style)
    for arrow, edge, is_beyond in (("<", -limit, low < -limit), (">", limit, high > limit)):
        axes.plot(np.full(is_beyond.sum(), edge), y[is_beyond], arrow, **style)


def draw_agreement(plot: RowPlot) -> Figure:
    """Measured against reported accuracy, a point a row, with both intervals; the diagonal is agreement.

    The rows that do not agree are named, the farthest first.
    """
    width, height = 4.8, 3.1
    figure, below = new_figure(width, height, plot.title, plot.caution)
    axes = add_axes(figure, 0.5, BOTTOM + below, width - 0.65, height - TOP - BOTTOM)
    rows = [row for row in plot.rows if row.mean is not None and row.reported is not None]
    values = [value for row in rows for value in (row.mean or 0, row.reported or 0)]
    for axis in (axes.xaxis, axes.yaxis):
        accuracy_axis(axis, min(values, default=0.0), max(values, default=1.0))
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for row in sorted(rows, key=lambda row: row.verdict != "agrees"):  # the others above them
        colour, marker = VERDICTS[row.verdict or "inconclusive"]
        style: Look = {"fmt": marker, "color": colour, "markersize": 4.5, "elinewidth": 0.9, "alpha": 0.9}
        axes.errorbar(row.reported or 0, row.mean or 0, row.half_width, row.reported_std, zorder=3, **style)
    axes.set_xlabel("reported validation accuracy", labelpad=2)
    axes.set_ylabel("measured validation accuracy")
    named = [row for row in rows if row.verdict in ("differs", "inconclusive")]
    _name(axes, sorted(named, key=_distance, reverse=True)[:MOST_NAMED])
    verdicts = {row.verdict for row in rows}
    entries = [entry(name, colour, marker) for name, (colour, marker) in VERDICTS.items() if name in verdicts]
    legend_above(axes, [*entries, entry("measured = reported", QUIET, line=(0, (4, 2)), lw=0.8)])
    return figure


def _distance(row: RowPoint) -> float:
    return abs((row.mean or 0) - (row.reported or 0))


def _name(axes: Axes, rows: Sequence[RowPoint]) -> None:
    """Labels right below their points, left above them near the right edge: points lie along the diagonal."""
    box = axes.get_position()
    across, up = axes.figure.get_size_inches()  # type: ignore[union-attr]
    across, up = across * box.width, up * box.height
    to_axes = axes.transData + axes.transAxes.inverted()
    labels = [textwrap.shorten(row.label, 36, placeholder="…") for row in rows]
    points = [to_axes.transform((row.reported or 0, row.mean or 0)) for row in rows]
    is_left = [x + (0.15 + 0.06 * len(label)) / across > 1 for (x, _), label in zip(points, labels, strict=True)]
    for side in (True, False):
        chosen = [index for index in range(len(rows)) if is_left[index] == side]
        shift = 0.17 if side else -0.17
        wanted = [points[index][1] + shift / up for index in chosen]
        for index, place in zip(chosen, spread(wanted, [0.13 / up] * len(chosen), 1.0), strict=True):
            x, y = points[index]
            target = x + (-0.12 if side else 0.12) / across
            axes.annotate(
                labels[index],
                (x, y),
                (target, place),
                xycoords="axes fraction",
                textcoords="axes fraction",
                ha="right" if side else "left",
                va="center",
                size=7,
                arrowprops={"arrowstyle": "-", "color": RULE, "relpos": (1 if side else 0, 0.5), "shrinkB": 2},
            )


def draw_heat_map(plot: HeatMap) -> Figure:
    """Two settings varied together: a cell for each pair, with its mean; the best one has a frame."""
    lines, columns = plot.means.shape
    left = 0.4 + LETTER * max(map(len, plot.y_labels))
    wide = max(CELL[0] * min(columns, MOST_CELLS), 2.0)
    tall = CELL[1] * min(lines, MOST_CELLS)
    figure, below = new_figure(max(left + wide + 0.9, 4.2), TOP - 0.2 + tall + BOTTOM, plot.title, plot.caution)
    axes = add_axes(figure, left, BOTTOM + below, wide, tall)
    mesh = axes.pcolormesh(np.arange(columns + 1), np.arange(lines + 1), plot.means, cmap=SHADES)
    axes.set_xticks(np.arange(columns) + 0.5, plot.x_labels)
    axes.set_yticks(np.arange(lines) + 0.5, plot.y_labels)
    axes.set(xlim=(0, columns), ylim=(lines, 0), xlabel=plot.x_heading, ylabel=plot.y_heading)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if columns <= MOST_CELLS and lines <= MOST_CELLS:
        for (line, column), value in np.ndenumerate(plot.means):
            number = "–" if np.isnan(value) else f"{value:.3f}"
            axes.text(column + 0.5, line + 0.5, number, ha="center", va="center", size=7.5)
    if np.isfinite(plot.means).any():
        line, column = divmod(int(np.nanargmax(plot.means)), columns)
        axes.add_patch(Rectangle((column, line), 1, 1, fill=False, ec=INK, lw=1.6, clip_on=False, zorder=4))
        bar = figure.colorbar(mesh, cax=add_axes(figure, left + wide + 0.12, BOTTOM + below, 0.1, tall))
        bar.set_label("validation\naccuracy", color=QUIET)
        bar.ax.grid(False)
        bar.locator = MaxNLocator(nbins=4, steps=[1, 2, 5, 10])
        bar.outline.set_visible(False)
    return figure


def _row_axes(
    plot: RowPlot, labels: Sequence[str], width: float, right: float, tall: float = ROW
) -> tuple[Figure, Axes, list[float]]:
    """Axes with a labelled line for each row, the first on top, and the rows' places on its y axis."""
    labels = ["\n".join(textwrap.wrap(label, LABEL_LETTERS)[:LABEL_LINES]) for label in labels]
    heights = [tall + 0.13 * label.count("\n") for label in labels]
    letters = max(len(line) for label in labels for line in label.split("\n"))
    left = 0.2 + LETTER * 0.93 * letters
    figure, below = new_figure(width, TOP + sum(heights) + BOTTOM, plot.title, plot.caution)
    axes = add_axes(figure, left, BOTTOM + below, width - left - right, sum(heights))
    edges = np.cumsum([0.0, *heights])
    places = [float(place) for place in (edges[:-1] + edges[1:]) / 2 / tall]
    axes.set_yticks(places, labels)
    axes.set_ylim(edges[-1] / tall, 0)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    return figure, axes, places


def _point(axes: Axes, value: float, place: float, half: float | None, colour: str, **style: Any) -> None:
    axes.errorbar(value, place, xerr=half, color=colour, elinewidth=1.2, markersize=5, zorder=3, **style)


def _say_diverged(axes: Axes, row: RowPoint, place: float) -> None:
    of_runs = f" of {len(row.accuracies) + row.diverged}" if row.accuracies else ""
    text = f"✕ {row.diverged}{of_runs} diverged"
    where: Look = {"ha": "right", "va": "center", "transform": axes.get_yaxis_transform()}
    axes.text(0.99, place, text, size=7, weight="bold", color=VERDICTS["differs"][0], **where)
