"""The training loop on real parts: the stand-in's JPEGs, real networks, a few steps."""

import math
from pathlib import Path

import pytest
import torch

from caltech_exp.config import RunConfig
from caltech_exp.errors import UserError
from caltech_exp.models import build
from caltech_exp.splits import IMAGES, DataSet, read_data_set
from caltech_exp.train import Trained, evaluate, make_loaders, set_seed, train
from caltech_exp.transforms import eval_transform

CPU = torch.device("cpu")
SHORT = RunConfig(model="resnet18", epochs=3, step_size=2, batch_size=8, max_images=20, workers=0, lr=0.01)


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture(scope="module")
def trained(data: DataSet) -> Trained:
    return train(SHORT, 0, data, CPU, lambda _epoch, _rate: None)


def test_history_has_every_epoch_and_the_step_down(trained: Trained) -> None:
    assert [epoch.epoch for epoch in trained.epochs] == [1, 2, 3]
    assert [epoch.lr for epoch in trained.epochs] == pytest.approx([0.01, 0.01, 0.001])
    assert trained.first_loss == pytest.approx(math.log(102), abs=0.5)
    assert all(epoch.train_loss and epoch.val_loss and epoch.seconds > 0 for epoch in trained.epochs)
    assert (trained.train_images, trained.val_images, trained.test_images) == (20, 20, 20)
    assert trained.test_accuracy is not None
    assert trained.images_per_second > 0
    assert trained.peak_memory_bytes > 100 * 2**20
    assert not trained.diverged


def test_same_seed_same_result_other_seed_another(trained: Trained, data: DataSet) -> None:
    losses = [epoch.train_loss for epoch in trained.epochs]
    again = train(SHORT, 0, data, CPU, lambda _epoch, _rate: None)
    other = train(SHORT, 1, data, CPU, lambda _epoch, _rate: None)
    assert [epoch.train_loss for epoch in again.epochs] == losses
    assert [epoch.train_loss for epoch in other.epochs] != losses


def test_it_learns(data: DataSet) -> None:
    config = SHORT.but(epochs=8, step_size=8, max_images=8, lr=0.02)
    losses = [epoch.train_loss for epoch in train(config, 0, data, CPU, lambda _e, _r: None).epochs]
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < 0.5 * losses[0]


def test_a_run_that_diverges_stops_and_says_so(data: DataSet) -> None:
    trained = train(SHORT.but(lr=1e20), 0, data, CPU, lambda _epoch, _rate: None)
    assert trained.diverged
    assert len(trained.epochs) == 1
    assert trained.epochs[0].train_loss is None
    assert trained.test_accuracy is None


def test_progress_is_told_before_and_after_every_epoch(data: DataSet) -> None:
    told: list[tuple[int, float | None]] = []
    train(SHORT.but(epochs=2), 0, data, CPU, lambda epoch, rate: told.append((epoch, rate)))
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    assert told[0][1] is None
    assert all(rate for _, rate in told[1:])


def test_training_drops_the_incomplete_batch_and_shuffles(data: DataSet) -> None:
    set_seed(0)
    loaders = make_loaders(SHORT, data, CPU)
    first, second = (torch.cat([labels for _, labels in loaders.train]) for _ in range(2))
    assert len(first) == 16
    assert not torch.equal(first, second)
    assert sum(len(labels) for _, labels in loaders.val) == 20


def test_evaluation_counts_every_image_once(data: DataSet) -> None:
    set_seed(0)
    net = build(SHORT).eval()
    loader = make_loaders(SHORT.but(batch_size=7, max_images=10), data, CPU).test
    images = torch.cat([images for images, _ in loader])
    labels = torch.cat([labels for _, labels in loader])
    with torch.no_grad():
        outputs = net(images)
    loss, accuracy = evaluate(net, loader, CPU)
    assert loss == pytest.approx(torch.nn.functional.cross_entropy(outputs, labels).item(), rel=1e-5)
    assert accuracy == (outputs.argmax(1) == labels).double().mean().item()


def test_frozen_layers_stay_as_they_were(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = []

    def keep(config: RunConfig) -> torch.nn.Module:
        net = build(config)
        before = {name: value.clone() for name, value in net.named_parameters()}
        nets.append((net, before))
        return net

    monkeypatch.setattr("caltech_exp.train.build", keep)
    train(SHORT.but(freeze="conv", epochs=1), 0, data, CPU, lambda _e, _r: None)
    ((net, before),) = nets
    changed = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_damaged_after_submission_is_named(data: DataSet, workers: int, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(data.root, tmp_path / "data"))
    broken = read_data_set(folder)
    for sample in broken.train:
        (folder / IMAGES / sample.path).write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UserError, match=r"damaged image .*\(train.txt line \d+\)"):
        train(SHORT.but(workers=workers), 0, broken, CPU, lambda _e, _r: None)


def test_pixels_of_a_batch_are_the_transformed_files(data: DataSet) -> None:
    from PIL import Image

    images, labels = next(iter(make_loaders(SHORT, data, CPU).val))
    sample = data.val[0]
    with Image.open(data.root / IMAGES / sample.path) as image:
        expected = eval_transform(pretrained=False)(image.convert("RGB"))
    assert torch.equal(images[0], expected)
    assert labels[0] == sample.label
