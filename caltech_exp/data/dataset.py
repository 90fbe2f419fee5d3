"""Images for training and evaluation: the PIL transforms and the Dataset that applies them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
from caltech_exp.data.splits import DataSet, Sample, evenly, opened_image
from caltech_exp.files import in_threads

SIDE = 224  # pixels, height and width of the networks' input
HORIZONTAL_FLIP_P = 0.5
VERTICAL_FLIP_P = 0.5
GRAYSCALE_P = 0.1
PERSPECTIVE_P = 0.5
DISTORTION = 0.5  # RandomPerspective moves each corner inwards by at most this share of half a side
DEGREES = 30.0  # RandomRotation turns by at most this angle either way

Transform = Callable[[Any], Any]
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
TEMPLATE_STATISTICS: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def statistics(config: RunConfig, data: DataSet | None = None) -> Statistics:
    """Mean and standard deviation per channel, by which inputs are normalised; normalization=data needs `data`."""
    if config.normalization == "data":
        if data is None:
            raise ValueError("normalization=data without a data set")
        return channel_statistics(data, config.max_images, config.resize)
    return IMAGENET_STATISTICS if config.input_statistics == "imagenet" else TEMPLATE_STATISTICS


@lru_cache(maxsize=2)
def channel_statistics(data: DataSet, max_images: int, resize: int) -> Statistics:
    """Those of all pixels of the training images, as evaluation crops them. Sums of whole numbers: exact."""
    crop = Compose([*resize_steps(resize), CenterCrop(SIDE)])
    samples = evenly(data.train, max_images)
    images = Caltech(data, "train", samples, crop)

    def sums(sample: Sample) -> NDArray[np.int64]:
        pixels = np.asarray(crop(images.load(sample)), dtype=np.int64).reshape(-1, 3)
        return np.stack([pixels.sum(axis=0), (pixels**2).sum(axis=0)])

    total, squares = sum(in_threads(sums, samples), np.zeros((2, 3), dtype=np.int64))
    count = len(samples) * SIDE**2
    std = np.sqrt(squares / count - (total / count) ** 2).clip(min=1.0)  # a channel may be constant
    red, green, blue = zip((total / count / 255).tolist(), (std / 255).tolist(), strict=True)
    return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])


def resize_steps(pixels: int) -> list[Transform]:
    """Bilinear resize of the shorter side; nothing for 0."""
    return [Resize(pixels)] if pixels else []


def eval_transform(config: RunConfig, data: DataSet | None = None) -> Transform:
    """Validation and test: resize, crop the middle 224 x 224 (padded in black), normalise."""
    return _transform(config, [CenterCrop(SIDE)], data)


def train_transform(config: RunConfig, data: DataSet | None = None) -> Transform:
    """Training: as evaluation, but with the random transforms of the report's section 3 that `augment` names.

    none         nothing random
    crop         RandomCrop instead of CenterCrop, horizontal flip, grayscale (Figure 17)
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
    }
    return _transform(config, steps[config.augment], data)


def _transform(config: RunConfig, steps: list[Transform], data: DataSet | None) -> Transform:
    transform: Transform = Compose(
        [*resize_steps(config.resize), *steps, ToTensor(), Normalize(*statistics(config, data))]
    )
    return transform


class Caltech(VisionDataset):  # type: ignore[misc]
    """Transformed image and label of each sample of a split; every access decodes the image again.

    It follows the course template's dataset class (report, Data preparation).
    """

    def __init__(self, data: DataSet, split: str, samples: tuple[Sample, ...], transform: Transform) -> None:
        super().__init__(str(data.root), transform=transform)
        self.data = data
        self.split = split
        self.samples = samples

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = self.samples[index]
        return self.transform(self.load(sample)), sample.label

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, sample: Sample) -> Image.Image:
        """The decoded image, RGB. Raises UserError that names the image, its split file and line."""
        try:
            with opened_image(self.data.image_path(sample)) as image:
                return image.convert("RGB")
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise anything
            raise self.data.image_error(sample, self.split, error) from None
