"""The report's augmentations: which transforms, in which order, with parameters drawn for the batch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from caltech_exp.data import dataset
from caltech_exp.training.augment import ops
from caltech_exp.training.augment.geometry import distort_perspective, rotate
from caltech_exp.training.augment.ops import PixelBuffer, crop, flip_horizontally, flip_vertically, grayscale

Step = Callable[[Tensor], Tensor]
"""Draws its parameters, changes a batch, uint8 [n, SIDE, SIDE, 3], in place and returns it."""


def random_horizontal_flip(images: Tensor) -> Tensor:
    return flip_horizontally(images, ops.draw_hits(len(images), dataset.HORIZONTAL_FLIP_P))


def random_grayscale(images: Tensor) -> Tensor:
    return grayscale(images, ops.draw_hits(len(images), dataset.GRAYSCALE_P))


def random_perspective(images: Tensor) -> Tensor:
    hits = ops.draw_hits(len(images), dataset.PERSPECTIVE_P)
    return distort_perspective(images, hits, ops.draw_perspective_corners(len(hits)))


def random_rotation(images: Tensor) -> Tensor:
    return rotate(images, ops.draw_angles(len(images)))


def random_vertical_flip(images: Tensor) -> Tensor:
    return flip_vertically(images, ops.draw_hits(len(images), dataset.VERTICAL_FLIP_P))


@dataclass(frozen=True)
class Augmentation:
    """Whether images are cropped at random or at their center, and the steps after the crop."""

    random_crop: bool
    steps: tuple[Step, ...]


AUGMENTATIONS = {  # by the setting `augment` (report, section 3, Figures 17 to 19)
    "none": Augmentation(random_crop=False, steps=()),
    "crop": Augmentation(random_crop=True, steps=(random_horizontal_flip, random_grayscale)),
    "perspective": Augmentation(
        random_crop=False, steps=(random_perspective, random_rotation, random_vertical_flip)
    ),
    "combined": Augmentation(
        random_crop=True, steps=(random_horizontal_flip, random_grayscale, random_perspective, random_rotation)
    ),
}


def crops_at_random(augment: str) -> bool:
    return AUGMENTATIONS[augment].random_crop


def random_crop(buffer: PixelBuffer, samples: Tensor) -> Tensor:
    """Crop the samples (int64 [n], on the CPU) at random: uint8 [n, SIDE, SIDE, 3] on the buffer's device."""
    top, left = ops.draw_crop_corners(buffer.heights[samples], buffer.widths[samples])
    return crop(buffer, samples, top, left)


def distort(augment: str, images: Tensor) -> Tensor:
    """Apply the steps after the crop to uint8 [n, SIDE, SIDE, 3], in place; returns the batch."""
    for step in AUGMENTATIONS[augment].steps:
        images = step(images)
    return images
