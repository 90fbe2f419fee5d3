"""From bytes to the network's input, bit for bit."""

import pytest
import torch
from torchvision.transforms import Normalize

from caltech_exp.data.dataset import IMAGENET_STATISTICS, TEMPLATE_STATISTICS, Statistics
from caltech_exp.training.fast import CHUNK, normalization

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Every byte value in every channel, in more images than a chunk and no multiple of it."""
    values = torch.arange(256, dtype=torch.uint8).repeat(CHUNK["cuda"] + 3, 1)
    return torch.stack([values, values.flip(1), values.roll(100, 1)], dim=-1).view(-1, 16, 16, 3)


def expected(images: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """torchvision's ToTensor and Normalize, image by image."""
    normalize = Normalize(*statistics)
    floats = images.permute(0, 3, 1, 2).to(torch.float32).div(255)
    return torch.stack([normalize(image) for image in floats])


@pytest.mark.parametrize("statistics", [TEMPLATE_STATISTICS, IMAGENET_STATISTICS])
def test_float32_inputs_equal_the_references(images: torch.Tensor, statistics: Statistics) -> None:
    inputs = normalization(statistics, CPU, torch.float32)(images)
    assert inputs.dtype == torch.float32
    assert torch.equal(inputs, expected(images, statistics))


@pytest.mark.parametrize("statistics", [TEMPLATE_STATISTICS, IMAGENET_STATISTICS])
def test_bfloat16_inputs_are_float32_rounded_once(images: torch.Tensor, statistics: Statistics) -> None:
    inputs = normalization(statistics, CPU, torch.bfloat16)(images)
    assert inputs.dtype == torch.bfloat16
    assert torch.equal(inputs, expected(images, statistics).bfloat16())


def test_inputs_are_channels_last(images: torch.Tensor) -> None:
    inputs = normalization(TEMPLATE_STATISTICS, CPU, torch.float32)(images)
    assert inputs.shape == (len(images), 3, 16, 16)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_normalize_takes_no_images() -> None:
    inputs = normalization(TEMPLATE_STATISTICS, CPU, torch.float32)(torch.empty(0, 16, 16, 3, dtype=torch.uint8))
    assert inputs.shape == (0, 3, 16, 16)


def test_normalize_leaves_the_images(images: torch.Tensor) -> None:
    before = images.clone()
    normalization(IMAGENET_STATISTICS, CPU, torch.float32)(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("statistics", [TEMPLATE_STATISTICS, IMAGENET_STATISTICS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_normalizes_to_the_same_bits(
    images: torch.Tensor, statistics: Statistics, dtype: torch.dtype, cuda: torch.device
) -> None:
    there = normalization(statistics, cuda, dtype)(images.to(cuda))
    assert torch.equal(there.cpu(), normalization(statistics, CPU, dtype)(images))
