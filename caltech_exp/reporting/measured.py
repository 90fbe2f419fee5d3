"""Numbers over the seeds of a row.

Standard deviations are the population's (divided by n); whether the report's are, it does not say. The 95 %
confidence interval of a mean is Student's: mean ± t(0.975, n - 1) s / sqrt(n), with the sample's standard
deviation s (divided by n - 1).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from caltech_exp.reporting.outcome import Outcome

CONFIDENCE = 0.95
STEP = 1e-12
"""Newton's method ends with a step below this share: the next would be below the square of it."""
NO_SPREAD = 1e-9
"""Standard deviations below are what rounding leaves of none: one image more is 0.0003."""


@dataclass(frozen=True)
class Measured:
    """Accuracies (0 to 1) after the last epoch over the n finished runs of a row; None where nothing is known.

    half is half the width of the mean's 95 % confidence interval. std and half are None for a single run, which
    has no spread to give. balanced_mean is of the validation set, each class counting the same.
    """

    n: int
    mean: float | None
    std: float | None
    half: float | None
    test_mean: float | None = None
    balanced_mean: float | None = None


def measure(finished: Sequence[Outcome]) -> Measured:
    """Mean and spread of final validation accuracy, and mean test accuracy. Diverged runs do not belong here."""
    return replace(
        measure_values(result.val_accuracy for result in finished),
        test_mean=mean(result.test_accuracy for result in finished),
        balanced_mean=mean(result.balanced_accuracy for result in finished),
    )


def measure_values(accuracies: Iterable[float | None]) -> Measured:
    """Mean and spread of the accuracies that are known, whichever they are; without the other means."""
    values = [value for value in accuracies if value is not None]
    n = len(values)
    return Measured(
        n=n,
        mean=mean(values),
        std=float(np.std(values)) if n > 1 else None,
        half=t_quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None,
    )


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known, None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


@cache
def t_quantile(degrees: float) -> float:
    """Student's t below which 97.5 % lie, with `degrees` of freedom (from 1).

    With t = sqrt(degrees) tan(a) the density of t becomes cos(a)^(degrees - 1) over its integral, which is smooth.
    That only falls from a = 0 on, so Newton's steps from there come ever closer and never go too far. scipy would
    take a quarter of a second to load for this one number.
    """
    nodes, weights = _legendre()
    whole = math.sqrt(math.pi) / 2 * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2))
    angle, step = 0.0, math.inf
    while step > STEP * angle:
        part = angle / 2 * float(weights @ np.cos(angle / 2 * nodes) ** (degrees - 1))
        step = (CONFIDENCE * whole - part) / math.cos(angle) ** (degrees - 1)
        angle += step
    return math.sqrt(degrees) * math.tan(angle)


@cache
def _legendre() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes, from 0 to 2, and weights of a quadrature by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    return nodes + 1, weights


def difference_half(first: Measured, second: Measured) -> float | None:
    """Half the width of the 95 % confidence interval of the difference of two means (`welch_half`).

    None without two runs each, or where no run differs from the others of its row: there is no spread to judge by
    then, since runs that are all alike do not say how far off the next one will be.
    """
    if first.std is None or second.std is None or max(first.std, second.std) < NO_SPREAD:
        return None
    # A mean's squared standard error: s^2 / n = std^2 / (n - 1), since std is the population's.
    return welch_half((first.std**2 / (first.n - 1), first.n), (second.std**2 / (second.n - 1), second.n))


def welch_half(first: tuple[float, int], second: tuple[float, int]) -> float:
    """Half the width of the 95 % confidence interval of the difference of two means, each by its squared standard
    error and its number of runs (from 2); 0 where both errors are 0.

    The two need not scatter alike (B. L. Welch, Biometrika 34, 1947); degrees of freedom are Satterthwaite's.
    """
    total = first[0] + second[0]
    if total == 0:
        return 0.0
    # As shares of the whole, whose squares do not underflow.
    degrees = 1 / sum((error / total) ** 2 / (n - 1) for error, n in (first, second))
    return t_quantile(degrees) * math.sqrt(total)


@dataclass(frozen=True)
class Agreement:
    """How far two orders agree: Kendall's tau-b (M. G. Kendall, Biometrika 33, 1945), and pairs in the same order.

    tau is None where one side has nothing but ties. Pairs tied on either side are in no order and not counted;
    `tied` are those that the first order alone ties.
    """

    tau: float | None
    same: int
    pairs: int
    tied: int


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> Agreement:
    """Over all pairs of places of two sequences of equal length."""
    sign = np.sign(np.subtract.outer(np.asarray(first), np.asarray(first)))
    other = np.sign(np.subtract.outer(np.asarray(second), np.asarray(second)))
    upper = np.triu_indices(len(first), k=1)
    product = sign[upper] * other[upper]
    untied = math.sqrt(np.count_nonzero(sign[upper]) * np.count_nonzero(other[upper]))
    return Agreement(
        tau=float(product.sum()) / untied if untied else None,
        same=int(np.count_nonzero(product > 0)),
        pairs=int(np.count_nonzero(product)),
        tied=int(np.count_nonzero((sign[upper] == 0) & (other[upper] != 0))),
    )
