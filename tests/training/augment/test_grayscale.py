"""Grayscale against torchvision's on PIL images: equal to the last bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from caltech_exp.training.augment.ops import grayscale

Pictures = list[Image.Image]


@pytest.mark.parametrize("chosen", [[0, 2], [3], [], [0, 1, 2, 3]])
def test_grayscale_changes_only_the_hits(
    squares: Pictures, stack: Callable[[Pictures], Tensor], chosen: list[int]
) -> None:
    images = stack(squares)
    gray = grayscale(images, torch.tensor(chosen, dtype=torch.int64))
    assert gray is images
    expected = [
        functional.rgb_to_grayscale(image, num_output_channels=3) if place in chosen else image
        for place, image in enumerate(squares)
    ]
    assert torch.equal(gray, stack(expected))


def test_grayscale_of_every_fourth_level_equals_torchvision(stack: Callable[[Pictures], Tensor]) -> None:
    levels = np.r_[0:256:4, 255].astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), 3).reshape(65, -1, 3)
    image = Image.fromarray(colours)
    expected = functional.rgb_to_grayscale(image, num_output_channels=3)
    assert torch.equal(grayscale(stack([image]), torch.tensor([0])), stack([expected]))
