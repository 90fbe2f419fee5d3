"""Rotation against torchvision's on PIL images: equal to the last bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from caltech_exp.training.augment import ops
from caltech_exp.training.augment.geometry import rotate

Pictures = list[Image.Image]


@pytest.mark.parametrize("threads", [1, 6])
def test_rotate_random_angles_equals_torchvision(
    squares: Pictures, stack: Callable[[Pictures], Tensor], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # one image at a time, or three
    torch.manual_seed(0)
    images = stack(squares)
    angles = ops.draw_angles(len(squares))
    rotated = rotate(images, angles)
    assert rotated is images
    expected = [functional.rotate(*pair) for pair in zip(squares, angles.tolist(), strict=True)]
    assert torch.equal(rotated, stack(expected))


@pytest.mark.parametrize("angle", [0.0, 30.0, -30.0, 3.6e-6, -1e-5, 0.25, 45.0, 90.0, 180.0, 270.0, -170.0, 725.0])
@pytest.mark.parametrize("size", [(224, 224), (37, 53), (1, 8)])
def test_rotate_special_angles_equals_torchvision(
    stack: Callable[[Pictures], Tensor], angle: float, size: tuple[int, int]
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    rotated = rotate(stack([image]), torch.tensor([angle], dtype=torch.float64))
    assert torch.equal(rotated, stack([functional.rotate(image, angle)]))


def test_rotate_takes_an_empty_batch() -> None:
    assert rotate(torch.empty(0, 224, 224, 3, dtype=torch.uint8), ops.draw_angles(0)).shape == (0, 224, 224, 3)
