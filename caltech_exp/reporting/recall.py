"""The share of images that is recognised, of all images and class by class, from a confusion matrix."""

import numpy as np
from numpy.typing import NDArray

from caltech_exp.study.results import Matrix

Shares = NDArray[np.float64]


def recalls(matrix: Matrix) -> Shares:
    """The share of every class's images that is recognised, [NUM_CLASSES]; NaN for a class without images."""
    images = matrix.sum(axis=1)
    shares = np.full(len(matrix), np.nan)
    np.divide(np.diagonal(matrix), images, out=shares, where=images > 0)
    return shares


def balanced_accuracy(matrix: Matrix) -> float | None:
    """The mean of the classes' recalls: every class counts the same, however many images it has.

    K. H. Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010.
    """
    known = recalls(matrix)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else None


def accuracy(matrix: Matrix) -> float | None:
    """The share of all images that is recognised."""
    total = int(matrix.sum())
    return float(np.trace(matrix)) / total if total else None
