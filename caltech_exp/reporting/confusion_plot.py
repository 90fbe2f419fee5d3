"""Confusion matrices side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from caltech_exp.reporting.frame import frame, room_below, wrap
from caltech_exp.study.results import Matrix

WIDTH = 10.0
PANEL = 4.0
"""Inches of a matrix's side."""
NAMED = 6
"""Classes that are named at the axis, evenly spaced."""


def draw_confusions(
    titles: Sequence[str], matrices: Sequence[Matrix], names: Sequence[str], images: Sequence[int], caution: str
) -> Figure:
    """Two a line; shares of each true class's images from 0 (white) to 1 (black), small ones made visible by a
    square root. Classes by their number of `images`, the largest first; those without images are left out."""
    caution = wrap(caution, WIDTH)
    below = room_below(caution)
    lines = -(-len(matrices) // 2)
    height = 0.3 + lines * (PANEL + 0.75) + 0.35 + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, "Confusion matrices on the validation images", caution)
    order = sorted((label for label in range(len(images)) if images[label]), key=lambda label: -images[label])
    named = sorted({round(place) for place in np.linspace(0, len(order) - 1, NAMED).tolist()})
    for number, (title, matrix) in enumerate(zip(titles, matrices, strict=True)):
        left = (1.15 + number % 2 * (WIDTH / 2 - 0.05)) / WIDTH
        bottom = 1 - (0.55 + PANEL + number // 2 * (PANEL + 0.75)) / height
        axes = figure.add_axes((left, bottom, (PANEL - 0.3) / WIDTH, (PANEL - 0.3) / height))
        shares = matrix[np.ix_(order, order)] / np.maximum(matrix.sum(axis=1)[order], 1)[:, None]
        picture = axes.imshow(shares, cmap="Greys", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.set_yticks(named, [f"{_shown(names[order[place]])} ({images[order[place]]:,})" for place in named])
        axes.tick_params(axis="y", labelsize=7)
        axes.set_xticks([])
        axes.set_xlabel("predicted class", fontsize=9)
    bar = figure.add_axes((0.3, (below + 0.32) / height, 0.4, 0.1 / height))
    figure.colorbar(picture, cax=bar, orientation="horizontal", ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.tick_params(labelsize=8)
    return figure


def _shown(name: str) -> str:
    """A class's name as a label, cut; matplotlib would read a formula between dollar signs."""
    short = name if len(name) <= 14 else f"{name[:13]}…"
    return short.replace("$", r"\$")
