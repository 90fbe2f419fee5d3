"""Figures 5 to 20: loss and validation accuracy over epochs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caltech_exp.reporting.curve_data import Quantity, band, step_downs, values
from caltech_exp.reporting.frame import frame, room_below, wrap
from caltech_exp.reporting.outcome import Outcome

FEW_EPOCHS = 15
"""Up to here every epoch gets a marker."""
LARGE_LOSS = 20.0
"""Above this, as when a run diverges, losses are drawn on a logarithmic axis (chance level is 4.6)."""
MOST_NAMED = 5
"""Diverged runs named by their seeds in the legend; of more only the number."""


@dataclass(frozen=True)
class Style:
    """A curve's look: Okabe-Ito colours, and line styles that tell the curves apart in grey."""

    quantity: Quantity
    label: str
    colour: str
    line: str
    marker: str


TRAIN = Style("train_loss", "training", "#0072B2", "-", "o")
VAL = Style("val_loss", "validation", "#D55E00", "--", "s")
ACCURACY = Style("val_accuracy", "validation", "#009E73", "-", "o")


def draw_curves(
    title: str,
    finished: Sequence[Outcome],
    diverged: Sequence[Outcome],
    reported: float | None = None,
    caution: str = "",
) -> Figure:
    """Two panels over epochs: training and validation loss; validation accuracy (0 to 1).

    Finished runs appear as their mean with a band from smallest to largest value, diverged ones each as a
    thin line that ends in a cross. `reported` is the report's accuracy after the last epoch. At least one of
    the runs needs an epoch.
    """
    finished = [result for result in finished if result.epochs]
    diverged = [result for result in diverged if result.epochs]
    figure, loss, accuracy = _canvas(title, caution)
    epochs = max(len(result.epochs) for result in (*finished, *diverged))
    _panel(loss, (TRAIN, VAL), finished, diverged)
    _panel(accuracy, (ACCURACY,), finished, diverged)
    _loss_axis(loss)
    accuracy.set_ylabel("validation accuracy")
    accuracy.set_ylim(0, 1)
    if reported is not None:
        accuracy.axhline(
            reported, color="black", linestyle=":", linewidth=1.3, label="report, after the last epoch"
        )
    for axes in (loss, accuracy):
        _epoch_axis(axes, epochs, step_downs([*finished, *diverged]), diverged)
    return figure


def _canvas(title: str, caution: str) -> tuple[Figure, Axes, Axes]:
    """A figure with its two panels. Margins are fixed in inches: layout="constrained" takes longer to find
    them than all the drawing takes."""
    width = 10.0
    caution = wrap(caution, width)
    below = room_below(caution)
    height = 4.2 + below
    figure = Figure(figsize=(width, height))
    frame(figure, title, caution)
    loss, accuracy = figure.subplots(1, 2)
    figure.subplots_adjust(
        left=0.75 / width, right=1 - 0.12 / width, bottom=(0.5 + below) / height, top=1 - 0.4 / height, wspace=0.16
    )
    return figure, loss, accuracy


def _loss_axis(axes: Axes) -> None:
    """From 0, or logarithmic where a diverging run would flatten all other curves."""
    highest = max((value for line in axes.lines for value in _finite(line.get_ydata())), default=0.0)
    axes.set_ylabel("loss")
    if highest > LARGE_LOSS:
        axes.set_yscale("log")
        axes.set_ylabel("loss (logarithmic)")
    else:
        axes.set_ylim(0, max(highest * 1.05, axes.get_ylim()[1]))


def _panel(axes: Axes, styles: Sequence[Style], finished: Sequence[Outcome], diverged: Sequence[Outcome]) -> None:
    for style in styles:
        if finished:
            _draw_band(axes, style, finished)
        for number, result in enumerate(diverged):
            _draw_diverged(axes, style, result, label=number == 0)


def _draw_band(axes: Axes, style: Style, finished: Sequence[Outcome]) -> None:
    over = band(finished, style.quantity)
    x = np.arange(1, len(over.mean) + 1)
    marker = style.marker if len(x) <= FEW_EPOCHS else ""
    label = f"{style.label}, mean of {over.runs}" if over.runs > 1 else style.label
    axes.plot(
        x,
        over.mean,
        color=style.colour,
        linestyle=style.line,
        marker=marker,
        markersize=5,
        linewidth=1.8,
        label=label,
    )
    if over.runs > 1:
        axes.fill_between(x, over.low, over.high, color=style.colour, alpha=0.25, linewidth=0)
        if len(x) == 1:  # a band over one epoch has no width to be seen
            axes.vlines(x, over.low, over.high, color=style.colour, linewidth=1.8)


def _draw_diverged(axes: Axes, style: Style, result: Outcome, *, label: bool) -> None:
    y = values(result, style.quantity)
    x = np.arange(1, len(y) + 1)
    axes.plot(
        x,
        y,
        color=style.colour,
        linestyle=style.line,
        linewidth=1,
        alpha=0.7,
        label=f"{style.label}, diverged" if label else None,
    )
    known = np.flatnonzero(np.isfinite(y))
    if known.size:
        last = known[-1]
        axes.plot(x[last], y[last], color=style.colour, marker="X", markersize=9, linestyle="none")


def _mark_divergence(axes: Axes, diverged: Sequence[Outcome]) -> None:
    """A line at every epoch in which a run diverged; the legend says which, the caption when."""
    seeds = ", ".join(str(result.seed) for result in diverged)
    label: str | None = (
        f"diverged (seed {seeds})" if len(diverged) <= MOST_NAMED else f"{len(diverged)} runs diverged"
    )
    for epoch in sorted({len(result.epochs) for result in diverged}):
        axes.axvline(epoch, color="black", linewidth=0.9, linestyle="-.", label=label)
        label = None


def _epoch_axis(axes: Axes, epochs: int, steps: Sequence[float], diverged: Sequence[Outcome]) -> None:
    _mark_divergence(axes, diverged)
    for number, step in enumerate(steps):
        label = "learning rate steps down" if number == 0 else None
        axes.axvline(step, color="0.45", linewidth=0.9, label=label)
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=9)


def _finite(line: object) -> list[float]:
    array = np.asarray(line, dtype=np.float64)
    return [float(value) for value in array[np.isfinite(array)]]
