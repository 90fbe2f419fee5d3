"""Bicubic sampling against Pillow's at the same points, borders included: equal to the last bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from caltech_exp.training.augment.geometry import sample

Pictures = list[Image.Image]


@pytest.mark.parametrize("skip_outside", [True, False])
@pytest.mark.parametrize(
    "affine",
    [
        (1, 0, 0, 0, 1, 0),
        (1, 0, 0.5, 0, 1, -0.5),  # half a pixel on, halfway between pixels
        (0.3, 0.1, -2.3, -0.2, 0.5, 7.1),  # magnified, with the border in sight
        (2.9, 0.4, -40.7, 0.7, 3.1, -50.2),  # reduced: most points are outside
        (1, 0, 500, 0, 1, 500),  # all are outside
    ],
)
def test_sample_equals_pillow(
    stack: Callable[[Pictures], Tensor], affine: tuple[float, ...], skip_outside: bool
) -> None:
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (37, 53, 3), dtype=np.uint8)) for _ in range(3)]
    images[1] = Image.new("RGB", (53, 37), (255, 1, 254))
    size = (41, 29)
    expected = [
        image.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC) for image in images
    ]
    column, row = (torch.arange(length, dtype=torch.float64) + 0.5 for length in size)
    a, b, c, d, e, f = affine
    x = a * column[None, :] + b * row[:, None] + c
    y = d * column[None, :] + e * row[:, None] + f
    x, y = x.expand(3, -1, -1), y.expand(3, -1, -1)
    assert torch.equal(sample(stack(images), x, y, skip_outside=skip_outside), stack(expected))


@pytest.mark.parametrize("skip_outside", [True, False])
def test_sample_at_infinity_is_outside(skip_outside: bool) -> None:
    images = torch.full((1, 5, 5, 3), 255, dtype=torch.uint8)
    x = torch.tensor([[[2.5, float("inf"), float("nan"), -1e30, 2.5]]], dtype=torch.float64)
    y = torch.tensor([[[2.5, 2.5, 2.5, 2.5, float("-inf")]]], dtype=torch.float64)
    values = sample(images, x, y, skip_outside=skip_outside)
    assert values[0, 0, :, 0].tolist() == [255, 0, 0, 0, 0]
