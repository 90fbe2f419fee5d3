"""Batches of packed images."""

from pathlib import Path

import pytest
import torch

from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.training.fast import DeviceImages, device_images, training_layout

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture(scope="module")
def images(data: DataSet, packs: PackStore) -> DeviceImages:
    return device_images(packs, split_contents(data, "train", 64, "center"), CPU)


def mapped_bytes(file: Path) -> int:
    """How much of the mapped file counts as this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.endswith(str(file)):
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))
    raise AssertionError(f"{file} is not mapped")


def test_labels_are_of_the_indexed_images(images: DeviceImages, data: DataSet) -> None:
    index = torch.tensor([63, 0, 7])
    chosen = [data.train[i * len(data.train) // 64].label for i in index.tolist()]
    assert images.labels_of(index).tolist() == chosen


def test_batch_holds_the_indexed_images_in_order(images: DeviceImages) -> None:
    batch = images.batch(torch.tensor([5, 2, 5]))
    assert batch.shape == (3, 224, 224, 3)
    assert torch.equal(batch[0], batch[2])
    assert torch.equal(batch[1], images.batch(torch.tensor([2]))[0])


@pytest.mark.parametrize("augment", ["none", "crop", "perspective", "combined"])
def test_augmentations_leave_the_pixels_of_the_pack(augment: str, data: DataSet, packs: PackStore) -> None:
    images = device_images(packs, split_contents(data, "train", 8, training_layout(augment)), CPU)
    before = images.buffer.pixels.clone()
    for _ in range(3):
        images.batch(torch.arange(8), augment)
    assert torch.equal(images.buffer.pixels, before)


@pytest.mark.parametrize("augment", ["none", "crop"])
def test_epoch_on_packs_uses_little_memory(augment: str, data: DataSet, packs: PackStore) -> None:
    images = device_images(packs, split_contents(data, "train", 64, training_layout(augment)), CPU)
    for index in torch.randperm(64).view(8, 8):
        images.batch(index, augment)
    # What the last batch touched, and what the kernel maps around it.
    assert mapped_bytes(images.pack.path) < images.buffer.pixels.numel() / 2
    images.buffer.pixels.sum()
    assert mapped_bytes(images.pack.path) > 0.9 * images.buffer.pixels.numel()
