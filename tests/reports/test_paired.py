"""The exact test on pairs of runs, against counts done by hand and by brute force."""

import numpy as np
import pytest

from caltech_exp.config import RunConfig
from reports.paired import compare, pair_by_seed, sign_flip_p
from tests.reports.conftest import make_result

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
def test_p_is_the_share_of_sign_flips_as_extreme(differences: list[float], p: float) -> None:
    assert sign_flip_p(np.array(differences)) == p


def test_p_of_equal_ways_is_uniform_enough() -> None:
    generator = np.random.default_rng(0)
    values = np.array([sign_flip_p(generator.normal(size=8)) for _ in range(2000)])
    # At most 5 % below 0.05: 100 of 2,000, plus five standard deviations.
    assert (values <= 0.05).sum() < 150
    assert 0.4 < values.mean() < 0.6


def test_runs_are_paired_by_settings_and_seed_whatever_the_engine() -> None:
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


def test_runs_on_other_data_or_diverged_ones_are_no_pair() -> None:
    other = make_result(FAST, 0)
    other = other.model_copy(update={"data": other.data.model_copy(update={"fingerprint": "f" * 16})})
    diverged = make_result(FAST, 1, status="diverged", val_accuracy=None)
    assert pair_by_seed([make_result(REFERENCE, 0), make_result(REFERENCE, 1)], [other, diverged]) == {}
