"""Perspective against torchvision's on PIL images: equal to the last bit."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from caltech_exp.training.augment import ops
from caltech_exp.training.augment.geometry import coefficients, distort_perspective

Pictures = list[Image.Image]
FARTHEST = [[56, 56], [167, 56], [167, 167], [56, 167]]
SKEWED = [[56, 0], [223, 56], [167, 223], [0, 167]]
TRAPEZE = [[56, 56], [167, 56], [223, 223], [0, 223]]


def reference(image: Image.Image, corners: list[list[int]]) -> Image.Image:
    start = ops.image_corners().tolist()
    moved: Image.Image = functional.perspective(image, start, corners, InterpolationMode.BICUBIC, 0)
    return moved


@pytest.mark.parametrize("threads", [1, 6])
def test_perspective_of_random_corners_equals_torchvision(
    squares: Pictures, stack: Callable[[Pictures], Tensor], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # one image at a time, or three
    torch.manual_seed(0)
    images, chosen = stack(squares), torch.arange(len(squares))
    corners = ops.draw_perspective_corners(len(squares))
    expected = [reference(*pair) for pair in zip(squares, corners.tolist(), strict=True)]
    assert torch.equal(distort_perspective(images, chosen, corners), stack(expected))


def test_perspective_of_extreme_corners_equals_torchvision(
    squares: Pictures, stack: Callable[[Pictures], Tensor]
) -> None:
    for corners in (ops.image_corners().tolist(), FARTHEST, SKEWED, TRAPEZE):
        moved = distort_perspective(stack(squares[:2]), torch.arange(2), torch.tensor([corners, corners]))
        assert torch.equal(moved, stack([reference(image, corners) for image in squares[:2]]))


def test_perspective_changes_only_the_hits(generated: Pictures, stack: Callable[[Pictures], Tensor]) -> None:
    images = stack(generated)
    moved = distort_perspective(images, torch.tensor([2]), torch.tensor([SKEWED]))
    assert moved is images
    assert torch.equal(moved, stack([*generated[:2], reference(generated[2], SKEWED), generated[3]]))


def test_perspective_without_hits_changes_nothing(
    generated: Pictures, stack: Callable[[Pictures], Tensor]
) -> None:
    moved = distort_perspective(
        stack(generated), torch.empty(0, dtype=torch.int64), ops.draw_perspective_corners(0)
    )
    assert torch.equal(moved, stack(generated))


def test_coefficients_equal_torchvisions() -> None:
    torch.manual_seed(0)
    corners = ops.draw_perspective_corners(200)
    start = ops.image_corners().tolist()
    expected = [functional._get_perspective_coeffs(start, end) for end in corners.tolist()]
    solved = coefficients(corners)
    assert solved.dtype == torch.float64
    assert torch.equal(solved, torch.tensor(expected, dtype=torch.float64))
