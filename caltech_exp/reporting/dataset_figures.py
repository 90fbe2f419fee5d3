"""Figures 1 to 3: the class averages and the two class distributions."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caltech_exp.data.splits import DataSet, Sample
from caltech_exp.reporting.banner import STAND_IN_PICTURE
from caltech_exp.reporting.composite import TILE, Averages
from caltech_exp.reporting.frame import frame

LONGEST_NAME = 24
"""Letters of a class name that find room in a figure."""
COLUMNS = 11
"""Tiles in a line of the composition: 101 classes make ten lines."""
LABEL_ROOM, GAP = 14, 4
"""Pixels above a tile for its name, and beside it."""
BAR_COLOURS = {"train": "#0072B2", "test": "#D55E00"}


def draw_averages(title: str, data: DataSet, averages: Averages) -> Figure:
    """A labelled grid of the classes' average images, drawn as one picture with the names above the tiles."""
    height, width = TILE
    lines = -(-len(data.classes) // COLUMNS)
    step, stride = height + LABEL_ROOM, width + GAP
    canvas = np.full((lines * step, COLUMNS * stride, 3), 255, dtype=np.uint8)
    tall, room = 12.5 * canvas.shape[0] / canvas.shape[1], 0.4
    figure = Figure(figsize=(12.5, tall + 2 * room))
    frame(figure, title, STAND_IN_PICTURE if data.stand_in else "")
    axes = figure.add_axes((0.005, room / (tall + 2 * room), 0.99, tall / (tall + 2 * room)))
    for number, (name, tile) in enumerate(zip(data.classes, averages.tiles, strict=True)):
        top, left = number // COLUMNS * step + LABEL_ROOM, number % COLUMNS * stride
        label = _shown(name) if tile is not None else f"{_shown(name)}\n(unreadable)"
        axes.text(left + width / 2, top - 2, label, ha="center", va="bottom", fontsize=8)
        if tile is not None:
            canvas[top : top + height, left : left + width] = (tile * 255).astype(np.uint8)
    axes.imshow(canvas, interpolation="bilinear")
    axes.axis("off")
    return figure


def draw_distribution(title: str, split: str, data: DataSet, samples: Sequence[Sample]) -> Figure:
    """Images per class, a bar for each class in label order, its number at its end."""
    counts = Counter(sample.label for sample in samples)
    heights = [counts[label] for label in range(len(data.classes))]
    longest = min(max(len(name) for name in data.classes), LONGEST_NAME)
    width, height, left = 8.5, 0.155 * len(heights) + 1.5, 0.075 * longest + 0.25
    figure = Figure(figsize=(width, height))
    frame(figure, title, STAND_IN_PICTURE if data.stand_in else "")
    axes = figure.add_axes((left / width, 0.9 / height, 1 - (left + 0.15) / width, 1 - 1.4 / height))
    positions = range(len(heights))
    bars = axes.barh(positions, heights, color=BAR_COLOURS[split], height=0.75)
    axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks(positions, [_shown(name) for name in data.classes], fontsize=8)
    axes.set_ylim(len(heights) - 0.4, -0.6)
    axes.set_xlabel("images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.06)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _shown(name: str) -> str:
    """A class's folder name as a label; matplotlib would read a formula between dollar signs."""
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")
