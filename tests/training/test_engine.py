"""The training images of an epoch, on the classes of the real data set."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.training.engine import training_indices, training_sampler
from tests.tools.engines import build_setup


@pytest.fixture(scope="module")
def real(caltech101: Path) -> DataSet:
    return read_data_set(caltech101)


def labels_of(data: DataSet, config: RunConfig) -> list[int]:
    return [data.train[index].label for index in training_indices(data.train, config)]


def test_all_images_train_by_default(real: DataSet) -> None:
    assert training_indices(real.train, RunConfig()) == list(range(2892))


def test_max_per_class_cuts_large_classes_only(real: DataSet) -> None:
    before = Counter(labels_of(real, RunConfig()))
    after = Counter(labels_of(real, RunConfig(max_per_class=20)))
    assert max(before.values()) == 267  # airplanes
    assert after == {label: min(count, 20) for label, count in before.items()}
    chosen = training_indices(real.train, RunConfig(max_per_class=20))
    assert chosen == sorted(set(chosen))


def test_balanced_sampling_draws_every_class_equally_often(real: DataSet) -> None:
    config = RunConfig(sampling="balanced")
    labels = labels_of(real, config)
    torch.manual_seed(0)
    epochs = [[labels[index] for index in training_sampler(labels, config)] for _ in range(20)]
    assert {len(epoch) for epoch in epochs} == {2892}
    drawn = Counter(label for epoch in epochs for label in epoch)
    # 20 epochs x 2,892 images / 101 classes = 573 a class, with a standard deviation of 23.8.
    assert min(drawn.values()) > 573 - 5 * 24
    assert max(drawn.values()) < 573 + 5 * 24


@pytest.mark.parametrize(
    "changes",
    [{"sampling": "balanced"}, {"max_per_class": 2}, {"sampling": "balanced", "max_per_class": 2}],
    ids=str,
)
def test_engines_show_the_same_images_in_the_same_order(
    changes: dict[str, object], real: DataSet, packs: PackStore
) -> None:
    config = RunConfig(model="resnet18", precision="fp32", batch_size=8, max_images=64, workers=0).but(**changes)
    ours = build_setup(config, real, packs).train
    drawn = [batch for _ in range(2) for batch in ours.epoch()]
    theirs = build_setup(config.but(engine="reference"), real, packs).train
    expected = [batch for _ in range(2) for batch in theirs.epoch()]
    assert ours.images == theirs.images
    assert len(drawn) == 2 * (ours.images // 8) > 0
    for (inputs, labels), (images, classes) in zip(drawn, expected, strict=True):
        assert torch.equal(inputs, images)
        assert torch.equal(labels, classes)


def test_default_sampling_leaves_ids_unchanged() -> None:
    assert RunConfig(sampling="shuffle", max_per_class=0).id == "ffaa4cfdb4"
