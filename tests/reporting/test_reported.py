"""Measured against reported values, held against scipy's tests for two samples."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.catalog import THE_REPORT, Reported, Row, read_catalog
from caltech_exp.catalog.model import REPORTED_RUNS
from caltech_exp.cli import UserError
from caltech_exp.reporting.measured import measure_values
from caltech_exp.reporting.page import how_to_compare
from caltech_exp.reporting.reported import gap

REPORTED = Reported(0.446, 0.016)
ROUNDING = 0.0005
shares = st.floats(0, 1, allow_subnormal=False)


@pytest.mark.parametrize(("deviation", "divisor"), [("population", 0), ("sample", 1)])
@pytest.mark.parametrize("values", [(0.41, 0.44, 0.43), (0.41, 0.44), (0.41, 0.44, 0.43, 0.45, 0.40)])
def test_the_interval_is_welchs_for_two_samples(values: tuple[float, ...], deviation: str, divisor: int) -> None:
    found = gap(measure_values(values), REPORTED, deviation)  # type: ignore[arg-type]
    assert found is not None
    halves = []
    for std in (REPORTED.std - ROUNDING, REPORTED.std + ROUNDING):
        # The report's three runs stand for themselves: any three with its mean and its deviation do.
        side = std * ((REPORTED_RUNS - divisor) / 2) ** 0.5
        theirs = (REPORTED.mean - side, REPORTED.mean, REPORTED.mean + side)
        deviation_of = statistics.stdev if divisor else statistics.pstdev
        assert deviation_of(theirs) == pytest.approx(std)
        low, high = stats.ttest_ind(values, theirs, equal_var=False).confidence_interval(0.95)
        assert found.value == pytest.approx((high + low) / 2)
        halves.append((high - low) / 2)
    assert found.half == pytest.approx(max(halves) + ROUNDING)


@pytest.mark.parametrize(("n", "spread"), [(2, 0.05), (2, 0.01), (3, 0.001), (8, 0.03), (100, 0.002)])
def test_on_the_edge_of_the_interval_p_is_a_twentieth(n: int, spread: float) -> None:
    values = tuple(0.5 + spread * (-1) ** number for number in range(n))
    found = gap(measure_values(values), REPORTED)
    assert found is not None
    p = [
        stats.ttest_ind_from_stats(
            *(found.half - ROUNDING, statistics.stdev(values), n),
            *(0, std * 1.5**0.5, REPORTED_RUNS),
            equal_var=False,
        ).pvalue
        for std in (REPORTED.std - ROUNDING, REPORTED.std + ROUNDING)
    ]
    assert max(p) == pytest.approx(0.05)


def test_many_runs_do_not_outweigh_the_spread_of_the_reports_three() -> None:
    # A hundred runs that hardly scatter beside three that do: the three decide, with their two degrees of freedom.
    close = gap(measure_values(tuple(0.45 + 0.0001 * (-1) ** number for number in range(100))), REPORTED)
    assert close is not None
    alone = 4.30265273 * (REPORTED.std + ROUNDING) * 1.5**0.5 / 3**0.5
    assert close.half == pytest.approx(alone + ROUNDING, rel=1e-3)


@pytest.mark.parametrize(
    ("written", "mean", "std"),
    [("0.85 ± 0.00", 0.005, 0.005), ("0.4463 ± 0.016", 0.00005, 0.0005), ("8.5e-1 +- 0", 0.005, 0.5)],
)
def test_rounding_is_that_of_the_digits_as_written(written: str, mean: float, std: float) -> None:
    (row,) = rows(f"{{rows: {{x: {{reported: {written}}}}}}}")
    assert row.reported is not None
    said = row.reported
    assert said.mean_rounding == pytest.approx(mean)
    assert said.std_rounding == pytest.approx(std)
    found = gap(measure_values((0.5,)), row.reported)
    assert found is not None
    assert found.half == pytest.approx(4.30265273 * (row.reported.std + std) * (3 / 2 * 4 / 3) ** 0.5 + mean)


def test_two_decimals_hide_more_than_three() -> None:
    coarse, fine = rows("{rows: {a: {lr: 1, reported: 0.85 ± 0.00}, b: {lr: 2, reported: 0.850 ± 0.000}}}")
    measured = measure_values((0.855, 0.855))
    found = [row.reported and gap(measured, row.reported) for row in (coarse, fine)]
    assert [one and one.finding for one in found] == ["agrees", "differs"]


def test_a_study_file_says_how_many_runs_its_values_are_of() -> None:
    (row,) = rows("{rows: {x: {reported: 0.446 ± 0.016}}}", "reported_runs: 10\n")
    assert row.reported is not None
    found = gap(measure_values((0.5,)), row.reported)
    assert found is not None
    # t(9) s sqrt(1 + 1/10), s of the sample.
    assert found.half == pytest.approx(2.26215716 * 0.0165 * (10 / 9) ** 0.5 * 1.1**0.5 + ROUNDING)
    with pytest.raises(UserError, match="reported_runs=1: input should be greater than or equal to 2"):
        rows("{rows: {x: {reported: 0.446 ± 0.016}}}", "reported_runs: 1\n")


def test_the_page_says_what_the_interval_is_of() -> None:
    words = how_to_compare(THE_REPORT)
    assert "Of its own deviations the report does not say whether they are the population's or a sample's" in words
    assert "the report's over 3 runs" in words
    assert "half a last digit of each is part of the interval" in words
    assert "A single measured run has no spread (n = 1)" in words
    own = "reported_runs: 10\nsections: {a: {tables: {b: {rows: {x: {reported: 0.4 ± 0.1}}}}}}"
    assert "the report's over 10 runs" in how_to_compare(read_catalog(own, "mine", "mine.yaml"))
    assert how_to_compare(read_catalog("sections: {a: {tables: {b: {rows: {x: {}}}}}}", "mine", "mine.yaml")) == ""


def rows(table: str, head: str = "") -> tuple[Row, ...]:
    """Rows of a study file's only table."""
    return (
        read_catalog(f"{head}sections: {{a: {{tables: {{b: {table}}}}}}}", "mine", "mine.yaml").tables[0][1].rows
    )


def test_a_single_run_is_judged_by_the_reports_spread() -> None:
    found = gap(measure_values((0.5,)), REPORTED)
    assert found is not None
    # One draw more from a normal distribution of which three are known: t(2) s sqrt(1 + 1/3), s of the sample.
    sample = (REPORTED.std + ROUNDING) * (3 / 2) ** 0.5
    assert found.half == pytest.approx(4.30265273 * sample * (4 / 3) ** 0.5 + ROUNDING)
    assert found.finding == "cannot tell"  # by a thousandth: ±0.101


def test_what_rounding_hides_is_no_difference() -> None:
    said = Reported(0.092, 0.000)
    near, far = gap(measure_values((0.0916,)), said), gap(measure_values((0.100,)), said)
    assert near is not None
    assert near.finding == "agrees"
    assert far is not None
    assert far.finding == "differs"


def test_too_wide_an_interval_that_holds_zero_cannot_tell() -> None:
    apart, together = gap(measure_values((0.325, 0.454)), REPORTED), gap(measure_values((0.44, 0.45)), REPORTED)
    assert apart is not None
    assert apart.half == pytest.approx(0.731, abs=0.001)  # Student's t is 12.7 with one degree of freedom
    assert apart.finding == "cannot tell"
    assert together is not None
    assert together.finding == "agrees"
    said = Reported(0.160, 0.085)
    low, high = gap(measure_values((0.0,)), said), gap(measure_values((0.7,)), said)
    assert low is not None
    assert low.finding == "cannot tell"
    assert high is not None
    assert high.finding == "differs"  # upwards it tells all the same


def test_nothing_measured_is_no_difference() -> None:
    assert gap(measure_values(()), REPORTED) is None


@given(st.lists(shares, min_size=1, max_size=6), shares, st.floats(0, 0.3))
def test_the_reports_own_mean_never_differs(values: list[float], mean: float, std: float) -> None:
    measured = measure_values(values)
    assert measured.mean is not None
    own = gap(measured, Reported(measured.mean, std))
    assert own is not None
    assert own.finding == ("agrees" if own.half < 0.1 else "cannot tell")
    other = gap(measured, Reported(mean, std))
    assert other is not None
    assert other.half == pytest.approx(own.half)
