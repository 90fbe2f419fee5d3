"""The random parameters against torchvision's: distributions, ranges, independence, seeds."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import (
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
)

from caltech_exp.data.dataset import DEGREES, DISTORTION, GRAYSCALE_P, HORIZONTAL_FLIP_P
from caltech_exp.training.augment import ops

DRAWS = 4000
SIGMAS = 4.9
"""Standard deviations that chance exceeds once in a million, on either side."""


def same_distribution(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Two-sample Kolmogorov-Smirnov test at a level of one in a million."""
    both = np.concatenate([ours, theirs])
    shares = [np.searchsorted(np.sort(sample), both, side="right") / len(sample) for sample in (ours, theirs)]
    critical = math.sqrt(-math.log(1e-6 / 2) / 2) * math.sqrt(1 / len(ours) + 1 / len(theirs))
    return bool(np.abs(shares[0] - shares[1]).max() < critical)


def same_counts(ours: np.ndarray, theirs: np.ndarray, values: int) -> bool:
    """Two-sample chi-square test over the integers 0..values-1, of equally many draws, at about the same level."""
    one, other = (np.bincount(sample, minlength=values) for sample in (ours, theirs))
    assert len(one) == len(other) == values
    statistic = float(((one - other) ** 2 / (one + other)).sum())
    free = values - 1
    # Wilson and Hilferty's normal approximation of the chi-square quantile.
    return statistic < free * (1 - 2 / (9 * free) + SIGMAS * math.sqrt(2 / (9 * free))) ** 3


def test_same_distribution_tells_distributions_apart() -> None:
    random = np.random.default_rng(0)
    assert not same_distribution(random.uniform(-30, 30, DRAWS), random.uniform(-26, 26, DRAWS))
    assert not same_counts(random.integers(0, 6, DRAWS), np.minimum(random.integers(0, 7, DRAWS), 5), 6)


@pytest.mark.parametrize(
    ("probability", "transform"),
    [(HORIZONTAL_FLIP_P, RandomHorizontalFlip(p=0.5)), (GRAYSCALE_P, RandomGrayscale(p=0.1))],
)
def test_draw_hits_has_the_given_probability(
    probability: float, transform: Callable[[Image.Image], Image.Image]
) -> None:
    torch.manual_seed(0)
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    theirs = sum(transform(image).tobytes() != image.tobytes() for _ in range(DRAWS))
    ours = len(ops.draw_hits(DRAWS, probability))
    deviation = math.sqrt(2 * DRAWS * probability * (1 - probability))
    assert abs(ours - theirs) < SIGMAS * deviation


def test_draw_hits_returns_ascending_indices() -> None:
    torch.manual_seed(0)
    chosen = ops.draw_hits(1000, 0.5)
    assert chosen.dtype == torch.int64
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen[0] >= 0
    assert chosen[-1] < 1000
    assert len(ops.draw_hits(1000, 0.0)) == len(ops.draw_hits(0, 0.5)) == 0
    assert len(ops.draw_hits(1000, 1.0)) == 1000


@pytest.mark.parametrize(
    ("height", "width", "tops", "lefts"),
    [(231, 227, 8, 4), (224, 256, 1, 33), (256, 224, 33, 1), (220, 300, 5, 77), (1, 1, 224, 224)],
)
def test_crop_corners_are_uniform(height: int, width: int, tops: int, lefts: int) -> None:
    torch.manual_seed(0)
    sizes = torch.tensor([[height, width]]).expand(DRAWS, 2)
    ours = [side.numpy() for side in ops.draw_crop_corners(sizes[:, 0], sizes[:, 1])]
    # RandomCrop pads all that is missing on both sides before it draws.
    padded = Image.new("RGB", (width + 2 * max(0, 224 - width), height + 2 * max(0, 224 - height)))
    theirs = np.array([RandomCrop.get_params(padded, (224, 224))[:2] for _ in range(DRAWS)])
    for side, values in ((0, tops), (1, lefts)):
        assert set(ours[side]) == set(range(values))
        if values > 1:
            assert same_counts(ours[side], theirs[:, side], values)


def test_crop_corners_are_within_each_image() -> None:
    torch.manual_seed(0)
    heights, widths = torch.randint(1, 600, (2, DRAWS))
    top, left = ops.draw_crop_corners(heights, widths)
    for first, sizes in ((top, heights), (left, widths)):
        highest = torch.where(sizes < 224, 224 - sizes, sizes - 224)
        assert bool(((first >= 0) & (first <= highest)).all())


def test_padding_is_all_that_is_missing_on_each_side() -> None:
    assert ops.padding(torch.tensor([1, 223, 224, 225])).tolist() == [223, 1, 0, 0]


def test_perspective_corners_have_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    ours = ops.draw_perspective_corners(DRAWS).numpy()
    theirs = np.array([RandomPerspective.get_params(224, 224, DISTORTION)[1] for _ in range(DRAWS)])
    assert ours.shape == theirs.shape == (DRAWS, 4, 2)
    assert np.array_equal(ours.min(0), theirs.min(0))
    assert np.array_equal(ours.max(0), theirs.max(0))
    for corner in range(4):
        for axis in range(2):
            assert same_distribution(ours[:, corner, axis], theirs[:, corner, axis])


def test_perspective_corners_reach_both_ends_of_their_ranges() -> None:
    torch.manual_seed(0)
    near, far = (0, 56), (167, 223)
    wanted = [[near, near], [far, near], [far, far], [near, far]]
    corners = ops.draw_perspective_corners(DRAWS)
    ends = torch.stack([corners.amin(0), corners.amax(0)], 2)
    assert ends.tolist() == [[list(axis) for axis in corner] for corner in wanted]
    assert ops.image_corners().tolist() == RandomPerspective.get_params(224, 224, DISTORTION)[0]


def test_perspective_corners_are_independent() -> None:
    torch.manual_seed(0)
    correlation = np.corrcoef(ops.draw_perspective_corners(DRAWS).reshape(-1, 8).numpy().T) - np.eye(8)
    assert np.abs(correlation).max() < SIGMAS / math.sqrt(DRAWS)


def test_angles_have_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    ours = ops.draw_angles(DRAWS).numpy()
    degrees = RandomRotation(30).degrees
    assert degrees == [-DEGREES, DEGREES]
    theirs = np.array([RandomRotation.get_params(degrees) for _ in range(DRAWS)])
    assert same_distribution(ours, theirs)
    assert -30 <= ours.min() < -29.9
    assert 29.9 < ours.max() <= 30
    assert ours.dtype == np.float32  # get_params draws a float32, too


@pytest.mark.parametrize(
    "draw",
    [
        lambda: ops.draw_hits(100, 0.5),
        lambda: torch.cat(ops.draw_crop_corners(torch.full((100,), 256), torch.full((100,), 400))),
        lambda: ops.draw_perspective_corners(100),
        lambda: ops.draw_angles(100),
    ],
)
def test_seed_fixes_the_draws(draw: Callable[[], torch.Tensor]) -> None:
    torch.manual_seed(1)
    first, second = draw(), draw()
    torch.manual_seed(1)
    assert torch.equal(draw(), first)
    assert torch.equal(draw(), second)
    assert not torch.equal(first, second)
