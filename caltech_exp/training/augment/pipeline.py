"""The report's augmentations: which operations, in which order, on parameters drawn for the batch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from caltech_exp.data import dataset
from caltech_exp.training.augment import ops
from caltech_exp.training.augment.geometry import distort_perspective, rotate
from caltech_exp.training.augment.ops import PixelBuffer, crop, flip_horizontally, flip_vertically, grayscale

Step = Callable[[Tensor], Tensor]
"""Changes a batch, uint8 [n, SIDE, SIDE, 3], in place and returns it; draws its parameters."""


def horizontal_flip(images: Tensor) -> Tensor:
    """RandomHorizontalFlip."""
    return flip_horizontally(images, ops.chosen(len(images), dataset.HORIZONTAL_FLIP_P))


def gray(images: Tensor) -> Tensor:
    """RandomGrayscale."""
    return grayscale(images, ops.chosen(len(images), dataset.GRAYSCALE_P))


def perspective(images: Tensor) -> Tensor:
    """RandomPerspective, bicubic."""
    chosen = ops.chosen(len(images), dataset.PERSPECTIVE_P)
    return distort_perspective(images, chosen, ops.perspective_corners(len(chosen)))


def rotation(images: Tensor) -> Tensor:
    """RandomRotation, nearest pixel."""
    return rotate(images, ops.angles(len(images)))


def vertical_flip(images: Tensor) -> Tensor:
    """RandomVerticalFlip."""
    return flip_vertically(images, ops.chosen(len(images), dataset.VERTICAL_FLIP_P))


@dataclass(frozen=True)
class Augmentation:
    """Where the crop is taken, at random or in the middle, and what follows it."""

    random_crop: bool
    steps: tuple[Step, ...]


AUGMENTATIONS = {
    "none": Augmentation(random_crop=False, steps=()),
    "crop": Augmentation(random_crop=True, steps=(horizontal_flip, gray)),
    "perspective": Augmentation(random_crop=False, steps=(perspective, rotation, vertical_flip)),
    "combined": Augmentation(random_crop=True, steps=(horizontal_flip, gray, perspective, rotation)),
}
"""By the name of the `augment` setting (report, section 3, Figures 17 to 19)."""


def crops_at_random(augment: str) -> bool:
    """Whether a batch comes from random_crop; otherwise from the middle of the images."""
    return AUGMENTATIONS[augment].random_crop


def random_crop(packed: PixelBuffer, samples: Tensor) -> Tensor:
    """A random crop of each sample: uint8 [n, SIDE, SIDE, 3] on the store's device (RandomCrop, edge padding).

    samples: int64 [n] on the CPU, which images of the store.
    """
    top, left = ops.crop_corners(packed.heights[samples], packed.widths[samples])
    return crop(packed, samples, top, left)


def distort(augment: str, images: Tensor) -> Tensor:
    """What the augmentation does after the crop, on uint8 [n, SIDE, SIDE, 3], in place; returns the batch."""
    for step in AUGMENTATIONS[augment].steps:
        images = step(images)
    return images
