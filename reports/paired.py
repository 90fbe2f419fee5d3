"""Do two ways of computing the same runs give the same accuracies? An exact test on pairs of runs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from caltech_exp.results import Result
from reports.vocabulary import HOW_NOT_WHAT

MOST_PAIRS = 20
"""The exact test goes through 2^n assignments of signs, which is about a million for this many."""


@dataclass(frozen=True)
class Paired:
    """Accuracies (0 to 1) of n runs computed in two ways, paired by seed; standard deviations are the sample's.

    p is the share of all assignments of signs to the n differences under which their mean is as far from zero as
    it is (sign-flip test, two-sided): the smallest it can be is 2 / 2^n. None without two pairs.
    """

    settings: str
    n: int
    first_mean: float
    first_std: float
    second_mean: float
    second_std: float
    difference_mean: float
    difference_std: float
    p: float | None


def pair_by_seed(first: Iterable[Result], second: Iterable[Result]) -> dict[str, list[tuple[Result, Result]]]:
    """Finished runs on the same data with the same seed and settings, but for how they are computed.

    By the settings that all pairs of a group share, as JSON.
    """
    others = {_what(result): result for result in second if result.val_accuracy is not None}
    pairs: dict[str, list[tuple[Result, Result]]] = {}
    for result in first:
        other = others.get(_what(result))
        if result.val_accuracy is not None and other is not None:
            pairs.setdefault(_what(result)[0], []).append((result, other))
    return pairs


def compare(settings: str, pairs: Sequence[tuple[Result, Result]]) -> Paired:
    """Means, spreads and the test over the final validation accuracies. Raises ValueError without a pair."""
    values = np.array([[run.val_accuracy for run in pair] for pair in pairs], dtype=np.float64)
    differences = values[:, 1] - values[:, 0]

    def std(of: np.ndarray) -> float:
        return float(np.std(of, ddof=1)) if len(of) > 1 else float("nan")

    return Paired(
        settings=settings,
        n=len(pairs),
        first_mean=float(values[:, 0].mean()),
        first_std=std(values[:, 0]),
        second_mean=float(values[:, 1].mean()),
        second_std=std(values[:, 1]),
        difference_mean=float(differences.mean()),
        difference_std=std(differences),
        p=sign_flip_p(differences) if len(pairs) > 1 else None,
    )


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the exact sign-flip test that the differences [n] are symmetric about zero.

    With more than MOST_PAIRS of them, the first MOST_PAIRS count.
    """
    some = differences[:MOST_PAIRS]
    sums = np.zeros(1)
    for difference in some:
        sums = np.concatenate((sums + difference, sums - difference))
    return float(np.mean(np.abs(sums) >= np.abs(some.sum()) - 1e-12))


def _what(result: Result) -> tuple[str, int, str]:
    config = result.config.model_dump_json(exclude=set(HOW_NOT_WHAT))
    return config, result.seed, result.data.fingerprint
