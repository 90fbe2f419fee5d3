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
    finite = np.isfinite(padded)
    counts = finite.sum(axis=0)
    known = counts > 0
    total = np.where(finite, padded, 0.0).sum(axis=0)
    mean = np.divide(total, counts, out=np.full(longest, np.nan), where=known)
    low = np.where(known, np.where(finite, padded, np.inf).min(axis=0), np.nan)
    high = np.where(known, np.where(finite, padded, -np.inf).max(axis=0), np.nan)
    return Band(mean, low, high, int(finite.any(axis=1).sum()))


def step_downs(results: Sequence[Outcome]) -> list[float]:
    """Where the learning rate stepped down: between epochs 20 and 21 is 20.5."""
    rates = max(results, key=lambda result: len(result.epochs)).epochs.column("lr").tolist()
    return [number + 0.5 for number, (before, after) in enumerate(pairwise(rates), start=1) if after < before]
