"""The rows of a table over epochs: training and validation loss left, validation accuracy right."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from caltech_exp.reporting.plots.data import Array, Band, Curve, CurvePlot
from caltech_exp.reporting.plots.style import (
    INK,
    LETTER,
    MARKERS,
    PAPER,
    QUIET,
    RULE,
    SERIES,
    Look,
    accuracy_axis,
    add_axes,
    entry,
    legend_above,
    new_figure,
    spread,
)
from caltech_exp.reporting.render.blocks import accuracy

WIDTH, HEIGHT = 5.0, 2.35
"""Inches: as large as beside a table on the page, where smaller letters could not be read."""
FEW_EPOCHS = 15
"""Up to here every epoch gets a marker."""
MARKERS_PER_CURVE = 4
LABEL_LETTERS = 17
"""Of a line of the label at a curve's end."""
ROOM_FOR_LINES = 11
"""Lines of all labels together."""
LEFT, BOTTOM, BETWEEN, TOP = 0.5, 0.4, 0.56, 0.54
"""Inches around the two panels; title and legends stand above them."""
LABEL_ROOM = 0.36
"""Inches right of the panels beside the letters of the labels."""
CROSS: Look = {"marker": "x", "markersize": 6, "mew": 1.6}
ARROW: Look = {"marker": ">", "markersize": 5, "mew": 1.2, "mfc": PAPER}
"""Where a diverged and a running run end."""
TRAINING, VALIDATION = "-", (0, (3, 1.5))
"""Lines of the losses."""
WIDE_RATIO = 25.0
"""Losses whose largest is this many times the smallest are drawn on a logarithmic axis."""
PADDING = 0.025
"""Room left and right of the curves, as a share of the epochs."""
MIN_SPAN = 0.05
"""Of an axis of accuracies: noise does not fill the panel."""
START = 0.1
"""Share of the epochs, the first ones, that may leave the axes where they would flatten all others."""


@dataclass(frozen=True)
class Mark:
    """What tells a row apart, in colour and without."""

    colour: str
    marker: str


def draw_curves(plot: CurvePlot) -> Figure:
    """Two panels; every row has a colour, a marker, and a label with its last accuracy at its curve's end.

    Finished runs appear as their mean, with a band from the smallest to the largest value of the accuracy (of a
    single row also of the losses); diverged runs as thin lines that end in a cross, running ones in an arrow; the
    report's value as a hollow diamond after the last epoch.
    """
    curves = plot.curves
    labels = _labels(curves)
    letters = max(len(line) for label in labels for line in label.splitlines())
    figure, below = new_figure(WIDTH, HEIGHT, plot.title, plot.caution)
    width = (WIDTH - LEFT - BETWEEN - LABEL_ROOM - 0.9 * LETTER * letters) / 2
    loss, val = (
        add_axes(figure, left, BOTTOM + below, width, HEIGHT - BOTTOM - TOP)
        for left in (LEFT, LEFT + width + BETWEEN)
    )
    styles = [Mark(SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]) for number in range(len(curves))]
    for number, (curve, style) in enumerate(zip(curves, styles, strict=True)):
        _draw_row(loss, val, curve, style, place=(number + 0.5) / len(curves), has_loss_band=len(curves) == 1)
    _loss_axis(loss, curves)
    _accuracy_limits(val, curves)
    for axes in (loss, val):
        _epoch_axis(axes, curves)
    _label_ends(val, curves, labels, styles)
    _legends(loss, val, curves)
    return figure


def _labels(curves: Sequence[Curve]) -> list[str]:
    """`5e-2: 0.460` and how many runs diverged; names are cut where not all lines find room beside the panel."""
    lasts = ["" if curve.measured is None else f": {accuracy(curve.measured)}" for curve in curves]
    labels = [textwrap.wrap(curve.label + last, LABEL_LETTERS) for curve, last in zip(curves, lasts, strict=True)]
    room = ROOM_FOR_LINES - sum(bool(curve.diverged) + bool(curve.running) for curve in curves)
    if sum(map(len, labels)) > room:
        lines = max(room // len(curves), 1)
        # A line breaks between words, so that not every letter of it is used.
        letters = LABEL_LETTERS * lines - (LABEL_LETTERS // 3 if lines > 1 else 0)
        for place, (curve, last) in enumerate(zip(curves, lasts, strict=True)):
            if len(curve.label + last) > letters:
                name = f"{curve.label[: letters - len(last) - 1]}…"
                labels[place] = textwrap.wrap(name + last, LABEL_LETTERS)
    for curve, label in zip(curves, labels, strict=True):
        if curve.diverged:
            label.append(f"✕ {len(curve.diverged)} of {curve.runs + len(curve.diverged)} diverged")
        if curve.running:
            label.append(f"▷ {len(curve.running)} running")
    return ["\n".join(label) for label in labels]


def _draw_row(loss: Axes, val: Axes, curve: Curve, style: Mark, *, place: float, has_loss_band: bool) -> None:
    """`place`, from 0 to 1, shifts the markers, so that those of rows that lie on each other are all seen."""
    for axes, band, line, has_band in (
        (loss, curve.train_loss, TRAINING, has_loss_band),
        (loss, curve.val_loss, VALIDATION, has_loss_band),
        (val, curve.val_accuracy, "-", True),
    ):
        if band is None:
            continue
        x = np.arange(1, len(band.mean) + 1)
        if has_band and curve.runs > 1:
            axes.fill_between(x, band.low, band.high, color=style.colour, alpha=0.2, linewidth=0)
            if len(x) == 1:  # a band over one epoch has no width to be seen
                axes.vlines(x, band.low, band.high, color=style.colour, linewidth=1.4, alpha=0.5)
        step = max(len(x) // MARKERS_PER_CURVE, 1)
        marks = slice(0, None) if len(x) <= FEW_EPOCHS else slice(int(place * step), None, step)
        axes.plot(x, band.mean, color=style.colour, ls=line, marker=style.marker, markevery=marks, markersize=4)
    for run, end in (*((run, CROSS) for run in curve.diverged), *((run, ARROW) for run in curve.running)):
        for axes, values, line in (
            (loss, run.train_loss, TRAINING),
            (loss, run.val_loss, VALIDATION),
            (val, run.val_accuracy, "-"),
        ):
            _draw_single(axes, values, style, line, end)
    _mark_steps(val, curve)
    if curve.reported is not None:
        hollow: Look = {"marker": "D", "markersize": 5, "markerfacecolor": PAPER, "markeredgewidth": 1.2}
        val.plot(
            curve.epochs * (1 + PADDING),
            curve.reported,
            color=style.colour,
            ls="",
            zorder=4,
            clip_on=False,
            **hollow,
        )


def _draw_single(axes: Axes, values: Array, style: Mark, line: object, end: Look) -> None:
    known = np.flatnonzero(np.isfinite(values))
    axes.plot(known + 1, values[known], color=style.colour, ls=line, linewidth=0.8, alpha=0.8)
    if known.size:
        axes.plot(known[-1] + 1, values[known[-1]], color=style.colour, ls="", **end)


def _mark_steps(axes: Axes, curve: Curve) -> None:
    """A short stroke through the row's own curve, as rows step at different epochs."""
    band = curve.val_accuracy
    if band is None:
        return
    steps = np.array([step for step in curve.lr_steps if step < len(band.mean)], dtype=int)
    if steps.size:
        axes.plot(
            steps + 0.5, (band.mean[steps - 1] + band.mean[steps]) / 2, "|", color=INK, ms=6, mew=0.9, zorder=3
        )


def _spans(curves: Sequence[Curve], names: Sequence[str], has_band: bool) -> tuple[Array, Array]:
    """All values that are drawn of these quantities in the first epochs, and in the others."""
    early, late = [np.empty(0)], [np.empty(0)]
    for curve in curves:
        start = int(np.ceil(START * curve.epochs))
        bands: list[Band | None] = [getattr(curve, name) for name in names]
        values = [part for band in bands if band for part in ((band.low, band.high) if has_band else (band.mean,))]
        values += [getattr(run, name) for run in curve.singles for name in names]
        early += [part[:start] for part in values]
        late += [part[start:] for part in values]
    first, other = np.concatenate(early), np.concatenate(late)
    return first[np.isfinite(first)], other[np.isfinite(other)]


def _loss_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    """From 0, or logarithmic where small or diverging losses would not be told apart."""
    early, late = _spans(curves, ("train_loss", "val_loss"), has_band=len(curves) == 1)
    values = np.concatenate([early, late])
    axes.set_ylabel("loss")
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > WIDE_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        decades = np.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0 if low < 0.6 * high else low - 0.1 * (high - low), high + 0.06 * (high - low) + 1e-6)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def _accuracy_limits(axes: Axes, curves: Sequence[Curve]) -> None:
    """Of all epochs, or of those after the start where that leaves more than half of the axis to few epochs."""
    early, late = _spans(curves, ("val_accuracy",), has_band=True)
    reported = np.array([curve.reported for curve in curves if curve.reported is not None])
    late = np.concatenate([late, reported])
    every = np.concatenate([early, late])
    axes.set_ylabel("validation accuracy")
    if not every.size:
        return
    low, high = float(every.min()), float(every.max())
    if late.size and high - float(late.min()) < 0.5 * (high - low):
        low = float(late.min())
    accuracy_axis(axes.yaxis, low, high, MIN_SPAN)


def _epoch_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    epochs = max(curve.epochs for curve in curves)
    axes.set_xlabel("epoch", labelpad=2)
    axes.set_xlim(1 - PADDING * epochs, epochs * (1 + PADDING))
    if epochs <= 2:
        axes.set_xlim(0.5, epochs + 0.5)
        axes.xaxis.set_major_locator(FixedLocator(range(1, epochs + 1)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))


def _label_ends(axes: Axes, curves: Sequence[Curve], labels: Sequence[str], styles: Sequence[Mark]) -> None:
    """Labels right of the axes at the height of the curves' ends, moved apart where those are close."""
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    ends = [float(np.clip((_end(curve, low) - low) / (high - low), 0, 1)) for curve in curves]
    heights = [0.118 * (label.count("\n") + 1) / inches for label in labels]
    inch = 1 / (axes.get_position().width * axes.figure.get_figwidth())  # type: ignore[union-attr]
    right = axes.get_xlim()[1]
    places = spread(ends, heights, 1.03)
    for curve, label, style, end, place in zip(curves, labels, styles, ends, places, strict=True):
        start = 1.0 if curve.reported is None else 1 + 0.06 * inch
        inside: Look = {"transform": axes.transAxes, "clip_on": False}
        if curve.epochs > 0.9 * right:  # a line to a row of fewer epochs would cross the others
            axes.plot([start, 1 + 0.13 * inch], [end, place], color=RULE, linewidth=0.7, zorder=0, **inside)
        axes.plot(1 + 0.18 * inch, place, marker=style.marker, color=style.colour, markersize=4, **inside)
        axes.text(1 + 0.26 * inch, place, label, va="center", size=7, linespacing=1.05, transform=axes.transAxes)


def _end(curve: Curve, nothing: float) -> float:
    if curve.val_accuracy is not None:
        return float(curve.val_accuracy.mean[-1])
    ends = [run.val_accuracy[np.isfinite(run.val_accuracy)] for run in curve.singles]
    return next((float(values[-1]) for values in ends if values.size), nothing)


def _legends(loss: Axes, val: Axes, curves: Sequence[Curve]) -> None:
    legend_above(loss, [entry("training", QUIET, line=TRAINING), entry("validation", QUIET, line=VALIDATION)])
    marks = []
    if any(curve.reported is not None for curve in curves):
        marks.append(entry("reported", QUIET, "D", mfc=PAPER, mew=1.2))
    if any(step < curve.epochs for curve in curves if curve.val_accuracy for step in curve.lr_steps):
        marks.append(entry("LR steps down", INK, "|", mew=0.9))
    if any(curve.running for curve in curves):
        marks.append(entry("running", QUIET, ">", mfc=PAPER, mew=1.2))
    legend_above(val, marks)
