"""Images to augment, as PIL images for torchvision and as tensors for the package."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Resize

from caltech_exp.data.splits import IMAGES
from caltech_exp.training.augment.ops import PixelBuffer

Pictures = list[Image.Image]


@pytest.fixture(scope="session")
def photographs(caltech101: Path) -> Pictures:
    """A dozen images of the real data set, the shorter side resized to 256."""
    names = [n for n in (caltech101 / "train.txt").read_text().split() if not n.startswith("BACKGROUND")]
    names = names[:: len(names) // 12][:12]
    return [Resize(256)(Image.open(caltech101 / IMAGES / name).convert("RGB")) for name in names]


@pytest.fixture(scope="session")
def generated() -> Pictures:
    """224 x 224: noise, white (interpolation must not darken it), sharp edges, and a ramp."""
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3))
    down, across = np.mgrid[:224, :224]
    edges = np.where((down // 7 + across // 5) % 2, 255, 0)
    ramp = (down + 2 * across) % 256
    planes = [noise, np.full((224, 224, 3), 255), *(np.stack([p, 255 - p, p // 2], 2) for p in (edges, ramp))]
    return [Image.fromarray(plane.astype(np.uint8)) for plane in planes]


@pytest.fixture(params=["generated", "photographs"])
def squares(request: pytest.FixtureRequest) -> Pictures:
    """224 x 224 images: generated ones, and the center of real ones."""
    return [CenterCrop(224)(image) for image in request.getfixturevalue(request.param)]


@pytest.fixture(scope="session")
def stack() -> Callable[[Pictures], Tensor]:
    """Stack images of one size to uint8 [n, height, width, 3]."""
    return lambda images: torch.stack([torch.from_numpy(np.array(image)) for image in images])


@pytest.fixture(scope="session")
def pack() -> Callable[[Pictures], PixelBuffer]:
    """Images of any sizes to a PixelBuffer."""

    def packed(images: Pictures) -> PixelBuffer:
        heights = torch.tensor([image.height for image in images])
        widths = torch.tensor([image.width for image in images])
        pixels = [torch.from_numpy(np.array(image)).view(-1, 3) for image in images]
        sizes = heights * widths
        return PixelBuffer(torch.cat(pixels), sizes.cumsum(0) - sizes, heights, widths)

    return packed
