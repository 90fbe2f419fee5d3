"""Numbers over the seeds of a row. Standard deviations are the population's (numpy's default, ddof=0)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reports.outcome import Outcome


@dataclass(frozen=True)
class Measured:
    """Accuracies (0 to 1) after the last epoch over the n finished runs of a row; None where nothing is known.

    std is None for a single run, which has no spread to give.
    """

    n: int
    mean: float | None
    std: float | None
    test_mean: float | None


def measure(finished: Sequence[Outcome]) -> Measured:
    """Mean and spread of final validation accuracy, and mean test accuracy. Diverged runs do not belong here."""
    values = [result.val_accuracy for result in finished if result.val_accuracy is not None]
    return Measured(
        n=len(values),
        mean=mean(values),
        std=float(np.std(values)) if len(values) > 1 else None,
        test_mean=mean(result.test_accuracy for result in finished),
    )


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are known, None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
