"""Claims of the catalog against runs: paired differences, their level, and what diverged runs leave open."""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.catalog import read_catalog
from caltech_exp.reporting.claims import ClaimResult, Effect, claim_confidence, judge_claims
from caltech_exp.reporting.frames import read_study
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, SampleStudy, make_diverged, make_result

SECTIONS = "sections: {a: {tables: {b: {sweep: {lr: [1, 2, 3]}}}}}"
DIVERGED = math.nan
"""In place of an accuracy: a run that diverged."""
HIGHER = "row: a.b=1, against: a.b=2, direction: higher"
LEVELS = st.floats(0.01, 1, allow_subnormal=False)


class OwnStudy:
    """A study of one's own with rows 1, 2 and 3 in the table a.b, and claims."""

    def __init__(
        self, path: Path, *claims: str, overrides: dict[str, int | str] | None = None, **data: bool
    ) -> None:
        text = f"{SECTIONS}\nclaims: [{', '.join(f'{{claim: x, {claim}}}' for claim in claims)}]"
        self.sample = SampleStudy(path, StudySettings(overrides=overrides or {}))
        self.rows = {
            row.label: row.config for _, table in read_catalog(text, "m", "m").tables for row in table.rows
        }
        record = Study(
            settings=self.sample.settings,
            file=StudyFile(name="mine", text=text),
            data=DATA.model_copy(update=data),
            created="2026-01-01T12:00:00Z",
            code=CODE,
        )
        StudyFolder(path).write_study(record)

    def add(self, label: str, *accuracies: float, first_seed: int = 0) -> None:
        config = self.sample.settings.apply(self.rows[label])
        for seed, accuracy in enumerate(accuracies, first_seed):
            is_diverged = math.isnan(accuracy)
            self.sample.add(make_diverged(config, seed) if is_diverged else make_result(config, seed, accuracy))

    def judge(self) -> list[ClaimResult]:
        return judge_claims(read_study(self.sample.path))

    def effect(self) -> Effect:
        """What the first claim rests on."""
        effect = self.judge()[0].decisive
        assert effect is not None
        return effect


def test_effect_is_the_paired_difference_of_shared_seeds(tmp_path: Path) -> None:
    study = OwnStudy(tmp_path, HIGHER)
    study.add("1", 0.9, 0.52, 0.55, 0.53, first_seed=0)
    study.add("2", 0.40, 0.42, 0.44, 0.1, first_seed=1)  # seeds 1 to 4; seed 0 and seed 4 have no partner
    effect = study.effect()
    differences = (0.52 - 0.40, 0.55 - 0.42, 0.53 - 0.44)
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)  # the only comparison of the file
    assert effect.difference.n == 3
    assert effect.difference.mean == pytest.approx(sum(differences) / 3)
    assert effect.difference.half_width == pytest.approx((high - low) / 2)
    assert (effect.row_mean, effect.baseline_mean) == pytest.approx((0.53333333, 0.42))
    assert effect.verdict == "supported"


def test_level_counts_every_comparison_of_the_catalog_once(tmp_path: Path) -> None:
    pairs = ("row: a.b=1, against: a.b, direction: higher", HIGHER, "rows: a.b, direction: similar, margin: 0.1")
    study = OwnStudy(tmp_path, *pairs)
    for label in "12":
        study.add(label, 0.5, 0.6, 0.55)
    frames = read_study(tmp_path)
    claims = frames.catalog.claims
    assert [claim_confidence(frames, claim) for claim in claims] == [
        pytest.approx(1 - 0.05 / 3)
    ] * 3  # 1-2, 1-3, 2-3


@pytest.mark.parametrize(
    ("expectation", "row", "verdict"),
    [
        ("direction: higher", (0.60, 0.61, 0.62), "supported"),
        ("direction: higher", (0.40, 0.41, 0.42), "contradicted"),
        ("direction: higher", (0.40, 0.61, 0.42), "inconclusive"),
        ("direction: lower", (0.40, 0.41, 0.42), "supported"),
        ("direction: lower", (0.60, 0.61, 0.62), "contradicted"),
        ("direction: similar, margin: 0.03", (0.51, 0.521, 0.529), "supported"),
        ("direction: similar, margin: 0.03", (0.60, 0.61, 0.62), "contradicted"),
        ("direction: similar, margin: 0.01", (0.51, 0.521, 0.529), "inconclusive"),
        ("direction: not higher, margin: 0.03", (0.51, 0.521, 0.529), "supported"),
        ("direction: not higher, margin: 0.01", (0.40, 0.41, 0.42), "supported"),
        ("direction: not higher, margin: 0.01", (0.60, 0.61, 0.62), "contradicted"),
        ("direction: higher, size: 0.1, margin: 0.02", (0.60, 0.611, 0.622), "supported"),
        ("direction: higher, size: 0.2, margin: 0.02", (0.60, 0.611, 0.622), "contradicted"),
        ("direction: lower, size: 0.1, margin: 0.02", (0.60, 0.611, 0.622), "contradicted"),
    ],
)
def test_verdict_is_where_the_interval_lies(
    tmp_path: Path, expectation: str, row: tuple[float, ...], verdict: str
) -> None:
    study = OwnStudy(tmp_path, f"row: a.b=1, against: a.b=2, {expectation}")
    study.add("1", *row)
    study.add("2", 0.501, 0.510, 0.521)
    assert study.judge()[0].verdict == verdict


@pytest.mark.parametrize(
    ("row", "baseline", "verdict", "reason"),
    [
        ((), (), "no data", "not measured"),
        ((0.5,), (), "no data", "not measured"),
        ((0.5,), (0.4,), "inconclusive", "n = 1: too few"),
        ((0.5, 0.51), (0.4, 0.42, 0.43), "inconclusive", "n = 2: too few"),
        ((0.5, 0.5, 0.5), (0.4, 0.4, 0.4), "inconclusive", "no spread to judge by"),
        ((0.9, 0.1, 0.5), (0.1, 0.4, 0.4), "inconclusive", "n = 3: interval beyond ±1"),
        ((0.5, 0.51, 0.5), (0.4, 0.41, 0.45), "supported", ""),
    ],
)
def test_few_runs_are_no_verdict(
    tmp_path: Path, row: tuple[float, ...], baseline: tuple[float, ...], verdict: str, reason: str
) -> None:
    study = OwnStudy(tmp_path, HIGHER)
    study.add("1", *row)
    study.add("2", *baseline)
    assert (study.effect().verdict, study.effect().reason) == (verdict, reason)


def test_rows_without_a_seed_in_common_have_no_data(tmp_path: Path) -> None:
    study = OwnStudy(tmp_path, HIGHER)
    study.add("1", 0.5, 0.6, 0.7)
    study.add("2", 0.4, 0.5, 0.6, first_seed=3)
    assert (study.effect().verdict, study.effect().reason) == ("no data", "no seed in common")


def test_p_is_given_from_six_pairs_on(tmp_path: Path) -> None:
    study = OwnStudy(tmp_path, HIGHER)
    study.add("1", *(0.5 + 0.01 * seed for seed in range(5)))
    study.add("2", *(0.4 + 0.002 * seed for seed in range(6)))
    assert study.effect().difference.p is None
    study.add("1", 0.55, first_seed=5)
    assert study.effect().difference.p == pytest.approx(2 / 2**6)


NONE = DIVERGED


@pytest.mark.parametrize(
    ("direction", "row", "baseline", "verdict"),
    [
        # Survivors make no row better, however good they are.
        ("higher", (0.9, 0.91, 0.92, NONE), (0.5, 0.51, 0.52, 0.53), "inconclusive"),
        ("lower", (0.9, 0.91, 0.92, NONE), (0.5, 0.51, 0.52, 0.53), "inconclusive"),
        # Where even the survivors are worse, the row is.
        ("lower", (0.1, 0.11, 0.12, NONE), (0.5, 0.51, 0.53, 0.53), "supported"),
        ("higher", (0.1, 0.11, 0.12, NONE), (0.5, 0.51, 0.53, 0.53), "contradicted"),
        ("higher", (0.5, 0.51, 0.53, 0.53), (0.1, 0.11, 0.12, NONE), "supported"),
        ("higher", (0.5, NONE, NONE), (0.1, 0.1, 0.1), "inconclusive"),
        # All against none.
        ("higher", (NONE, NONE, NONE), (0.1, 0.11, 0.12), "contradicted"),
        ("lower", (NONE, NONE, NONE), (0.1, 0.11, 0.12), "supported"),
        ("higher", (0.1, 0.11, 0.12), (NONE, NONE, NONE), "supported"),
        ("similar, margin: 0.9", (0.1, 0.11, 0.12), (NONE, NONE, NONE), "contradicted"),
        ("not higher, margin: 0.01", (NONE, NONE, NONE), (0.1, 0.11, 0.12), "supported"),
        ("higher", (NONE, NONE), (0.1, 0.11, 0.12), "inconclusive"),
        ("higher", (NONE, NONE, NONE), (NONE, NONE, NONE), "inconclusive"),
        ("similar, margin: 0.1", (0.1, NONE, 0.2), (0.1, NONE, 0.2), "inconclusive"),
    ],
)
def test_diverged_runs_are_never_averaged_away(
    tmp_path: Path, direction: str, row: tuple[float, ...], baseline: tuple[float, ...], verdict: str
) -> None:
    study = OwnStudy(tmp_path, f"row: a.b=1, against: a.b=2, direction: {direction}")
    study.add("1", *row)
    study.add("2", *baseline)
    effect = study.effect()
    assert effect.verdict == verdict
    assert (effect.difference.mean, effect.row_mean) == (None, None)  # a table shows no mean of the survivors
    count = sum(map(math.isnan, row)) or sum(map(math.isnan, baseline))
    assert effect.reason.startswith(f"{count} of {len(row if NONE in row else baseline)} runs diverged (LR ")


@pytest.mark.parametrize(
    ("runs", "verdict", "reason"),
    [
        ((), "no data", "not measured"),
        ((NONE,), "supported", "1 of 1 runs diverged"),
        ((NONE, NONE, NONE), "supported", "3 of 3 runs diverged"),
        ((NONE, 0.5, NONE), "contradicted", "2 of 3 runs diverged"),
        ((0.5,), "contradicted", "0 of 1 runs diverged"),
    ],
)
def test_claim_of_divergence_is_contradicted_by_a_run_that_finishes(
    tmp_path: Path, runs: tuple[float, ...], verdict: str, reason: str
) -> None:
    study = OwnStudy(tmp_path, "row: a.b=1, direction: diverges")
    study.add("1", *runs)
    (result,) = study.judge()
    assert (result.verdict, result.reason, result.decisive) == (verdict, reason, None)


@pytest.mark.parametrize(
    ("second", "third", "verdict", "rival"),
    [
        ((0.40, 0.41, 0.43), (0.30, 0.32, 0.31), "supported", "2"),
        ((0.40, 0.41, 0.43), (0.60, 0.62, 0.61), "contradicted", "3"),
        ((0.40, 0.41, 0.43), (0.40, 0.62, 0.50), "inconclusive", "3"),
        ((0.40, 0.41, 0.43), (), "inconclusive", "3"),
        ((), (0.60, 0.62, 0.61), "contradicted", "3"),
        ((), (), "no data", "2"),
    ],
)
def test_best_row_has_to_beat_every_other_row(
    tmp_path: Path, second: tuple[float, ...], third: tuple[float, ...], verdict: str, rival: str
) -> None:
    study = OwnStudy(tmp_path, "row: a.b=1, against: a.b, direction: higher")
    for label, values in (("1", (0.5, 0.511, 0.52)), ("2", second), ("3", third)):
        study.add(label, *values)
    (result,) = study.judge()
    assert (result.verdict, study.effect().comparison.baseline) == (verdict, f"a.b={rival}")


def test_row_is_compared_with_its_own_test_accuracy_and_an_epoch(tmp_path: Path) -> None:
    claims = ("against: test accuracy, direction: similar, margin: 0.02", "against: epoch 15, direction: higher")
    study = OwnStudy(tmp_path, *(f"row: a.b=1, {claim}" for claim in claims))
    study.add("1", 0.4, 0.5, 0.6)
    test, epoch = study.judge()
    assert test.decisive is not None
    assert test.decisive.difference.mean == pytest.approx(0.01)  # as make_result has it
    assert test.decisive.reason == "no spread to judge by"
    assert epoch.decisive is not None
    assert epoch.decisive.difference.mean == pytest.approx(0.25)  # half of what it reaches in 30 epochs
    assert epoch.verdict == "supported"


@pytest.mark.parametrize("overrides", [{"epochs": 2}, {"lr": 1}])
def test_overridden_rows_have_no_data(tmp_path: Path, overrides: dict[str, int | str]) -> None:
    study = OwnStudy(tmp_path, HIGHER.replace("=1", "=3"), overrides=overrides)
    study.add("3", 0.5, 0.51, 0.53)
    study.add("2", 0.4, 0.42, 0.41)
    assert (study.effect().verdict, study.effect().reason) == ("no data", "not comparable")


def test_stand_in_data_test_no_claim(tmp_path: Path) -> None:
    study = OwnStudy(tmp_path, HIGHER, "row: a.b=3, direction: diverges", stand_in=True)
    study.add("1", 0.5, 0.51, 0.53)
    study.add("2", 0.4, 0.42, 0.41)
    study.add("3", NONE)
    assert [result.verdict for result in study.judge()] == ["no data", "no data"]


def test_engine_and_precision_change_no_claim(tmp_path: Path) -> None:
    study = OwnStudy(tmp_path, HIGHER, overrides={"precision": "fp32"})
    study.add("1", 0.5, 0.51, 0.53)
    study.add("2", 0.4, 0.42, 0.41)
    assert study.judge()[0].verdict == "supported"


def test_rows_of_one_configuration_are_no_comparison(folder: SampleStudy) -> None:
    catalog = read_catalog(f"{SECTIONS}\nclaims: []", "m", "m")
    assert catalog.claims == ()
    text = "sections: {a: {tables: {b: {sweep: {lr: [1, 2]}}, c: {sweep: {lr: [1]}}}}}\nclaims: [%s]"
    claim = "{claim: x, row: a.b=1, against: a.c=1, direction: higher}"
    record = Study(
        settings=StudySettings(),
        file=StudyFile(name="mine", text=text % claim),
        data=DATA,
        created="2026-01-01T12:00:00Z",
        code=CODE,
    )
    StudyFolder(folder.path).write_study(record)
    (result,) = judge_claims(read_study(folder.path))
    assert result.decisive is not None
    assert (result.verdict, result.decisive.reason) == ("no data", "one and the same run")


def test_claims_about_rows_that_are_not_selected_are_left_out(tmp_path: Path) -> None:
    study = OwnStudy(tmp_path, HIGHER, HIGHER.replace("a.b=2", "a.b=3"), "row: a.b=3, direction: diverges")
    frames = read_study(study.sample.path)
    assert len(judge_claims(frames)) == 3
    part = replace(frames, catalog=frames.catalog.restrict([], ["a.b=1", "a.b=2"]))
    assert [result.claim.comparisons[0].baseline for result in judge_claims(part)] == ["a.b=2"]
    assert claim_confidence(part, part.catalog.claims[0]) == claim_confidence(frames, frames.catalog.claims[0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=7))
def test_no_verdict_contradicts_the_difference_that_is_shown(pairs: list[tuple[float, float]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        study = OwnStudy(Path(place) / "runs", HIGHER, HIGHER.replace("higher", "lower"))
        study.add("1", *(row for row, _ in pairs))
        study.add("2", *(baseline for _, baseline in pairs))
        higher, lower = study.judge()
    assert {higher.verdict, lower.verdict} in ({"supported", "contradicted"}, {"inconclusive"})
    assert higher.decisive is not None
    mean = higher.decisive.difference.mean
    assert mean is not None
    if higher.verdict != "inconclusive":
        assert (mean > 0) == (higher.verdict == "supported")
        assert len(pairs) >= 3
