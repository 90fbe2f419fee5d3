"""From a decoded image to the network's input: 3 x 224 x 224, float32, normalised."""

from collections.abc import Callable
from typing import Any

from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    ToTensor,
)

from caltech_exp.augment.parameters import (
    DEGREES,
    DISTORTION,
    GRAYSCALE_P,
    HORIZONTAL_FLIP_P,
    PERSPECTIVE_P,
    SIDE,
    VERTICAL_FLIP_P,
)
from caltech_exp.config import RunConfig

Transform = Callable[[Any], Any]

TEMPLATE_STATISTICS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation per channel of the course template."""
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Those of ImageNet, which torchvision's pretrained weights expect (design, The report's protocol)."""


Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


def statistics(config: RunConfig) -> Statistics:
    """Mean and standard deviation per channel that inputs are normalised with."""
    imagenet = config.pretrained if config.normalization == "weights" else config.normalization == "imagenet"
    return IMAGENET_STATISTICS if imagenet else TEMPLATE_STATISTICS


def resized(pixels: int) -> list[Transform]:
    """Resize of the shorter side, bilinear; nothing for 0."""
    return [Resize(pixels)] if pixels else []


def eval_transform(config: RunConfig) -> Transform:
    """Validation and test: resize the shorter side, crop the middle 224 x 224 (padded in black), normalise."""
    return _compose([*resized(config.resize), CenterCrop(SIDE), *_to_input(config)])


def train_transform(config: RunConfig) -> Transform:
    """Training: as for evaluation, with the random transforms of the report's section 3, by `augment`.

    none         nothing random
    crop         RandomCrop in place of CenterCrop, horizontal flip, grayscale (Figure 17)
    perspective  RandomPerspective, RandomRotation, vertical flip (Figure 18)
    combined     all of both but the vertical flip (Figure 19)
    """
    random_crop = RandomCrop(SIDE, pad_if_needed=True, padding_mode="edge")
    flip_gray = [RandomHorizontalFlip(HORIZONTAL_FLIP_P), RandomGrayscale(GRAYSCALE_P)]
    distort = [
        RandomPerspective(DISTORTION, PERSPECTIVE_P, interpolation=InterpolationMode.BICUBIC),
        RandomRotation(DEGREES),
    ]
    steps = {
        "none": [CenterCrop(SIDE)],
        "crop": [random_crop, *flip_gray],
        "perspective": [CenterCrop(SIDE), *distort, RandomVerticalFlip(VERTICAL_FLIP_P)],
        "combined": [random_crop, *flip_gray, *distort],
    }[config.augment]
    return _compose([*resized(config.resize), *steps, *_to_input(config)])


def _to_input(config: RunConfig) -> list[Transform]:
    return [ToTensor(), Normalize(*statistics(config))]


def _compose(steps: list[Transform]) -> Transform:
    composed: Transform = Compose(steps)
    return composed
