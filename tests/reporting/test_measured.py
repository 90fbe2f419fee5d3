"""Means, spreads, intervals and orders, against written-out numbers and other ways to compute them."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.config import RunConfig
from caltech_exp.reporting.measured import difference_half, measure, rank_agreement, t_quantile
from caltech_exp.reporting.outcome import Outcome, outcome_of
from tests.reporting.conftest import make_result

CONFIG = RunConfig(epochs=1)
FIRST, SECOND = (0.446, 0.430, 0.462, 0.441), (0.344, 0.402, 0.286)


def outcomes(values: tuple[float, ...]) -> list[Outcome]:
    return [outcome_of(make_result(CONFIG, seed, value)) for seed, value in enumerate(values)]


@pytest.mark.parametrize(
    ("degrees", "table"), [(1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (30, 2.042), (99, 1.984)]
)
def test_quantiles_are_those_of_the_printed_tables(degrees: int, table: float) -> None:
    assert round(t_quantile(degrees), 3) == table


@pytest.mark.parametrize("degrees", [1, 1.0001, 1.5, 2, 2.7, 5, 17.3, 99, 298.6, 1e4, 1e6])
def test_quantiles_are_those_of_scipy(degrees: float) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-8)


def test_mean_std_and_interval() -> None:
    found = measure(outcomes(FIRST))
    assert found.n == 4
    assert found.mean == pytest.approx(statistics.fmean(FIRST))
    assert found.std == pytest.approx(statistics.pstdev(FIRST))
    low, high = stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert found.half == pytest.approx((high - low) / 2)
    assert found.test_mean == pytest.approx(statistics.fmean(FIRST) - 0.01)


def test_one_run_has_no_spread_and_none_has_no_mean() -> None:
    one = measure(outcomes(FIRST[:1]))
    assert (one.n, one.mean, one.std, one.half) == (1, 0.446, None, None)
    assert measure([]).mean is None


def test_interval_of_a_difference_is_welchs() -> None:
    half = difference_half(measure(outcomes(FIRST)), measure(outcomes(SECOND)))
    low, high = stats.ttest_ind(FIRST, SECOND, equal_var=False).confidence_interval(0.95)
    assert half == pytest.approx((high - low) / 2)


def test_difference_without_spread() -> None:
    same, one = measure(outcomes((0.5, 0.5))), measure(outcomes((0.5,)))
    assert difference_half(same, same) is None
    almost = measure(outcomes((0.1 + 0.2, 0.3, 0.3)))  # alike but for the last bit
    assert difference_half(same, almost) is None
    assert difference_half(same, measure(outcomes((0.5, 0.5003)))) is not None
    assert difference_half(same, one) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12))
def test_kendalls_tau_b(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    expected = stats.kendalltau(first, second).statistic
    found = rank_agreement(first, second)
    assert (found.tau is None) == math.isnan(expected)
    if found.tau is not None:
        assert found.tau == pytest.approx(expected)
    assert 0 <= found.same <= found.pairs <= len(pairs) * (len(pairs) - 1) / 2


def test_pairs_in_the_same_order() -> None:
    found = rank_agreement([1, 2, 3, 4], [10, 20, 20, 15])
    assert (found.same, found.pairs) == (3, 5)
