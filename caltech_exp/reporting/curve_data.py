"""Curves over epochs: the runs of a row as arrays, and their mean and range."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from caltech_exp.reporting.outcome import COLUMNS, Array, Outcome

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
    return bands(results, (quantity,))[quantity]


def bands(results: Sequence[Outcome], quantities: Sequence[Quantity]) -> dict[Quantity, Band]:
    """The `band` of each quantity."""
    longest = max(len(result.epochs) for result in results)
    tables = np.full((len(results), longest, len(COLUMNS)), np.nan)
    for padded, result in zip(tables, results, strict=True):
        padded[: len(result.epochs)] = result.epochs.table
    return {name: _band(np.ascontiguousarray(tables[:, :, COLUMNS.index(name)])) for name in quantities}


def _band(curves: Array) -> Band:
    """Over curves of shape (runs, epochs), NaN where a run has no value."""
    finite = np.isfinite(curves)
    counts = finite.sum(axis=0)
    known = counts > 0
    total, low, high = curves.sum(axis=0), curves.min(axis=0), curves.max(axis=0)
    if not finite.all():
        total = np.where(finite, curves, 0.0).sum(axis=0)
        low = np.where(known, np.where(finite, curves, np.inf).min(axis=0), np.nan)
        high = np.where(known, np.where(finite, curves, -np.inf).max(axis=0), np.nan)
    mean = np.divide(total, counts, out=np.full(counts.shape, np.nan), where=known)
    return Band(mean, low, high, int(finite.any(axis=1).sum()))


def step_downs(results: Sequence[Outcome]) -> list[float]:
    """Where the learning rate stepped down: between epochs 20 and 21 is 20.5."""
    rates = max(results, key=lambda result: len(result.epochs)).epochs.column("lr").tolist()
    return [number + 0.5 for number, (before, after) in enumerate(pairwise(rates), start=1) if after < before]
