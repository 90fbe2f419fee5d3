"""Statistics over the seeds of a row: means, spreads, intervals of differences, rank agreement.

Standard deviations are the population's (divided by n). Confidence intervals are Student's, from the sample's
standard deviation (divided by n - 1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from caltech_exp.study.results import MIN_RUNS as MIN_RUNS

CONFIDENCE = 0.95
NO_SPREAD = 1e-9
"""Standard deviations below are what rounding leaves of none: one image more is 0.0003."""
MIN_PAIRS_FOR_P = 6
"""Pairs from which a sign-flip test can fall below 0.05: 2 / 2^n."""
MAX_EXACT = 20
"""Pairs up to which all 2^n sign flips are computed (a million); of more pairs, FLIPS random ones."""
FLIPS = 100_000  # standard error of p: sqrt(p (1 - p) / FLIPS), 0.0007 at p = 0.05


@dataclass(frozen=True)
class Summary:
    """Of n values: mean, population standard deviation, half width of the mean's 95 % interval, and range.

    All but n are None without a value, std and half_width below two.
    """

    n: int
    mean: float | None = None
    std: float | None = None
    half_width: float | None = None
    minimum: float | None = None
    maximum: float | None = None

    @property
    def squared_error(self) -> float | None:
        """Of the mean: s^2 / n, which is std^2 / (n - 1) as std is the population's."""
        return None if self.std is None else self.std**2 / (self.n - 1)


def summarize(values: ArrayLike) -> Summary:
    """Mean and spread of the values that are not missing."""
    array = known_values(values)
    n = len(array)
    if n == 0:
        return Summary(0)
    std = float(np.std(array)) if n > 1 else None
    half_width = None if std is None else t_quantile(n - 1) * std / math.sqrt(n - 1)
    return Summary(n, float(np.mean(array)), std, half_width, float(array.min()), float(array.max()))


def known_values(values: ArrayLike) -> NDArray[np.float64]:
    """The values that are not missing, shape (n,)."""
    array = pd.Series(np.asarray(values)).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(array[~np.isnan(array)], dtype=np.float64)


def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Student's t, two-sided: a share `confidence` of a distribution with `degrees` of freedom lies within ± t."""
    return float(stdtrit(degrees, (1 + confidence) / 2))


def welch_half_width(first: tuple[float, int], second: tuple[float, int]) -> float:
    """Half the width of the 95 % confidence interval of the difference of two means; 0 where both errors are 0.

    Each mean is given by its squared standard error and its number of runs (from 2). The two need not scatter
    alike (B. L. Welch, Biometrika 34, 1947); degrees of freedom are Satterthwaite's.
    """
    total = first[0] + second[0]
    if total == 0:
        return 0.0
    # As shares of the whole, whose squares do not underflow.
    degrees = 1 / sum((error / total) ** 2 / (n - 1) for error, n in (first, second))
    return t_quantile(degrees) * math.sqrt(total)


@dataclass(frozen=True)
class PairedDifference:
    """second - first over n seeds that both rows have: mean, half width of its interval, the differences [n].

    half_width  None below MIN_RUNS pairs, or where all pairs differ alike: no spread to judge by
    """

    n: int
    mean: float | None = None
    half_width: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), compare=False, repr=False)

    @cached_property
    def p(self) -> float | None:
        """Of the sign-flip test; None below MIN_PAIRS_FOR_P pairs."""
        return sign_flip_p(self.values) if self.n >= MIN_PAIRS_FOR_P else None

    @property
    def is_significant(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.mean is not None and self.half_width is not None and abs(self.mean) > self.half_width


def paired_difference(
    first: "pd.Series[float]", second: "pd.Series[float]", confidence: float = CONFIDENCE
) -> PairedDifference:
    """The difference of two rows over the seeds (the index) that both have."""
    # By hand, as a table may compare thousands of rows, and a join of two short series takes milliseconds.
    values, others = (series.to_numpy("float64", na_value=np.nan).tolist() for series in (first, second))
    by_seed = dict(zip(first.index.tolist(), values, strict=True))
    pairs = zip(second.index.tolist(), others, strict=True)
    differences = np.array([value - by_seed[seed] for seed, value in pairs if seed in by_seed], dtype=np.float64)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    if n == 0:
        return PairedDifference(0)
    spread = float(np.std(differences, ddof=1)) if n >= MIN_RUNS else 0.0
    half_width = t_quantile(n - 1, confidence) * spread / math.sqrt(n) if spread > NO_SPREAD else None
    return PairedDifference(
        n=n,
        mean=float(differences.mean()),
        half_width=half_width,
        minimum=float(differences.min()),
        maximum=float(differences.max()),
        values=differences,
    )


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of the sign-flip test that the differences [n] are symmetric about zero.

    It is the share of sign flips whose mean is as far from zero as the observed one. Of more than MAX_EXACT
    differences, FLIPS random flips and the observed one count: p = (1 + as extreme) / (1 + FLIPS), which never
    rejects too often (B. Phipson and G. K. Smyth, Permutation P-values should never be zero, 2010).
    """
    least = abs(float(differences.sum())) - 1e-12
    if len(differences) <= MAX_EXACT:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate((sums + difference, sums - difference))
        return float(np.mean(np.abs(sums) >= least))
    generator = np.random.default_rng(0)  # the same pairs always have the same p
    sums = np.full(FLIPS, -differences.sum())
    for difference in differences:
        sums += 2 * difference * generator.integers(0, 2, FLIPS, dtype=np.int8)
    return (1 + int(np.count_nonzero(np.abs(sums) >= least))) / (1 + FLIPS)


@dataclass(frozen=True)
class RankAgreement:
    """How far two orders agree: Kendall's tau-b (M. G. Kendall, Biometrika 33, 1945), and pairs in the same order.

    tau is None where one side has nothing but ties. Pairs that either side ties are not counted in `pairs`; `tied`
    are those that the first order alone ties.
    """

    tau: float | None
    same: int
    pairs: int
    tied: int


def rank_agreement(first: Sequence[float], second: Sequence[float]) -> RankAgreement:
    """Over all pairs of places of two sequences of equal length."""
    sign, other = (np.sign(np.subtract.outer(values, values)) for values in map(np.asarray, (first, second)))
    upper = np.triu_indices(len(first), k=1)
    product = sign[upper] * other[upper]
    ordered = np.count_nonzero(sign[upper]) * np.count_nonzero(other[upper])
    return RankAgreement(
        tau=float(product.sum() / np.sqrt(ordered)) if ordered else None,
        same=int(np.count_nonzero(product > 0)),
        pairs=int(np.count_nonzero(product)),
        tied=int(np.count_nonzero((sign[upper] == 0) & (other[upper] != 0))),
    )


def class_recalls(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of each class's images that is recognised, [classes]; NaN for a class without images.

    matrix  images by true class (row) and predicted class (column), [classes, classes]
    """
    images = matrix.sum(axis=1)
    shares = np.full(len(matrix), np.nan)
    np.divide(np.diagonal(matrix), images, out=shares, where=images > 0)
    return shares


def balanced_accuracy(matrix: NDArray[np.int64]) -> float | None:
    """The mean of the classes' recalls: every class counts the same, however many images it has.

    K. H. Brodersen et al., The balanced accuracy and its posterior distribution, ICPR 2010.
    """
    recalls = class_recalls(matrix)
    recalls = recalls[~np.isnan(recalls)]
    return float(recalls.mean()) if recalls.size else None
