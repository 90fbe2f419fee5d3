"""The test on pairs of runs, against counts done by hand and by brute force."""

import numpy as np
import pytest
from scipy import stats

from caltech_exp.cli import UserError
from caltech_exp.commands.compare import FLIPS, MOST_EXACT, compare, pair_by_seed, sign_flip_p
from caltech_exp.config import RunConfig, run_id
from tests.reporting.conftest import make_diverged, make_result

FAST = RunConfig(epochs=2)
REFERENCE = FAST.but(engine="reference")


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


def test_pairs_have_the_same_settings_and_seed_whatever_the_engine() -> None:
    first = [make_result(REFERENCE, seed, 0.4 + 0.01 * seed) for seed in range(3)]
    second = [make_result(FAST, seed, 0.41 + 0.01 * seed) for seed in (0, 2, 5)]
    second.append(make_result(FAST.but(lr=0.5), 1))
    ((settings, pairs),) = pair_by_seed(first, second).items()
    assert [(a.seed, b.seed) for a, b in pairs] == [(0, 0), (2, 2)]
    compared = compare(settings, pairs)
    assert compared.n == 2
    assert compared.first_mean == pytest.approx(0.41)
    assert compared.second_mean == pytest.approx(0.42)
    assert compared.difference_mean == pytest.approx(0.01)
    assert compared.difference_std == pytest.approx(0, abs=1e-12)
    assert compared.p == pytest.approx(0.5)


def test_pairs_have_the_same_data_set() -> None:
    other = make_result(FAST, 0)
    other = other.model_copy(update={"data": other.data.model_copy(update={"fingerprint": "f" * 16})})
    assert pair_by_seed([make_result(REFERENCE, 0)], [other]) == {}


def test_pairs_with_a_diverged_run_are_only_counted() -> None:
    first = [make_result(REFERENCE, 0, 0.4), make_result(REFERENCE, 1, 0.5), make_diverged(REFERENCE, 2, 1)]
    second = [make_result(FAST, 0, 0.41), make_diverged(FAST, 1, 1), make_diverged(FAST, 2, 1)]
    ((settings, pairs),) = pair_by_seed(first, second).items()
    compared = compare(settings, pairs)
    assert (compared.n, compared.first_diverged, compared.second_diverged) == (1, 1, 2)
    assert (compared.first_mean, compared.p) == (0.4, None)
    nothing = compare(settings, pairs[1:])
    assert (nothing.n, nothing.first_diverged, nothing.second_diverged, nothing.p) == (0, 1, 2, None)
    assert np.isnan(nothing.difference_mean)


@pytest.mark.parametrize("side", ["first", "second"])
def test_pairs_refuse_two_versions_of_a_run(side: str) -> None:
    two = [make_result(FAST, 0, 0.4), make_result(FAST.but(precision="fp32"), 0, 0.5), make_result(REFERENCE, 1)]
    one = [make_result(REFERENCE, 0)]
    with pytest.raises(UserError, match=f"{side}= holds 2 versions of one run, {run_id(FAST, 0)}") as caught:
        pair_by_seed(*((two, one) if side == "first" else (one, two)))
    assert "precision=fp32" in str(caught.value)
    assert "give a folder with one of them" in str(caught.value)
    assert pair_by_seed(two, [make_result(FAST, 1)])  # where nothing is compared, two ways are in nobody's way


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
    differences = np.random.default_rng(1).normal(0.4, size=MOST_EXACT)
    exact = sign_flip_p(differences)
    drawn = sign_flip_p(np.concatenate((differences, [0.0])))  # a zero more changes no sum
    assert 0.001 < exact < 0.999
    assert drawn == pytest.approx(exact, abs=5 * (exact * (1 - exact) / FLIPS) ** 0.5)
