"""Crops out of a PixelBuffer against torchvision's RandomCrop on PIL images: equal to the last bit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomCrop

from caltech_exp.training.augment import ops
from caltech_exp.training.augment.ops import PixelBuffer, crop

Pictures = list[Image.Image]


def reference(image: Image.Image, top: int, left: int) -> Image.Image:
    """The reference's transform with its random numbers fixed."""
    transform = RandomCrop(224, pad_if_needed=True, padding_mode="edge")
    transform.get_params = lambda _image, size: (top, left, *size)
    cropped: Image.Image = transform(image)
    return cropped


def test_crop_of_photographs_equals_torchvision(
    photographs: Pictures, pack: Callable[[Pictures], PixelBuffer], stack: Callable[[Pictures], Tensor]
) -> None:
    torch.manual_seed(0)
    packed = pack(photographs)
    samples = torch.randperm(len(photographs)).repeat(3)
    top, left = ops.draw_crop_corners(packed.heights[samples], packed.widths[samples])
    crops = crop(packed, samples, top, left)
    parameters = zip(samples.tolist(), top.tolist(), left.tolist(), strict=True)
    assert torch.equal(crops, stack([reference(photographs[i], t, j) for i, t, j in parameters]))


def test_crop_pads_small_images_with_their_edge(
    pack: Callable[[Pictures], PixelBuffer], stack: Callable[[Pictures], Tensor]
) -> None:
    random = np.random.default_rng(0)
    sizes = [(1, 1), (223, 225), (225, 223), (3, 300), (301, 5), (111, 97), (224, 224)]
    images = [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    packed = pack(images)
    span = (
        ops.padding(packed.heights) * 2 + packed.heights - 224,
        ops.padding(packed.widths) * 2 + packed.widths - 224,
    )
    samples = torch.arange(len(images))
    for part in (0, 1, 2):  # the first possible place of a crop, the middle, the last
        top, left = (side * part // 2 for side in span)
        parameters = zip(images, top.tolist(), left.tolist(), strict=True)
        assert torch.equal(crop(packed, samples, top, left), stack([reference(*p) for p in parameters]))


def test_crop_takes_no_samples(generated: Pictures, pack: Callable[[Pictures], PixelBuffer]) -> None:
    nothing = torch.empty(0, dtype=torch.int64)
    assert crop(pack(generated), nothing, nothing, nothing).shape == (0, 224, 224, 3)


@pytest.mark.parametrize("threads", [1, 6])
def test_crop_takes_a_sample_twice(
    generated: Pictures, pack: Callable[[Pictures], PixelBuffer], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # one image at a time, or three
    samples = torch.tensor([2, 2, 0, 2, 3])
    nothing = torch.zeros(5, dtype=torch.int64)
    crops = crop(pack(generated), samples, nothing, nothing)
    assert torch.equal(crops[0], crops[1])
    assert torch.equal(crops[3], torch.from_numpy(np.array(generated[2])))
    assert torch.equal(crops[4], torch.from_numpy(np.array(generated[3])))
