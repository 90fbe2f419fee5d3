"""Images for training and evaluation: PIL transforms, and the Dataset that applies them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import VisionDataset
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

from caltech_exp.config import RunConfig
from caltech_exp.data.splits import IMAGES, DataSet, Sample, damaged_image

SIDE = 224
"""Height and width in pixels of the networks' input."""
HORIZONTAL_FLIP_P = 0.5
VERTICAL_FLIP_P = 0.5
GRAYSCALE_P = 0.1
PERSPECTIVE_P = 0.5
DISTORTION = 0.5
"""RandomPerspective's distortion_scale: each corner moves inwards by at most this share of half a side."""
DEGREES = 30.0
"""RandomRotation turns by at most this angle either way."""


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


class Caltech(VisionDataset):  # type: ignore[misc]
    """(transformed image, label) for each sample of a split; images are decoded anew at every access.

    Written after the course template's dataset class (report, Data preparation). Raises UserError that names
    the image, its split file and line if one cannot be decoded.
    """

    def __init__(
        self,
        data: DataSet,
        split: str,
        samples: tuple[Sample, ...],
        transform: Callable[[Image.Image], Any],
    ) -> None:
        super().__init__(str(data.root), transform=transform)
        self.data = data
        self.split = split
        self.samples = samples

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = self.samples[index]
        image = self.load(sample)
        return self.transform(image), sample.label

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, sample: Sample) -> Image.Image:
        """The decoded image, RGB."""
        try:
            with (Path(self.root) / IMAGES / sample.path).open("rb") as file, Image.open(file) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise damaged_image(self.data, sample, self.split, error) from None
