"""The data set of a simulated study: its classes and how many images of each the splits hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caltech_exp.catalog import SPLIT_IMAGES
from caltech_exp.splits import Sample, read_data_set
from caltech_exp.standin import CLASSES, COMMON

Counts = NDArray[np.int64]
LARGE_SHARE = {
    name: images / sum(SPLIT_IMAGES)
    for name, images in {"airplanes": 800, "Motorbikes": 798, "Faces": 435, "Faces_easy": 435}.items()
}
"""Shares of the largest classes of Caltech-101."""


@dataclass(frozen=True)
class ImageCounts:
    """Images per class in the three splits, each of shape (classes,), and where they come from."""

    root: str
    fingerprint: str
    stand_in: bool
    classes: tuple[str, ...]
    train: Counts
    val: Counts
    test: Counts


def invented_counts() -> ImageCounts:
    """As many images as the report's splits hold, as unbalanced as Caltech-101: no data set is needed."""
    train_val, test = SPLIT_IMAGES
    half = train_val // 2
    train, val, test_counts = (_spread(total) for total in (half, train_val - half, test))
    return ImageCounts("", "simulated", False, CLASSES, train, val, test_counts)


def counts_of(root: Path) -> ImageCounts:
    """The counts of a data set on disk. Raises UserError if it cannot be read."""
    data = read_data_set(root)
    train, val, test = (_count(samples, len(data.classes)) for samples in (data.train, data.val, data.test))
    return ImageCounts(str(root), data.fingerprint, data.stand_in, data.classes, train, val, test)


def _count(samples: Sequence[Sample], classes: int) -> Counts:
    counts: Counts = np.bincount([sample.label for sample in samples], minlength=classes)
    return counts


def _spread(total: int) -> Counts:
    """`total` images over the classes: the large ones by their share, the others from 1 to 4 parts, rounded so
    that nothing is lost."""
    large = np.array([LARGE_SHARE.get(name, 0.0) for name in CLASSES])
    parts = np.array([0.0 if name in COMMON else 1 + 3 * (label % 7) / 6 for label, name in enumerate(CLASSES)])
    exact = total * (large + (1 - large.sum()) * parts / parts.sum())
    counts: Counts = np.floor(exact).astype(np.int64)
    most_lost = np.argsort(exact - counts)[::-1][: total - int(counts.sum())]
    counts[most_lost] += 1
    return counts
