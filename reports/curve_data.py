"""Curves over epochs: the runs of a row as arrays, and their mean and range."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from reports.outcome import Array, Outcome

Quantity = Literal["train_loss", "val_loss", "val_accuracy"]


@dataclass(frozen=True)
class Band:
    """Mean, smallest and largest value per epoch, each of shape (epochs,); NaN where no run has a value.

    `runs` is the number of runs with any value.
    """

    mean: Array
    low: Array
    high: Array
    runs: int


def values(result: Outcome, quantity: Quantity) -> Array:
    """One run's values, shape (epochs,); NaN where the loss was not finite."""
    return result.epochs.column(quantity)


def band(results: Sequence[Outcome], quantity: Quantity) -> Band:
    """Over the runs that reached an epoch, where they differ in length; at least one run."""
    curves = [values(result, quantity) for result in results]
    longest = max(len(curve) for curve in curves)
    padded = np.full((len(curves), longest), np.nan)
    for line, curve in zip(padded, curves, strict=True):
        line[: len(curve)] = curve
    matrix = np.ma.masked_invalid(padded)
    known = int(np.count_nonzero(matrix.count(axis=1)))
    parts = (matrix.mean(axis=0), matrix.min(axis=0), matrix.max(axis=0))
    mean, low, high = (np.ma.filled(np.ma.asarray(part, dtype=np.float64), np.nan) for part in parts)
    return Band(mean, low, high, known)


def step_downs(results: Sequence[Outcome]) -> list[float]:
    """Where the learning rate stepped down: between epochs 20 and 21 is 20.5."""
    rates = max(results, key=lambda result: len(result.epochs)).epochs.column("lr").tolist()
    return [number + 0.5 for number, (before, after) in enumerate(pairwise(rates), start=1) if after < before]
