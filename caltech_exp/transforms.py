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

Transform = Callable[[Any], Any]

TEMPLATE_STATISTICS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and standard deviation per channel of the course template."""
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Those of ImageNet, which torchvision's pretrained weights expect (design, The report's protocol)."""


def eval_transform(pretrained: bool) -> Transform:
    """Validation and test: resize the shorter side to 256, crop the middle 224 x 224, normalise."""
    return _compose([Resize(256), CenterCrop(224), *_to_input(pretrained)])


def train_transform(augment: str, pretrained: bool) -> Transform:
    """Training: as for evaluation, with the random transforms of the report's section 3.

    none         nothing random
    crop         RandomCrop in place of CenterCrop, horizontal flip, grayscale (Figure 17)
    perspective  RandomPerspective, RandomRotation, vertical flip (Figure 18)
    combined     all of both but the vertical flip (Figure 19)
    """
    random_crop = RandomCrop(224, pad_if_needed=True, padding_mode="edge")
    flip_gray = [RandomHorizontalFlip(p=0.5), RandomGrayscale(p=0.1)]
    distort = [
        RandomPerspective(distortion_scale=0.5, p=0.5, interpolation=InterpolationMode.BICUBIC),
        RandomRotation(30),
    ]
    steps = {
        "none": [CenterCrop(224)],
        "crop": [random_crop, *flip_gray],
        "perspective": [CenterCrop(224), *distort, RandomVerticalFlip(p=0.5)],
        "combined": [random_crop, *flip_gray, *distort],
    }[augment]
    return _compose([Resize(256), *steps, *_to_input(pretrained)])


def _to_input(pretrained: bool) -> list[Transform]:
    mean, std = IMAGENET_STATISTICS if pretrained else TEMPLATE_STATISTICS
    return [ToTensor(), Normalize(mean, std)]


def _compose(steps: list[Transform]) -> Transform:
    composed: Transform = Compose(steps)
    return composed
