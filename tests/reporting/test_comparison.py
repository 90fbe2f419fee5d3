"""Rows beside their reported values: intervals against scipy, verdicts, the seeds that would decide."""

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.catalog import Reported, Row, read_catalog
from caltech_exp.catalog.model import REPORTED_RUNS
from caltech_exp.cli import UserError
from caltech_exp.reporting.comparison import (
    NetworkStart,
    all_rows,
    best_row,
    compare_row,
    difference_half_width,
    distinct_rows,
    find_row,
    has_comparison,
    judge,
    rows_by_start,
    seeds_to_decide,
    split_by_weights,
    table_rows,
)
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.stats import Summary, summarize
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

REPORTED = Reported(0.446, 0.016)
ROUNDING = 0.0005
T = 4.30265273  # Student's, 97.5 %, two degrees of freedom
shares = st.floats(0, 1, allow_subnormal=False)


def half_width(values: tuple[float, ...], reported: Reported, deviation: Any = "population") -> float:
    width = difference_half_width(summarize(values), reported, deviation)
    assert width is not None
    return width


@pytest.mark.parametrize(("deviation", "divisor"), [("population", 0), ("sample", 1)])
@pytest.mark.parametrize("values", [(0.41, 0.44, 0.43), (0.41, 0.44, 0.43, 0.45, 0.40)])
def test_interval_is_welchs_for_two_samples(values: tuple[float, ...], deviation: str, divisor: int) -> None:
    half_widths = []
    for std in (REPORTED.std - ROUNDING, REPORTED.std + ROUNDING):
        # The report's three runs stand for themselves: any three with its mean and its deviation do.
        side = std * ((REPORTED_RUNS - divisor) / 2) ** 0.5
        theirs = (REPORTED.mean - side, REPORTED.mean, REPORTED.mean + side)
        assert (statistics.stdev if divisor else statistics.pstdev)(theirs) == pytest.approx(std)
        low, high = stats.ttest_ind(values, theirs, equal_var=False).confidence_interval(0.95)
        half_widths.append((high - low) / 2)
    assert half_width(values, REPORTED, deviation) == pytest.approx(max(half_widths) + ROUNDING)


@pytest.mark.parametrize(("n", "spread"), [(4, 0.05), (3, 0.001), (8, 0.03), (100, 0.002)])
def test_p_at_the_edge_of_the_interval_is_a_twentieth(n: int, spread: float) -> None:
    values = tuple(0.5 + spread * (-1) ** number for number in range(n))
    p = [
        stats.ttest_ind_from_stats(
            *(half_width(values, REPORTED) - ROUNDING, statistics.stdev(values), n),
            *(0, std * 1.5**0.5, REPORTED_RUNS),
            equal_var=False,
        ).pvalue
        for std in (REPORTED.std - ROUNDING, REPORTED.std + ROUNDING)
    ]
    assert max(p) == pytest.approx(0.05)


def test_many_runs_do_not_outweigh_the_spread_of_the_reports_three() -> None:
    # A hundred runs that hardly scatter beside three that do: the three decide, with their two degrees of freedom.
    close = tuple(0.45 + 0.0001 * (-1) ** number for number in range(100))
    alone = T * (REPORTED.std + ROUNDING) * 1.5**0.5 / 3**0.5
    assert half_width(close, REPORTED) == pytest.approx(alone + ROUNDING, rel=1e-3)


def catalog_rows(table: str, head: str = "") -> tuple[Row, ...]:
    """Rows of a study file's only table."""
    text = f"{head}sections: {{a: {{tables: {{b: {table}}}}}}}"
    return read_catalog(text, "mine", "mine.yaml").tables[0][1].rows


@pytest.mark.parametrize(
    ("written", "mean", "std"),
    [("0.85 ± 0.00", 0.005, 0.005), ("0.4463 ± 0.016", 0.00005, 0.0005), ("8.5e-1 +- 0", 0.005, 0.5)],
)
def test_rounding_is_that_of_the_digits_as_written(written: str, mean: float, std: float) -> None:
    (row,) = catalog_rows(f"{{rows: {{x: {{reported: {written}}}}}}}")
    assert row.reported is not None
    assert row.reported.mean_rounding == pytest.approx(mean)
    assert row.reported.std_rounding == pytest.approx(std)
    # Three equal runs: the interval is the report's own.
    expected = T * (row.reported.std + std) * (1.5 / 3) ** 0.5 + mean
    assert half_width((0.5, 0.5, 0.5), row.reported) == pytest.approx(expected)


def test_two_decimals_hide_more_than_three() -> None:
    coarse, fine = catalog_rows("{rows: {a: {lr: 1, reported: 0.85 ± 0.00}, b: {lr: 2, reported: 0.850 ± 0.000}}}")
    values = (0.855, 0.855, 0.855)
    verdicts = [judge(0.005, half_width(values, row.reported)) for row in (coarse, fine) if row.reported]
    assert verdicts == ["agrees", "differs"]


def test_study_file_says_how_many_runs_its_values_are_of() -> None:
    (row,) = catalog_rows("{rows: {x: {reported: 0.446 ± 0.016}}}", "reported_runs: 10\n")
    assert row.reported is not None
    # t(9) s / sqrt(10), s of the sample.
    expected = 2.26215716 * 0.0165 * (10 / 9) ** 0.5 / 10**0.5 + ROUNDING
    assert half_width((0.5, 0.5, 0.5), row.reported) == pytest.approx(expected)
    with pytest.raises(UserError, match="reported_runs=1: input should be greater than or equal to 2"):
        catalog_rows("{rows: {x: {reported: 0.446 ± 0.016}}}", "reported_runs: 1\n")


@pytest.mark.parametrize("values", [(), (0.446,), (0.325, 0.454)])
def test_fewer_than_three_runs_have_no_interval(values: tuple[float, ...]) -> None:
    assert difference_half_width(summarize(values), REPORTED) is None


@given(st.lists(shares, min_size=3, max_size=6), shares, st.floats(0, 0.3))
def test_reports_own_mean_never_differs(values: list[float], mean: float, std: float) -> None:
    measured = summarize(values)
    assert measured.mean is not None
    width = difference_half_width(measured, Reported(measured.mean, std))
    assert width is not None
    assert judge(0.0, width) == ("agrees" if width < 0.1 else "inconclusive")
    assert difference_half_width(measured, Reported(mean, std)) == pytest.approx(width)


def test_wide_interval_that_contains_zero_is_inconclusive() -> None:
    assert judge(0.05, 0.0999) == "agrees"
    assert judge(0.05, 0.1) == "inconclusive"
    assert judge(0.3, 0.2) == judge(-0.3, 0.2) == "differs"


def study_of(folder: SampleStudy, label: str, *accuracies: float | None, table: str = "scratch.lr") -> StudyFrames:
    """A study with runs of one row; None for a diverged run."""
    config = row_config(table, label)
    folder.start()
    folder.add(
        *(
            make_diverged(config, seed) if accuracy is None else make_result(config, seed, accuracy)
            for seed, accuracy in enumerate(accuracies)
        )
    )
    return read_study(folder.path)


def test_row_beside_its_reported_value(folder: SampleStudy) -> None:
    row = find_row(study_of(folder, "5e-2", 0.44, 0.45, 0.46), "scratch.lr=5e-2")
    difference = compare_row(row)
    assert difference is not None
    assert (row.measured.n, row.label, row.reported) == (3, "5e-2", REPORTED)
    assert difference.value == pytest.approx(0.45 - 0.446)
    assert difference.half_width == pytest.approx(half_width((0.44, 0.45, 0.46), REPORTED))
    assert (difference.verdict, difference.reason) == ("agrees", "")
    assert row.accuracies.tolist() == [0.44, 0.45, 0.46]


@pytest.mark.parametrize("accuracies", [(0.44,), (0.1, 0.2)])
def test_row_with_few_runs_is_inconclusive(folder: SampleStudy, accuracies: tuple[float, ...]) -> None:
    difference = compare_row(find_row(study_of(folder, "5e-2", *accuracies), "scratch.lr=5e-2"))
    assert difference is not None
    assert (difference.verdict, difference.half_width) == ("inconclusive", None)
    assert difference.reason == f"n = {len(accuracies)}: too few"
    assert difference.value == pytest.approx(sum(accuracies) / len(accuracies) - 0.446)


def test_diverged_run_differs_where_the_reports_do_not_diverge(folder: SampleStudy) -> None:
    study = study_of(folder, "5e-2", 0.446, 0.446, None)
    difference = compare_row(find_row(study, "scratch.lr=5e-2"))
    assert difference is not None
    assert (difference.verdict, difference.half_width) == ("differs", None)
    assert difference.reason == "1 of 3 diverged; none in the report"
    assert find_row(study, "scratch.lr=5e-2").measured.n == 2


@pytest.mark.parametrize(
    ("accuracies", "verdict", "reason"),
    [
        ((None,), "agrees", "diverges in both"),
        ((None, 0.3), "differs", "1 of 2 finished; the report's diverge"),
    ],
)
def test_diverging_row_agrees_if_all_runs_diverge(
    folder: SampleStudy, accuracies: tuple[float | None, ...], verdict: str, reason: str
) -> None:
    study = study_of(folder, "LR = 5e-2", *accuracies, table="transfer.diverging")
    difference = compare_row(find_row(study, "transfer.diverging=LR = 5e-2"))
    assert difference is not None
    assert (difference.verdict, difference.reason) == (verdict, reason)


def test_row_without_result_or_reported_value_has_no_comparison(folder: SampleStudy) -> None:
    study = study_of(folder, "template", 0.09, table="scratch.template")
    assert compare_row(find_row(study, "scratch.lr=5e-2")) is None
    assert compare_row(find_row(study, "scratch.template=template")) is None
    with pytest.raises(KeyError):
        find_row(study, "scratch.nothing=5e-2")


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        (StudySettings(overrides={"momentum": 0.5}), {}),
        (StudySettings(), {"stand_in": True}),
        (StudySettings(), {"train_val_images": 100}),
    ],
)
def test_rows_of_other_settings_or_data_are_not_comparable(
    folder: SampleStudy, settings: StudySettings, data: dict[str, Any]
) -> None:
    sample = SampleStudy(folder.path, settings)
    sample.start(**data)
    sample.add(make_result(settings.apply(row_config("scratch.lr", "5e-2")), 0, 0.44))
    study = read_study(sample.path)
    row = find_row(study, "scratch.lr=5e-2")
    assert row.measured.mean == 0.44
    assert (row.reported, row.is_reported, compare_row(row)) == (None, False, None)
    assert not has_comparison(study)


def test_how_runs_are_computed_does_not_matter_to_the_comparison(folder: SampleStudy) -> None:
    sample = SampleStudy(folder.path, StudySettings(overrides={"engine": "reference", "workers": 2}))
    sample.start()
    assert find_row(read_study(sample.path), "scratch.lr=5e-2").reported == REPORTED


def test_only_pretrained_rows_of_the_replaced_weights_are_not_comparable(folder: SampleStudy) -> None:
    pin = f"/weights/resnet18.pth@sha256:{'a' * 64}"
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights={"resnet18": pin}))
    sample.start()
    study = read_study(sample.path)
    assert find_row(study, "resnet.transfer=1e-3").reported is None
    assert find_row(study, "resnet.scratch=1e-3").reported is not None
    assert find_row(study, "transfer.lr=1e-3").reported is not None


@pytest.mark.parametrize(
    ("overrides", "is_compared"), [({}, True), ({"engine": "reference"}, True), ({"epochs": 1}, False)]
)
def test_rows_of_other_weights_alone_are_compared_if_nothing_else_differs(
    folder: SampleStudy, overrides: dict[str, Any], is_compared: bool
) -> None:
    pin = f"/weights/resnet18.pth@sha256:{'a' * 64}"
    sample = SampleStudy(folder.path, StudySettings(overrides=overrides, imagenet_weights={"resnet18": pin}))
    sample.start()
    for label, mean in (("1e-3", 0.9), ("1e-2", 0.93)):
        config = sample.settings.apply(row_config("resnet.transfer", label))
        sample.add(*(make_result(config, seed, mean + seed / 1000) for seed in range(3)))
    study = read_study(sample.path)
    rest, other = split_by_weights(study)
    keys = [{row.key for row in all_rows(part)} for part in (rest, other)]
    assert keys[1] == {"resnet.batch_256=256", *(f"resnet.transfer={label}" for label in ("1e-3", "1e-2", "5e-2"))}
    assert keys[0] | keys[1] == {row.key for row in all_rows(study)}
    assert not keys[0] & keys[1]
    verdicts = {row.label: difference.verdict for row in all_rows(other) if (difference := compare_row(row))}
    assert verdicts == ({"1e-3": "differs", "1e-2": "agrees"} if is_compared else {})
    assert not any(compare_row(row) for part in (study, rest) for row in all_rows(part))
    start = NetworkStart("resnet18", is_pretrained=True, has_other_weights=True)
    assert list(rows_by_start(study)) == [start]  # never among rows of torchvision's weights
    assert study.rows.set_index("key")["has_other_weights"].sum() == 4
    assert study.results["has_other_weights"].all()


def test_a_study_of_torchvisions_weights_is_one_part(folder: SampleStudy) -> None:
    study = study_of(folder, "5e-2", 0.44)
    assert split_by_weights(study) == (study,)


def test_configuration_of_several_rows_counts_once(folder: SampleStudy) -> None:
    study = study_of(folder, "5e-2", 0.44)
    rows = all_rows(study)
    assert len(distinct_rows(rows)) == len({row.config.id for row in rows}) == 40 < len(rows)
    first = next(
        row for row in distinct_rows(rows) if row.config.id == row_config("scratch.template", "template").id
    )
    assert first.key == "scratch.lr=1e-3"  # the report prints no value for the template's own row


def test_seeds_that_would_decide_at_the_measured_spread(folder: SampleStudy) -> None:
    row = find_row(study_of(folder, "5e-2", 0.35, 0.45, 0.53), "scratch.lr=5e-2")
    advice = seeds_to_decide(row)
    assert advice is not None
    assert advice.seeds is not None
    variance = statistics.variance((0.35, 0.45, 0.53))

    def width(seeds: int) -> float:
        spread = (variance * (seeds - 1) / seeds) ** 0.5  # the population's of as many runs
        width = difference_half_width(Summary(seeds, 0.443, spread), REPORTED)
        assert width is not None
        return width

    assert width(advice.seeds) < 0.1 <= width(advice.seeds - 1)
    assert advice.hours == pytest.approx((advice.seeds - 3) * 0.5)


def test_reported_spread_alone_may_be_too_wide(folder: SampleStudy) -> None:
    advice = seeds_to_decide(find_row(study_of(folder, "6e-2", 0.3, 0.35, 0.4), "scratch.lr=6e-2"))
    assert advice is not None
    assert advice.seeds is None


def test_single_run_is_judged_at_the_reports_spread(folder: SampleStudy) -> None:
    advice = seeds_to_decide(find_row(study_of(folder, "5e-2", 0.44), "scratch.lr=5e-2"))
    assert advice is not None
    assert advice.seeds == 3
    assert advice.hours == pytest.approx(1.0)


def test_decided_row_needs_no_seeds(folder: SampleStudy) -> None:
    study = study_of(folder, "5e-2", 0.44, 0.45, 0.46)
    assert seeds_to_decide(find_row(study, "scratch.lr=5e-2")) is None
    assert seeds_to_decide(find_row(study, "scratch.lr=6e-2")) is None


def test_best_row_is_that_of_the_highest_mean_without_diverged_runs(folder: SampleStudy) -> None:
    folder.start()
    high, low = row_config("scratch.lr", "6e-2"), row_config("scratch.lr", "5e-2")
    folder.add(
        make_result(high, 0, 0.6), make_diverged(high, 1), make_result(low, 0, 0.5), make_result(low, 1, 0.4)
    )
    study = read_study(folder.path)
    section, table = next(pair for pair in study.catalog.tables if pair[1].name == "lr")
    rows = table_rows(study, section, table)
    best = best_row(rows)
    assert best is not None
    assert best.label == "5e-2"
    lucky = best_row([row for row in rows if row.label == "6e-2"])
    assert lucky is not None
    assert lucky.label == "6e-2"
    assert best_row([row for row in rows if row.label == "1e-1"]) is None


def test_rows_by_start_are_the_networks_from_scratch_and_pretrained(simulated: Any) -> None:
    groups = rows_by_start(read_study(simulated))
    starts = [NetworkStart(model, pretrained) for model in ("alexnet", "resnet18") for pretrained in (False, True)]
    assert list(groups) == starts
    assert {row.section.name for row in groups[starts[0]]} == {"scratch"}
