"""Two studies paired by seed: intervals against scipy, p by hand and by brute force, verdicts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig, run_id
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.stats import FLIPS, MAX_EXACT, sign_flip_p
from caltech_exp.reporting.study_pairs import (
    PairedRow,
    caution_lines,
    compare_pairs,
    footnote,
    pair_runs,
    row_names,
    rows_table,
    verdict_line,
)
from caltech_exp.study.results import Result
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

ROW = row_config("scratch.lr", "1e-2")
OTHER = row_config("transfer.lr", "1e-3")
REFERENCE = {"engine": "reference"}


def study(path: Path, *results: Result, overrides: dict[str, int | float | str] | None = None) -> SampleStudy:
    folder = SampleStudy(path, StudySettings(overrides=overrides or {}))
    folder.start()
    folder.add(*results)
    return folder


def runs(config: RunConfig, accuracies: Sequence[float | None]) -> list[Result]:
    """A run a seed; None diverges."""
    return [
        make_diverged(config, seed) if accuracy is None else make_result(config, seed, accuracy)
        for seed, accuracy in enumerate(accuracies)
    ]


def compared(first: SampleStudy, second: SampleStudy) -> list[PairedRow]:
    studies = [read_study(folder.path) for folder in (first, second)]
    return compare_pairs(pair_runs(*studies), row_names(studies))


def compared_runs(tmp_path: Path, first: Sequence[float | None], second: Sequence[float | None]) -> PairedRow:
    (row,) = compared(study(tmp_path / "first", *runs(ROW, first)), study(tmp_path / "second", *runs(ROW, second)))
    return row


def test_pairs_have_the_same_settings_and_seed_whatever_the_engine(tmp_path: Path) -> None:
    reference = ROW.but(engine="reference")
    first = study(tmp_path / "a", *runs(reference, [0.40, 0.41, 0.42]), overrides=dict(REFERENCE))
    second = study(tmp_path / "b", *(make_result(ROW, seed, 0.41 + 0.01 * seed) for seed in (0, 2, 5)))
    second.add(make_result(ROW.but(lr=0.5), 1), make_result(ROW.but(precision="fp32"), 7))
    (row,) = compared(first, second)
    assert (row.name, row.difference.n) == ("scratch.lr=1e-2", 2)
    assert row.first.mean == pytest.approx(0.41)
    assert row.second.mean == pytest.approx(0.42)
    assert row.first.std == pytest.approx(np.std([0.40, 0.42]))
    assert row.difference.mean == pytest.approx(0.01)


def test_pairs_have_the_same_data_set(tmp_path: Path) -> None:
    first = study(tmp_path / "a", *runs(ROW, [0.4]))
    other = SampleStudy(tmp_path / "b")
    other.start(fingerprint="f" * 16)
    result = make_result(ROW, 0)
    other.add(result.model_copy(update={"data": result.data.model_copy(update={"fingerprint": "f" * 16})}))
    assert pair_runs(read_study(first.path), read_study(other.path)).empty


@pytest.mark.parametrize("side", ["first", "second"])
def test_pairs_refuse_two_versions_of_a_run(side: str, tmp_path: Path) -> None:
    two = study(tmp_path / "two", make_result(ROW, 0), make_result(ROW.but(precision="fp32"), 0))
    two.add(make_result(ROW.but(engine="reference"), 1))
    one = study(tmp_path / "one", make_result(ROW.but(engine="reference"), 0), overrides=dict(REFERENCE))
    frames = [read_study(folder.path) for folder in ((two, one) if side == "first" else (one, two))]
    with pytest.raises(UserError, match=f"{side}= holds 2 versions of one run, ") as caught:
        pair_runs(*frames)
    for words in (run_id(ROW, 0), "precision=fp32", "give a folder with one of them"):
        assert words in str(caught.value)
    single = study(tmp_path / "single", make_result(ROW, 1))
    pair_runs(read_study(two.path), read_study(single.path))  # versions of a run that is not compared do no harm


def test_interval_is_that_of_scipys_paired_test(tmp_path: Path) -> None:
    first, second = [0.40, 0.42, 0.44, 0.41], [0.41, 0.45, 0.44, 0.43]
    row = compared_runs(tmp_path, first, second)
    low, high = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert row.difference.mean == pytest.approx((low + high) / 2)
    assert row.difference.half_width == pytest.approx((high - low) / 2)


def test_level_of_all_rows_is_shared_by_the_rows_that_have_an_interval(tmp_path: Path) -> None:
    values = ([0.40, 0.42, 0.44], [0.41, 0.432, 0.451])
    configs = [ROW, OTHER, row_config("scratch.lr", "5e-2")]
    first, second = (
        study(tmp_path / name, *(run for config in configs[:2] for run in runs(config, accuracies)))
        for name, accuracies in zip(("a", "b"), values, strict=True)
    )
    for folder in (first, second):
        folder.add(*runs(configs[2], [0.4, 0.5]))
    low, high = stats.ttest_rel(values[1], values[0]).confidence_interval(1 - 0.05 / 2)
    rows = compared(first, second)
    assert [row.joint.half_width for row in rows[:1]] == [pytest.approx((high - low) / 2)]
    assert [row.difference.n for row in rows] == [3, 2, 3]


def test_rows_have_all_their_names_in_the_order_of_the_tables(tmp_path: Path) -> None:
    shared = row_config("scratch.lr", "5e-2")
    unnamed = RunConfig(lr=0.3, epochs=7, batch_size=512)
    results = [run for config in (OTHER, unnamed, shared, ROW) for run in runs(config, [0.4])]
    rows = compared(study(tmp_path / "a", *results), study(tmp_path / "b", *results))
    assert [row.name for row in rows] == [
        "scratch.lr=1e-2",
        "scratch.lr=5e-2; scratch.epochs=30",
        "transfer.lr=1e-3",
        "lr=0.3 batch_size=512 epochs=7",
    ]


def test_rows_are_named_by_the_study_that_asks_for_them(tmp_path: Path) -> None:
    config = ROW.but(epochs=2)
    first = study(tmp_path / "a", *runs(config, [0.4]))
    second = study(tmp_path / "b", *runs(config, [0.4]), overrides={"epochs": 2})
    assert [row.name for row in compared(first, second)] == ["scratch.lr=1e-2"]


@pytest.mark.parametrize(
    ("first", "second", "verdict", "line"),
    [
        (
            [0.40, 0.42, 0.44], [0.404, 0.423, 0.441], "agrees",
            "The two studies agree: 1 of 1 row differs by less than 0.005, none significantly.",
        ),
        (
            [0.40, 0.42, 0.44], [0.40, 0.42, 0.44], "agrees",
            "The two studies agree: 1 of 1 row differs by less than 0.001, none significantly.",
        ),
        (
            [0.40, 0.42, 0.44], [0.42, 0.441, 0.459], "differs",
            "The two studies differ in 1 of 1 row, scratch.lr=1e-2 (+0.0200 ± 0.0025).",
        ),
        (
            [0.2, 0.4, 0.3], [0.4, 0.2, 0.5], "inconclusive",
            "Nothing can be decided: no row agrees or differs clearly.",
        ),
        (
            [0.40, 0.42], [0.40, 0.42], "inconclusive",
            "Nothing can be decided: a row needs 3 pairs of finished runs, the most here is 2.",
        ),
        (
            [0.40], [0.9], "inconclusive",
            "Nothing can be decided: a row needs 3 pairs of finished runs, the most here is 1.",
        ),
        (
            [0.40, 0.42, 0.44], [0.41, 0.43, 0.45], "inconclusive",  # no spread to judge by
            "Nothing can be decided: no row agrees or differs clearly.",
        ),
        (
            [None, None], [None, None], "agrees",
            "The two studies agree in 1 of 1 row: 1 diverges in both.",
        ),
        (
            [None, None, None], [0.1, 0.2, 0.3], "differs",
            "The two studies differ in 1 of 1 row, scratch.lr=1e-2 (it diverges in one of them alone).",
        ),
        (
            [None, 0.1, 0.2, 0.3], [0.1, 0.1, 0.2, 0.3], "inconclusive",
            "Nothing can be decided: no row agrees or differs clearly.",
        ),
    ],
)  # fmt: skip
def test_verdict_of_one_row(
    first: list[float | None], second: list[float | None], verdict: str, line: str, tmp_path: Path
) -> None:
    row = compared_runs(tmp_path, first, second)
    assert row.verdict == verdict
    assert verdict_line([row]) == line


def test_verdict_counts_the_rows_that_agree_differ_and_are_inconclusive(tmp_path: Path) -> None:
    pairs = {
        "1e-3": ([0.10, 0.12, 0.14], [0.104, 0.123, 0.141]),
        "1e-2": ([0.20, 0.22, 0.24], [0.25, 0.2701, 0.29]),
        "5e-2": ([0.30, 0.32, 0.34], [0.35, 0.3699, 0.388]),
        "6e-2": ([0.40], [0.41]),
    }
    first, second = (
        study(
            tmp_path / str(side),
            *(run for label, sides in pairs.items() for run in runs(row_config("scratch.lr", label), sides[side])),
        )
        for side in (0, 1)
    )
    rows = compared(first, second)
    assert [row.verdict for row in rows] == ["agrees", "differs", "differs", "inconclusive"]
    line = verdict_line(rows)
    assert line.startswith("The two studies differ in 2 of 4 rows, most in scratch.lr=1e-2 (+0.0500 ± ")
    assert line.endswith("); 1 agrees; 1 is inconclusive.")
    both = [rows[0], rows[3]]
    assert verdict_line(both) == (
        "The two studies agree in 1 of 2 rows (differences of less than 0.005); 1 is inconclusive."
    )


def test_verdict_of_studies_that_differ_in_nothing_is_rarely_that_they_differ() -> None:
    generator, rows, seeds = np.random.default_rng(0), 5, 4
    pairs = pd.DataFrame(
        {
            "recipe": np.repeat([str(row) for row in range(rows)], seeds),
            "seed": np.tile(np.arange(seeds), rows),
            "state_first": "finished",
            "state_second": "finished",
        }
    )
    differ = 0
    for _ in range(200):
        accuracies = generator.normal(0.5, 0.01, (2, rows * seeds))
        pairs = pairs.assign(val_accuracy_first=accuracies[0], val_accuracy_second=accuracies[1])
        lines = verdict_line(compare_pairs(pairs, {str(row): f"row {row}" for row in range(rows)}))
        differ += "differ in" in lines
    assert 1 <= differ <= 20  # 0.05 each: 10 of 200, and three standard deviations


def test_verdict_counts_rows_that_diverge_in_both_apart(tmp_path: Path) -> None:
    results = [*runs(ROW, [0.40, 0.42, 0.44]), *runs(OTHER, [None, None])]
    rows = compared(study(tmp_path / "a", *results), study(tmp_path / "b", *results))
    assert verdict_line(rows) == (
        "The two studies agree: 1 of 2 rows differ by less than 0.001, none significantly; 1 diverges in both."
    )


def test_pairs_with_a_diverged_run_are_only_counted(tmp_path: Path) -> None:
    row = compared_runs(tmp_path, [0.4, 0.5, None], [0.41, None, None])
    assert (row.difference.n, row.diverged, row.one_diverged) == (1, (1, 2), 1)
    assert (row.first.mean, row.difference.p) == (0.4, None)
    nothing = compared_runs(tmp_path / "more", [0.5, None], [None, None])
    assert (nothing.difference.n, nothing.first.mean, nothing.difference.mean) == (0, None, None)


def test_table_leaves_out_columns_that_say_nothing(tmp_path: Path) -> None:
    row = compared_runs(tmp_path, [0.40, 0.42, 0.44], [0.41, 0.431, 0.45])
    heading, _, cells = rows_table([row]).splitlines()
    assert [cell.strip() for cell in heading.strip("|").split("|")] == [
        "row", "pairs", "first", "second", "difference", "verdict",
    ]  # fmt: skip
    assert [cell.strip() for cell in cells.strip("|").split("|")] == [
        "scratch.lr=1e-2", "3", "0.4200 ± 0.0163", "0.4303 ± 0.0163", "+0.0103 ± 0.0014", "differs",
    ]  # fmt: skip
    assert "diverged" not in footnote([row])
    assert "p:" not in footnote([row])


def test_table_and_footnote_explain_many_and_diverged_pairs(tmp_path: Path) -> None:
    row = compared_runs(tmp_path, [0.40] * 23, [*np.linspace(0.40, 0.42, 22), None])
    heading, _, cells = rows_table([row]).splitlines()
    assert [cell.strip() for cell in heading.strip("|").split("|")][1:3] == ["pairs", "diverged"]
    assert [cell.strip() for cell in cells.strip("|").split("|")][1:3] == ["22", "0 + 1"]
    assert "above that from 100,000 random flips, (1 + as extreme) / (1 + 100,000)." in footnote([row])
    assert "diverged: runs of first + of second; their pairs do not count elsewhere." in footnote([row])
    eight = compared_runs(tmp_path / "eight", [0.40] * 8, [0.41, 0.42] * 4)
    assert "exact up to n = 20, " in footnote([eight])
    assert " 0.008 " in rows_table([eight])  # 2 / 2^8


def test_caution_names_the_study(tmp_path: Path) -> None:
    first, second = (SampleStudy(tmp_path / name) for name in "ab")
    first.start(simulated=True, stand_in=True)
    second.start(simulated=True)
    frames = [read_study(folder.path) for folder in (first, second)]
    assert caution_lines(*frames) == [
        "caution: both studies: Simulated: drawn at random around the reported values, nothing was trained",
        "caution: first: Not Caltech-101: generated stand-in data",
    ]
    plain, short = SampleStudy(tmp_path / "c"), SampleStudy(tmp_path / "d", StudySettings(overrides={"epochs": 2}))
    plain.start()
    short.start()
    assert caution_lines(*(read_study(folder.path) for folder in (plain, short))) == [
        "caution: second: Overridden: epochs=2"
    ]
    reference = SampleStudy(tmp_path / "e", StudySettings(overrides=dict(REFERENCE)))
    reference.start()
    assert caution_lines(*(read_study(folder.path) for folder in (plain, reference))) == []


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 1.0, 1.0], 2 / 8),  # +++ and --- are as far from zero
        ([1.0, -1.0], 1.0),
        ([3.0, 2.0, -1.0], 4 / 8),  # sums of 4: +++ 6, ++- 4, and their opposites
        ([0.0, 0.0], 1.0),
        ([0.1] * 8, 2 / 256),
    ],
)
def test_sign_flip_p_is_the_share_of_flips_as_extreme(differences: list[float], p: float) -> None:
    assert sign_flip_p(np.array(differences)) == p


def test_sign_flip_p_of_equal_runs_is_uniform_enough() -> None:
    generator = np.random.default_rng(0)
    values = np.array([sign_flip_p(generator.normal(size=8)) for _ in range(2000)])
    # At most 5 % below 0.05: 100 of 2,000, plus five standard deviations.
    assert (values <= 0.05).sum() < 150
    assert 0.4 < values.mean() < 0.6


def test_sign_flip_p_of_many_pairs_uses_every_pair() -> None:
    # The first 20 cancel out, the other 20 all point one way: the exact p is far below 0.001.
    differences = np.array([1.0, -1.0] * 10 + [1.0] * 20)
    assert sign_flip_p(differences[:20]) == 1.0
    # 30 ones and 10 minus ones of 40: as extreme are 30 or more, or 10 or fewer, heads of 40.
    exact = 2 * stats.binom.sf(29, 40, 0.5)
    p = sign_flip_p(differences)
    assert p == pytest.approx(exact, abs=5 * (exact / FLIPS) ** 0.5)
    assert p == sign_flip_p(differences)
    assert sign_flip_p(np.full(40, 0.1)) == 1 / (1 + FLIPS)


def test_sign_flip_p_drawn_is_near_the_exact_one() -> None:
    differences = np.random.default_rng(1).normal(0.4, size=MAX_EXACT)
    exact = sign_flip_p(differences)
    drawn = sign_flip_p(np.concatenate((differences, [0.0])))  # a zero more changes no sum
    assert 0.001 < exact < 0.999
    assert drawn == pytest.approx(exact, abs=5 * (exact * (1 - exact) / FLIPS) ** 0.5)
