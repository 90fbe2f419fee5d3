"""The pixels that the networks get, for images of all shapes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import IMAGENET_STATISTICS, Caltech, eval_transform, statistics, train_transform
from caltech_exp.data.splits import evenly, read_data_set


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("augment", ["none", "crop", "perspective", "combined"])
@pytest.mark.parametrize("size", [(300, 200), (80, 400), (224, 224), (20, 20)])
def test_every_transform_gives_3_224_224(augment: str, size: tuple[int, int]) -> None:
    tensor = train_transform(RunConfig(augment=augment))(picture(*size))
    assert tensor.shape == (3, 224, 224)
    assert tensor.dtype == torch.float32
    assert tensor.min() >= -1
    assert tensor.max() <= 1


def test_eval_transform_equals_crop_and_normalisation_by_hand() -> None:
    image = picture(320, 256)  # the shorter side is 256 already: nothing to resize
    pixels = np.asarray(image)[16:240, 48:272].astype(np.float32).transpose(2, 0, 1) / 255
    assert np.allclose(eval_transform(RunConfig())(image).numpy(), (pixels - 0.5) / 0.5, atol=1e-6)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in IMAGENET_STATISTICS)
    assert np.allclose(
        eval_transform(RunConfig(weights="imagenet"))(image).numpy(), (pixels - mean) / std, atol=1e-5
    )


def test_imagenet_statistics_are_those_of_pretrained_weights() -> None:
    black = eval_transform(RunConfig(weights="imagenet"))(Image.new("RGB", (256, 256)))
    assert black[:, 0, 0].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    white = eval_transform(RunConfig(weights="imagenet"))(Image.new("RGB", (256, 256), "white"))
    assert white[:, 0, 0].tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225])


def test_train_transform_without_augmentation_is_eval_transform() -> None:
    image = picture(300, 200)
    assert torch.equal(train_transform(RunConfig())(image), eval_transform(RunConfig())(image))


def names(augment: str) -> list[str]:
    return [type(step).__name__ for step in train_transform(RunConfig(augment=augment)).transforms]  # type: ignore[attr-defined]


def test_augmentations_are_those_of_the_report() -> None:
    to_input = ["ToTensor", "Normalize"]
    crop = ["RandomCrop", "RandomHorizontalFlip", "RandomGrayscale"]
    distort = ["RandomPerspective", "RandomRotation"]
    assert names("none") == ["Resize", "CenterCrop", *to_input]
    assert names("crop") == ["Resize", *crop, *to_input]
    assert names("perspective") == ["Resize", "CenterCrop", *distort, "RandomVerticalFlip", *to_input]
    assert names("combined") == ["Resize", *crop, *distort, *to_input]


def test_augmentation_parameters_are_those_of_the_report() -> None:
    steps = {
        type(s).__name__: s
        for a in ("perspective", "crop")
        for s in train_transform(RunConfig(augment=a)).transforms  # type: ignore[attr-defined]
    }
    assert (steps["RandomCrop"].size, steps["RandomCrop"].pad_if_needed) == ((224, 224), True)
    assert steps["RandomCrop"].padding_mode == "edge"
    assert steps["RandomHorizontalFlip"].p == steps["RandomVerticalFlip"].p == 0.5
    assert steps["RandomGrayscale"].p == 0.1
    assert (steps["RandomPerspective"].distortion_scale, steps["RandomPerspective"].p) == (0.5, 0.5)
    assert steps["RandomPerspective"].interpolation.value == "bicubic"
    assert steps["RandomRotation"].degrees == [-30.0, 30.0]


def test_statistics_of_the_data_normalise_the_training_images(stand_in: Path) -> None:
    data, config = read_data_set(stand_in), RunConfig(normalization="data", max_images=12)
    samples = evenly(data.train, 12)
    images = Caltech(data, "train", samples, eval_transform(config, data))
    pixels = torch.stack([images[number][0] for number in range(12)])
    assert torch.allclose(pixels.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(pixels.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4)
    assert statistics(config, data) != statistics(config.but(max_images=4), data)
    with pytest.raises(ValueError, match="without a data set"):
        statistics(config)
