"""Settings for what the report does not state: resize, normalization, the last incomplete batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import eval_transform
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from tests.tools.engines import build_setup

SMALL = RunConfig(model="resnet18", precision="fp32", batch_size=8, max_images=20, workers=0, epochs=1)


@pytest.fixture(scope="module")
def real(caltech101: Path) -> DataSet:
    return read_data_set(caltech101)


@pytest.mark.parametrize(
    "changes",
    [
        {"resize": 0},
        {"resize": 300},
        {"resize": 100},  # smaller than the crop: padded
        {"normalization": "imagenet"},
        {"normalization": "data"},
        {"last_batch": "keep"},
        {"resize": 0, "normalization": "half", "last_batch": "keep", "sampling": "balanced"},
    ],
    ids=str,
)
def test_engines_see_the_same_pixels(changes: dict[str, object], real: DataSet, packs: PackStore) -> None:
    config = SMALL.but(**changes)
    ours, theirs = build_setup(config, real, packs), build_setup(config.but(engine="reference"), real, packs)
    if "resize" in changes or "normalization" in changes:
        (usual, _), *_ = build_setup(SMALL, real, packs).val.epoch()
        assert not torch.equal(next(ours.val.epoch())[0][:8], usual[:8])
    torch.manual_seed(0)
    drawn = list(ours.train.epoch())
    torch.manual_seed(0)
    expected = list(theirs.train.epoch())
    assert [len(labels) for _, labels in drawn] == ([8, 8, 4] if "last_batch" in changes else [8, 8])
    for (inputs, labels), (images, classes) in zip(drawn, expected, strict=True):
        assert torch.equal(inputs, images)
        assert torch.equal(labels, classes)
    for split in ("val", "test"):
        images, expected_images = (
            torch.cat([inputs for inputs, _ in getattr(setup, split).epoch()]) for setup in (ours, theirs)
        )
        assert torch.equal(images, expected_images)


def test_without_resize_images_are_padded_in_black_or_cut() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 300, 3), dtype=np.uint8)
    canvas = np.zeros((224, 224, 3), np.uint8)
    canvas[62:162] = pixels[:, 38:262]
    seen = eval_transform(RunConfig(resize=0))(Image.fromarray(pixels)).numpy()
    assert np.allclose(seen, (canvas.transpose(2, 0, 1) / 255 - 0.5) / 0.5, atol=1e-6)


def test_normalization_follows_the_weights() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    scratch, pretrained = RunConfig(), RunConfig(weights="imagenet")
    for by_weights, by_name in (
        (scratch, pretrained.but(normalization="half")),
        (pretrained, scratch.but(normalization="imagenet")),
    ):
        assert torch.equal(eval_transform(by_weights)(image), eval_transform(by_name)(image))


def test_settings_added_later_leave_ids_unchanged() -> None:
    assert RunConfig(resize=256, normalization="weights", last_batch="drop").id == "ffaa4cfdb4"


def test_batch_larger_than_the_training_set_is_kept(real: DataSet, packs: PackStore) -> None:
    setup = build_setup(SMALL.but(last_batch="keep", batch_size=64), real, packs)
    assert [len(labels) for _, labels in setup.train.epoch()] == [20]
