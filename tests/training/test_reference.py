"""The reference engine's batches: the template's transforms, order and sizes."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import eval_transform
from caltech_exp.data.splits import IMAGES, DataSet, read_data_set
from caltech_exp.training.loop import set_seed
from caltech_exp.training.reference import loaders

CPU = torch.device("cpu")
CONFIG = RunConfig(engine="reference", model="resnet18", batch_size=8, max_images=20, workers=0)


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


def test_training_shuffles_and_drops_the_incomplete_batch(data: DataSet) -> None:
    set_seed(0)
    train, val, _ = loaders(CONFIG, data, CPU)
    first, second = (torch.cat([labels for _, labels in train.epoch()]) for _ in range(2))
    assert len(first) == 16
    assert not torch.equal(first, second)
    assert sum(len(labels) for _, labels in val.epoch()) == 20


def test_batch_holds_the_transformed_files(data: DataSet) -> None:
    _, val, _ = loaders(CONFIG, data, CPU)
    images, labels = next(val.epoch())
    sample = data.val[0]
    with Image.open(data.root / IMAGES / sample.path) as image:
        expected = eval_transform(RunConfig())(image.convert("RGB"))
    assert torch.equal(images[0], expected)
    assert labels[0] == sample.label


def test_batches_know_how_many_images_they_have(data: DataSet) -> None:
    assert [batches.images for batches in loaders(CONFIG.but(max_images=5), data, CPU)] == [5, 5, 5]
