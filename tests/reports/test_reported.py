"""Measured against reported values, held against scipy's test for two samples with a common variance."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.catalog import Reported
from reports.measured import measure_values
from reports.reported import REPORTED_RUNS, ROUNDING, gap

REPORTED = Reported(0.446, 0.016)
shares = st.floats(0, 1, allow_subnormal=False)


@pytest.mark.parametrize(("deviation", "divisor"), [("population", 0), ("sample", 1)])
@pytest.mark.parametrize("values", [(0.41, 0.44, 0.43), (0.41, 0.44), (0.41, 0.44, 0.43, 0.45, 0.40)])
def test_the_interval_is_students_for_two_samples(values: tuple[float, ...], deviation: str, divisor: int) -> None:
    found = gap(measure_values(values), REPORTED, deviation)  # type: ignore[arg-type]
    assert found is not None
    # The report's three runs stand for themselves: any three with its mean and its deviation do.
    std = REPORTED.std + ROUNDING
    side = std * ((REPORTED_RUNS - divisor) / 2) ** 0.5
    theirs = (REPORTED.mean - side, REPORTED.mean, REPORTED.mean + side)
    deviation_of = statistics.stdev if divisor else statistics.pstdev
    assert deviation_of(theirs) == pytest.approx(std)
    low, high = stats.ttest_ind(values, theirs).confidence_interval(0.95)
    assert found.value == pytest.approx((high + low) / 2)
    assert found.half == pytest.approx((high - low) / 2 + ROUNDING)


def test_a_single_run_is_judged_by_the_reports_spread() -> None:
    found = gap(measure_values((0.5,)), REPORTED)
    assert found is not None
    # One draw more from a normal distribution of which three are known: t(2) s sqrt(1 + 1/3), s of the sample.
    sample = (REPORTED.std + ROUNDING) * (3 / 2) ** 0.5
    assert found.half == pytest.approx(4.30265273 * sample * (4 / 3) ** 0.5 + ROUNDING)
    assert found.agrees


def test_what_rounding_hides_is_no_difference() -> None:
    said = Reported(0.092, 0.000)
    near, far = gap(measure_values((0.0916,)), said), gap(measure_values((0.100,)), said)
    assert near is not None
    assert near.agrees
    assert far is not None
    assert not far.agrees


def test_nothing_measured_is_no_difference() -> None:
    assert gap(measure_values(()), REPORTED) is None


@given(st.lists(shares, min_size=1, max_size=6), shares, st.floats(0, 0.3))
def test_the_reports_own_mean_always_agrees(values: list[float], mean: float, std: float) -> None:
    measured = measure_values(values)
    assert measured.mean is not None
    own = gap(measured, Reported(measured.mean, std))
    assert own is not None
    assert own.agrees
    other = gap(measured, Reported(mean, std))
    assert other is not None
    assert other.half == pytest.approx(own.half)
