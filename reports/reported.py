"""Whether a row's measured runs and the report's can be runs of one and the same thing.

The question is about one population, so the interval is Student's for two samples with a common variance (Student,
Biometrika 6, 1908; any statistics textbook's pooled t interval): unlike Welch's it needs no spread of both, and so
answers for a single measured run too, from the report's spread alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

from caltech_exp.catalog.model import Reported
from reports.measured import Measured, t_quantile

REPORTED_RUNS = 3
"""Runs behind each of the report's values (its footnotes 1 to 8)."""
ROUNDING = 0.0005
"""What three printed decimals can hide of a mean or a standard deviation."""
Deviation = Literal["population", "sample"]


@dataclass(frozen=True)
class Gap:
    """`value`, measured mean - reported mean, and half the width of the difference's 95 % confidence interval."""

    value: float
    half: float

    @property
    def agrees(self) -> bool:
        """Whether zero lies in the interval."""
        return abs(self.value) <= self.half


def gap(measured: Measured, reported: Reported, deviation: Deviation = "population") -> Gap | None:
    """The difference of the two means, None without a measured one.

    deviation  what the report's standard deviation is, which it does not say: divided by n, or by n - 1

    Values that the report rounded are given the benefit of that: its deviation is taken half a last digit larger,
    and its mean may be as much off.
    """
    if measured.mean is None:
        return None
    n, std = measured.n, reported.std + ROUNDING
    divisor = REPORTED_RUNS if deviation == "population" else REPORTED_RUNS - 1
    squares = n * (measured.std or 0.0) ** 2 + divisor * std**2
    degrees = n + REPORTED_RUNS - 2
    error = math.sqrt(squares / degrees * (1 / n + 1 / REPORTED_RUNS))
    return Gap(measured.mean - reported.mean, t_quantile(degrees) * error + ROUNDING)
