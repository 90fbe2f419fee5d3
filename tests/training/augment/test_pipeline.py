"""Whole augmentations against the reference's transforms, composed with the same parameters."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, functional

from caltech_exp.config import RunConfig
from caltech_exp.data import dataset
from caltech_exp.data.dataset import train_transform
from caltech_exp.training.augment import ops, pipeline
from caltech_exp.training.augment.ops import PixelBuffer

Pictures = list[Image.Image]
REFERENCE = {
    "RandomHorizontalFlip": pipeline.random_horizontal_flip,
    "RandomGrayscale": pipeline.random_grayscale,
    "RandomPerspective": pipeline.random_perspective,
    "RandomRotation": pipeline.random_rotation,
    "RandomVerticalFlip": pipeline.random_vertical_flip,
}


def crop_on_pil(images: Pictures) -> Pictures:
    """For images no smaller than the crop; test_crop tests padding."""
    heights, widths = (torch.tensor([getattr(i, side) for i in images]) for side in ("height", "width"))
    top, left = (side.tolist() for side in ops.draw_crop_corners(heights, widths))
    return [functional.crop(i, t, j, 224, 224) for i, t, j in zip(images, top, left, strict=True)]


def some_on_pil(images: Pictures, probability: float, transform: Callable[[Image.Image], Image.Image]) -> Pictures:
    chosen = ops.draw_hits(len(images), probability).tolist()
    return [transform(image) if place in chosen else image for place, image in enumerate(images)]


def perspective_on_pil(images: Pictures) -> Pictures:
    chosen = ops.draw_hits(len(images), dataset.PERSPECTIVE_P).tolist()
    start, images = ops.image_corners().tolist(), list(images)
    for place, end in zip(chosen, ops.draw_perspective_corners(len(chosen)).tolist(), strict=True):
        images[place] = functional.perspective(images[place], start, end, InterpolationMode.BICUBIC, 0)
    return images


def rotation_on_pil(images: Pictures) -> Pictures:
    angles = ops.draw_angles(len(images)).tolist()
    return [functional.rotate(*pair) for pair in zip(images, angles, strict=True)]


ON_PIL: dict[str, Callable[[Pictures], Pictures]] = {
    "RandomCrop": crop_on_pil,
    "CenterCrop": lambda images: [CenterCrop(224)(image) for image in images],
    "RandomHorizontalFlip": lambda i: some_on_pil(i, dataset.HORIZONTAL_FLIP_P, functional.hflip),
    "RandomGrayscale": lambda i: some_on_pil(
        i, dataset.GRAYSCALE_P, lambda image: functional.rgb_to_grayscale(image, 3)
    ),
    "RandomPerspective": perspective_on_pil,
    "RandomRotation": rotation_on_pil,
    "RandomVerticalFlip": lambda i: some_on_pil(i, dataset.VERTICAL_FLIP_P, functional.vflip),
}


def reference_steps(augment: str) -> list[str]:
    """The reference's own transforms between Resize and ToTensor, by name."""
    names = [type(step).__name__ for step in train_transform(RunConfig(augment=augment)).transforms]  # type: ignore[attr-defined]
    return names[1:-2]


@pytest.mark.parametrize("augment", ["none", "crop", "perspective", "combined"])
def test_steps_are_those_of_the_reference_in_order(augment: str) -> None:
    crop, *others = reference_steps(augment)
    assert pipeline.crops_at_random(augment) == (crop == "RandomCrop")
    assert pipeline.AUGMENTATIONS[augment].steps == tuple(REFERENCE[name] for name in others)


def test_parameters_are_those_of_the_reference() -> None:
    steps = {
        type(s).__name__: s
        for a in ("perspective", "crop")
        for s in train_transform(RunConfig(augment=a)).transforms  # type: ignore[attr-defined]
    }
    assert steps["RandomCrop"].size == (dataset.SIDE, dataset.SIDE)
    assert steps["RandomHorizontalFlip"].p == dataset.HORIZONTAL_FLIP_P
    assert steps["RandomVerticalFlip"].p == dataset.VERTICAL_FLIP_P
    assert steps["RandomGrayscale"].p == dataset.GRAYSCALE_P
    assert steps["RandomPerspective"].p == dataset.PERSPECTIVE_P
    assert steps["RandomPerspective"].distortion_scale == dataset.DISTORTION
    assert steps["RandomRotation"].degrees == [-dataset.DEGREES, dataset.DEGREES]


@pytest.mark.parametrize("augment", ["crop", "perspective", "combined"])
def test_pixels_are_those_of_the_reference(
    photographs: Pictures,
    pack: Callable[[Pictures], PixelBuffer],
    stack: Callable[[Pictures], Tensor],
    augment: str,
) -> None:
    torch.manual_seed(0)
    expected = photographs * 2
    for name in reference_steps(augment):
        expected = ON_PIL[name](expected)
    torch.manual_seed(0)
    samples = torch.arange(len(photographs)).repeat(2)
    if pipeline.crops_at_random(augment):
        images = pipeline.random_crop(pack(photographs), samples)
    else:
        images = stack([CenterCrop(224)(image) for image in photographs * 2])
    assert torch.equal(pipeline.distort(augment, images), stack(expected))


@pytest.mark.parametrize("augment", ["none", "crop", "perspective", "combined"])
def test_distort_takes_a_batch_of_one_and_an_empty_one(
    generated: Pictures, stack: Callable[[Pictures], Tensor], augment: str
) -> None:
    for count in (0, 1):
        torch.manual_seed(count)
        images = pipeline.distort(augment, stack(generated)[:count].clone())
        assert images.shape == (count, 224, 224, 3)
        assert images.dtype == torch.uint8


def test_distort_without_augmentation_changes_nothing(
    generated: Pictures, stack: Callable[[Pictures], Tensor]
) -> None:
    assert torch.equal(pipeline.distort("none", stack(generated)), stack(generated))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("augment", ["none", "crop", "perspective", "combined"])
def test_cuda_gives_the_same_pixels_without_waiting(
    generated: Pictures, pack: Callable[[Pictures], PixelBuffer], augment: str
) -> None:
    packed = pack(generated)
    there = PixelBuffer(packed.pixels.cuda(), packed.offsets, packed.heights, packed.widths)
    samples = torch.arange(len(generated)).repeat(20)
    torch.manual_seed(0)
    here = pipeline.distort(augment, pipeline.random_crop(packed, samples))
    torch.manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        images = pipeline.distort(augment, pipeline.random_crop(there, samples))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(images.cpu(), here)
