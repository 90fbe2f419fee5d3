"""Means, spreads, intervals and orders, against written-out numbers and scipy's own tests."""

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.reporting.stats import (
    balanced_accuracy,
    class_recalls,
    paired_difference,
    rank_agreement,
    sign_flip_p,
    summarize,
    t_quantile,
    welch_half_width,
)

FIRST, SECOND = (0.446, 0.430, 0.462, 0.441), (0.344, 0.402, 0.286)


def by_seed(*values: float, start: int = 0) -> "pd.Series[float]":
    return pd.Series(values, index=range(start, start + len(values)), dtype="float64")


@pytest.mark.parametrize(
    ("degrees", "table"), [(1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (30, 2.042), (99, 1.984)]
)
def test_quantiles_equal_the_printed_tables(degrees: int, table: float) -> None:
    assert round(t_quantile(degrees), 3) == table


@pytest.mark.parametrize("degrees", [1, 1.0001, 1.5, 2.7, 17.3, 298.6, 1e6])
@pytest.mark.parametrize("confidence", [0.95, 1 - 0.05 / 14])
def test_quantiles_equal_scipys(degrees: float, confidence: float) -> None:
    assert t_quantile(degrees, confidence) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-8)


def test_summary_has_mean_std_interval_and_range() -> None:
    summary = summarize(FIRST)
    assert (summary.n, summary.minimum, summary.maximum) == (4, 0.430, 0.462)
    assert summary.mean == pytest.approx(statistics.fmean(FIRST))
    assert summary.std == pytest.approx(statistics.pstdev(FIRST))
    low, high = stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert summary.half_width == pytest.approx((high - low) / 2)
    assert summary.squared_error == pytest.approx(statistics.variance(FIRST) / 4)


def test_summary_leaves_missing_values_out() -> None:
    column = pd.Series([0.4, None, 0.6], dtype="Float64")
    assert summarize(column) == summarize((0.4, 0.6)) == summarize([0.4, math.nan, 0.6])


def test_summary_of_one_run_has_no_spread_and_of_none_no_mean() -> None:
    single = summarize(FIRST[:1])
    assert (single.n, single.mean, single.std, single.half_width) == (1, 0.446, None, None)
    assert single.squared_error is None
    assert summarize([]).mean is None


def test_welch_interval_equals_scipys() -> None:
    errors = [(statistics.variance(values) / len(values), len(values)) for values in (FIRST, SECOND)]
    low, high = stats.ttest_ind(FIRST, SECOND, equal_var=False).confidence_interval(0.95)
    assert welch_half_width(*errors) == pytest.approx((high - low) / 2)
    assert welch_half_width((0.0, 3), (0.0, 3)) == 0.0


def test_paired_interval_equals_scipys() -> None:
    first, second = by_seed(*FIRST), by_seed(*SECOND, start=1)
    shared = stats.ttest_rel(SECOND, FIRST[1:])
    for confidence in (0.95, 0.99):
        low, high = shared.confidence_interval(confidence)
        difference = paired_difference(first, second, confidence)
        assert difference.n == 3
        assert difference.mean == pytest.approx((low + high) / 2)
        assert difference.half_width == pytest.approx((high - low) / 2)
    assert difference.p is None


def test_paired_difference_of_few_or_equal_pairs_has_no_interval() -> None:
    assert paired_difference(by_seed(0.5), by_seed(0.4, start=1)).n == 0
    two = paired_difference(by_seed(0.5, 0.6), by_seed(0.4, 0.3))
    assert (two.n, two.half_width) == (2, None)
    assert two.minimum == pytest.approx(-0.3)
    assert two.maximum == pytest.approx(-0.1)
    alike = paired_difference(by_seed(0.1 + 0.2, 0.3, 0.3), by_seed(0.3, 0.3, 0.3))  # but for the last bit
    assert alike.half_width is None
    assert not alike.is_significant


def test_paired_difference_skips_seeds_without_a_value() -> None:
    first = pd.Series([0.1, None, 0.3], index=[0, 1, 2], dtype="Float64")
    assert paired_difference(first, by_seed(0.2, 0.2, 0.2)).n == 2


def test_p_comes_from_six_pairs_on() -> None:
    rising = by_seed(*(0.01 * number for number in range(1, 7)))
    nothing = by_seed(*[0.0] * 6)
    assert paired_difference(nothing, rising).p == pytest.approx(2 / 2**6)
    assert paired_difference(nothing[:5], rising[:5]).p is None


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=10))
@example([0, 0, 0, 0, 5, 12, 15, 26, -8, -50])
def test_sign_flip_p_equals_scipys_permutation_test(differences: list[int]) -> None:
    values = np.array(differences, dtype=float)  # whole numbers: scipy does not see ties of rounded sums
    test = stats.permutation_test(
        (values, np.zeros_like(values)),
        lambda first, second, axis: (first - second).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    # scipy doubles the smaller tail; the distribution is symmetric, so that both are the same.
    assert sign_flip_p(values) == pytest.approx(min(1.0, test.pvalue))


def test_sign_flip_p_of_many_pairs_is_near_the_exact_one() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 30)
    assert sign_flip_p(values) == sign_flip_p(values)
    assert sign_flip_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=12))
def test_rank_agreement_is_kendalls_tau_b(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    agreement = rank_agreement(first, second)
    is_tied = len(set(first)) == 1 or len(set(second)) == 1
    assert (agreement.tau is None) == is_tied
    if agreement.tau is not None:
        assert agreement.tau == pytest.approx(stats.kendalltau(first, second).statistic)
    assert 0 <= agreement.same <= agreement.pairs <= len(pairs) * (len(pairs) - 1) / 2


def test_rank_agreement_counts_pairs_in_the_same_order() -> None:
    agreement = rank_agreement([1, 2, 3, 4], [10, 20, 20, 15])
    assert (agreement.same, agreement.pairs, agreement.tied) == (3, 5, 0)
    assert rank_agreement([1, 1, 2], [1, 2, 3]).tied == 1


def test_balanced_accuracy_counts_every_class_the_same() -> None:
    matrix = np.array([[90, 10, 0], [5, 5, 0], [0, 0, 0]])
    assert class_recalls(matrix)[:2].tolist() == [0.9, 0.5]
    assert np.isnan(class_recalls(matrix)[2])
    assert balanced_accuracy(matrix) == pytest.approx(0.7)
    assert balanced_accuracy(np.zeros((3, 3), dtype=np.int64)) is None
