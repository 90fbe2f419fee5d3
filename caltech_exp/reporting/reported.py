"""Whether a row's measured runs and the report's can be runs of one and the same thing.

From two measured runs on, the interval of the difference is Welch's, as the two sides need not scatter alike (B.
L. Welch, Biometrika 34, 1947). A single measured run has no spread of its own: its interval is Student's for two
samples with a common variance (Student, Biometrika 6, 1908; any statistics textbook's pooled t interval), which
then is the report's alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

from caltech_exp.catalog import Reported
from caltech_exp.reporting.measured import Measured, t_quantile, welch_half

Deviation = Literal["population", "sample"]
Finding = Literal["agrees", "differs", "cannot tell"]
"""What a row says when it is held against the report."""

TOO_WIDE = 0.1
"""Half a width from which an interval that holds zero does not count as agreement: as far as the report's learning
rates 5e-2 and 6e-2 are from each other (section 1.1: 0.446 and 0.344)."""


@dataclass(frozen=True)
class Gap:
    """`value`, measured mean - reported mean, and half the width of its 95 % confidence interval."""

    value: float
    half: float

    @property
    def finding(self) -> Finding:
        """`differs` where zero lies outside the interval; one that holds it and is too wide cannot tell."""
        if abs(self.value) > self.half:
            return "differs"
        return "agrees" if self.half < TOO_WIDE else "cannot tell"


def gap(measured: Measured, reported: Reported, deviation: Deviation = "population") -> Gap | None:
    """The difference of the two means, None without a measured one.

    deviation  what the report's standard deviation is, which it does not say: divided by n, or by n - 1

    Values that the report rounded are given the benefit of that: its mean may be half a last digit off, and its
    deviation too, whichever way makes the interval wider (a smaller one may, as it leaves Welch's interval fewer
    degrees of freedom).
    """
    if measured.mean is None:
        return None
    ends = (max(0.0, reported.std - reported.std_rounding), reported.std + reported.std_rounding)
    half = max(_half(measured, std, reported.runs, deviation) for std in ends)
    return Gap(measured.mean - reported.mean, half + reported.mean_rounding)


def _half(measured: Measured, std: float, runs: int, deviation: Deviation) -> float:
    """Half the width of the interval beside `runs` reported runs of that standard deviation, without rounding."""
    # The squared standard error of a mean of n runs: s^2 / n = std^2 / (n - 1), if std is the population's.
    theirs = std**2 / (runs - 1 if deviation == "population" else runs)
    if measured.std is None:
        return t_quantile(runs - 1) * math.sqrt(theirs * (1 + runs))
    return welch_half((measured.std**2 / (measured.n - 1), measured.n), (theirs, runs))
