"""The data set and its classes: average images, images per class in both splits, confusion matrices."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray
from PIL import Image

from caltech_exp.data.splits import DataSet, Sample, evenly, opened_image
from caltech_exp.files import in_threads
from caltech_exp.reporting.plots.data import Array, AverageImages, ClassCounts, ConfusionPlot
from caltech_exp.reporting.plots.figure_cache import Drawing
from caltech_exp.reporting.plots.style import (
    INK,
    PAPER,
    QUIET,
    RULE,
    SERIES,
    Look,
    add_axes,
    entry,
    legend_above,
    new_figure,
    shades,
)

WIDE = 9.6
"""Inches of the plot of all classes."""
GRID_WIDTH = 7.2
"""Inches of the average images: photographs at 300 dpi make large files."""
TILE = (54, 72)
"""Height and width in pixels of an average image: three quarters, as most images of the data set are."""
MAX_IMAGES = 60
"""Averaged of each class, evenly spaced; more change the picture no more, and take their time."""
COLUMNS = 12
"""Average images in a line: 101 classes make nine lines."""
LABEL_ROOM, GAP = 13, 4
"""Pixels above an average image for its name, and beside it."""
NAME_LETTERS = 16
COUNT_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
PANEL = 2.2
"""Inches of a confusion matrix's side."""
NAMED = 7
"""Classes that are named at the axis of a confusion matrix, evenly spaced."""


def draw_averages(plot: AverageImages) -> Drawing:
    """A grid of the classes' average images below their names; the words name every image that cannot be read."""
    height, width = TILE
    averages = class_averages(plot.data, MAX_IMAGES)
    lines = -(-len(averages.tiles) // COLUMNS)
    step, stride = height + LABEL_ROOM, width + GAP
    canvas = np.full((lines * step, COLUMNS * stride, 3), 255, dtype=np.uint8)
    tall = (GRID_WIDTH - 0.12) * canvas.shape[0] / canvas.shape[1]
    figure, below = new_figure(GRID_WIDTH, tall + 0.36, plot.title, plot.caution)
    axes = add_axes(figure, 0.06, 0.06 + below, GRID_WIDTH - 0.12, tall)
    for number, (name, tile) in enumerate(zip(plot.data.classes, averages.tiles, strict=True)):
        top, left = number // COLUMNS * step + LABEL_ROOM, number % COLUMNS * stride
        label = _cut(name) if tile is not None else f"{_cut(name)} ?"
        axes.text(left + width / 2, top - 2, label, ha="center", va="bottom", size=4.6)
        if tile is not None:
            canvas[top : top + height, left : left + width] = (tile * 255).astype(np.uint8)
    axes.imshow(canvas, interpolation="bilinear", aspect="auto")
    # Paper between the images, as shapes that take the dark scheme's colour; they cover the images' blurred edges.
    paper: Look = {"align": "edge", "color": PAPER}
    axes.barh(np.arange(lines) * step - 1.5, canvas.shape[1], LABEL_ROOM + 2, **paper)
    axes.bar(np.arange(COLUMNS) * stride + width - 1.5, canvas.shape[0], GAP + 2, **paper)
    if missing := lines * COLUMNS - len(averages.tiles):
        axes.barh(canvas.shape[0] - step, -missing * stride - 1, step, canvas.shape[1], **paper)
    axes.set(xlim=(-0.5, canvas.shape[1] - 0.5), ylim=(canvas.shape[0] - 1.5, -1.5))
    axes.axis("off")
    return Drawing(figure, tuple(f"{path}: {reason}" for path, reason in averages.unread.items()))


def draw_class_counts(plot: ClassCounts) -> Figure:
    """Images per class of both splits, the largest class first, on a logarithmic axis: there, splits that are
    distributed alike keep the same distance everywhere."""
    order = sorted(range(len(plot.classes)), key=lambda label: -plot.train[label] - plot.test[label])
    bottom = 0.2 + 0.048 * max(len(_cut(plot.classes[label])) for label in order)
    figure, below = new_figure(WIDE, 2.1 + bottom, plot.title, plot.caution)
    axes = add_axes(figure, 0.55, bottom + below, WIDE - 0.65, 1.54)
    x = np.arange(len(order))
    train, test = (
        np.array([counts[label] or np.nan for label in order], dtype=float) for counts in (plot.train, plot.test)
    )
    axes.vlines(x, np.fmin(train, test), np.fmax(train, test), color=RULE, linewidth=0.8, zorder=1)
    axes.plot(x, train, "o", color=SERIES[0], markersize=3.4)
    axes.plot(x, test, "^", color=SERIES[1], markersize=3.4)
    axes.set_yscale("log")
    counts = np.concatenate([train, test])
    if np.isfinite(counts).any():
        axes.set_ylim(np.nanmin(counts) / 1.15, np.nanmax(counts) * 1.15)
    axes.yaxis.set_major_locator(FixedLocator(COUNT_TICKS))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylabel("images (logarithmic)")
    axes.set_xticks(x, [_cut(plot.classes[label]) for label in order], rotation=90, size=6)
    axes.tick_params(axis="x", length=0, pad=2, labelcolor=INK)
    axes.set_xlim(-0.8, len(order) - 0.2)
    axes.grid(axis="x", visible=False)
    splits = (("training and validation", "o", SERIES[0], plot.train), ("test", "^", SERIES[1], plot.test))
    legend_above(axes, [entry(f"{name}, {sum(n):,}", colour, marker) for name, marker, colour, n in splits])
    return figure


def draw_confusions(plot: ConfusionPlot) -> Figure:
    """Two matrices a line: the share of each true class's images, small ones made visible by a square root.

    Classes lie by their number of images, the largest first; those without images are left out.
    """
    order = sorted(
        (label for label in range(len(plot.images)) if plot.images[label]), key=lambda label: -plot.images[label]
    )
    named = sorted({round(place) for place in np.linspace(0, len(order) - 1, NAMED).tolist()})
    lines, columns = -(-len(plot.matrices) // 2), min(len(plot.matrices), 2)
    left, pitch = 1.35, PANEL + 0.55
    width, height = max(columns * (left + PANEL + 0.1), 4.6), 0.3 + lines * pitch + 0.62
    figure, below = new_figure(width, height, plot.title, plot.caution)
    for number, panel in enumerate(plot.matrices):
        x = left + number % 2 * (left + PANEL + 0.1)
        y = below + height - 0.5 - PANEL - number // 2 * pitch
        axes = add_axes(figure, x, y, PANEL, PANEL)
        sums = np.maximum(panel.matrix.sum(axis=1)[order], 1)[:, None]
        shares = panel.matrix[np.ix_(order, order)] / sums
        picture = axes.imshow(
            shares, cmap=shades(1.0), norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto"
        )
        axes.set_title(panel.title, loc="left", size=8, color=INK, pad=4)
        axes.set_yticks(named, [f"{_cut(plot.classes[order[i]])} ({plot.images[order[i]]:,})" for i in named])
        axes.set_xticks(named, [])
        axes.tick_params(labelsize=6.5)
        axes.grid(False)
        axes.spines[:].set_visible(True)
        axes.set_xlabel("predicted class, in the same order", labelpad=3, size=7)
        if number % 2 == 0:
            axes.set_ylabel("true class (images)", size=7)
    bar = figure.colorbar(picture, cax=add_axes(figure, left, below + 0.42, PANEL, 0.09), orientation="horizontal")
    bar.set_ticks([0, 0.01, 0.1, 0.25, 0.5, 1], labels=["0", "1 %", "10 %", "25 %", "50 %", "100 %"])
    bar.ax.tick_params(labelsize=6.5)
    bar.ax.grid(False)
    bar.outline.set_visible(False)
    bar.set_label("share of the true class's images", size=7, color=QUIET, labelpad=2)
    return figure


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…"


@dataclass(frozen=True)
class Averages:
    """One average per class, shape (54, 72, 3) from 0 to 1, None where no image could be read.

    unread  path -> reason of every image that could not be read
    """

    tiles: tuple[Array | None, ...]
    unread: dict[str, str]


def class_averages(data: DataSet, max_images: int) -> Averages:
    """Average images of both splits, class by class, each stretched to full contrast.

    At most `max_images` of a class, evenly spaced.
    """
    samples: list[list[Sample]] = [[] for _ in data.classes]
    for sample in (*data.train_val, *data.test):
        samples[sample.label].append(sample)
    chosen = [evenly(tuple(images), max_images) for images in samples]
    averages = list(in_threads(lambda images: _average(data.images, images), chosen))
    unread = {path: reason for _, problems in averages for path, reason in problems.items()}
    return Averages(tuple(tile for tile, _ in averages), unread)


def _average(folder: Path, samples: tuple[Sample, ...]) -> tuple[Array | None, dict[str, str]]:
    total = np.zeros((*TILE, 3))
    problems: dict[str, str] = {}
    for sample in samples:
        try:
            total += _read(folder / sample.path)
        except Exception as error:  # Pillow's decoders raise anything
            problems[sample.path] = str(error) or type(error).__name__
    count = len(samples) - len(problems)
    return (_stretch(total / count) if count else None), problems


def _read(path: Path) -> NDArray[np.uint8]:
    """An image squeezed to the size of a tile, shape (54, 72, 3)."""
    height, width = TILE
    with opened_image(path) as image:
        image.draft("RGB", (width, height))  # a JPEG decoded at a fraction of its size
        small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small)


def _stretch(average: Array) -> Array:
    """Averages are grey and flat: spread what lies between the darkest and the lightest hundredth over 0 to 1."""
    low, high = np.percentile(average, (1, 99))
    stretched: Array = np.clip((average - low) / max(high - low, 1e-9), 0, 1)
    return stretched
