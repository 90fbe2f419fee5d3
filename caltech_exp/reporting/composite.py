"""The average image of every class, as in the composition on Caltech-101's own page."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caltech_exp.data.splits import IMAGES, DataSet, Sample, evenly

Pixels = NDArray[np.float64]
TILE = (54, 72)
"""Height and width of an average: three quarters, as most images of the data set are."""


@dataclass(frozen=True)
class Averages:
    """One average per class, shape (54, 72, 3) from 0 to 1, None where no image could be read.

    unread  path -> reason of every image that could not be read
    """

    tiles: tuple[Pixels | None, ...]
    unread: dict[str, str]


def class_averages(data: DataSet, most_images: int) -> Averages:
    """Average images of both splits, class by class, each stretched to full contrast.

    At most `most_images` of a class, evenly spaced.
    """
    of_class: list[list[Sample]] = [[] for _ in data.classes]
    for sample in (*data.train_val, *data.test):
        of_class[sample.label].append(sample)
    chosen = [evenly(tuple(samples), most_images) for samples in of_class]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        averages = list(pool.map(lambda samples: _average(data.root / IMAGES, samples), chosen))
    unread = {path: reason for _, problems in averages for path, reason in problems.items()}
    return Averages(tuple(tile for tile, _ in averages), unread)


def _average(folder: Path, samples: tuple[Sample, ...]) -> tuple[Pixels | None, dict[str, str]]:
    total = np.zeros((*TILE, 3))
    problems: dict[str, str] = {}
    for sample in samples:
        try:
            total += _read(folder / sample.path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problems[sample.path] = str(error)
    read = len(samples) - len(problems)
    return (_stretch(total / read) if read else None), problems


def _read(path: Path) -> NDArray[np.uint8]:
    """An image squeezed to the tile's size, shape (54, 72, 3)."""
    height, width = TILE
    with Image.open(path) as image:
        image.draft("RGB", (width, height))  # a JPEG decoded at a fraction of its size
        small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small)


def _stretch(average: Pixels) -> Pixels:
    """Averages are grey and flat: spread what lies between the darkest and the lightest hundredth over 0 to 1."""
    low, high = np.percentile(average, (1, 99))
    stretched: Pixels = np.clip((average - low) / max(high - low, 1e-9), 0, 1)
    return stretched
