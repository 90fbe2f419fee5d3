"""Flips against torchvision's on PIL images: equal to the last bit."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from caltech_exp.training.augment.ops import flip_horizontally, flip_vertically

Pictures = list[Image.Image]
FLIPS = [(flip_horizontally, functional.hflip), (flip_vertically, functional.vflip)]


@pytest.mark.parametrize(("ours", "theirs"), FLIPS)
@pytest.mark.parametrize("chosen", [[0, 2], [3], [], [0, 1, 2, 3]])
def test_flip_changes_only_the_hits(
    squares: Pictures,
    stack: Callable[[Pictures], Tensor],
    ours: Callable[[Tensor, Tensor], Tensor],
    theirs: Callable[[Image.Image], Image.Image],
    chosen: list[int],
) -> None:
    images = stack(squares)
    flipped = ours(images, torch.tensor(chosen, dtype=torch.int64))
    assert flipped is images
    expected = [theirs(image) if place in chosen else image for place, image in enumerate(squares)]
    assert torch.equal(flipped, stack(expected))
