"""The training loop with either engine: the stand-in's JPEGs, a tiny network or a real one, a few steps."""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.config import NUM_CLASSES, RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import IMAGES, DataSet, Sample, read_data_set
from caltech_exp.models.initial_weights import InitialWeights
from caltech_exp.models.networks import build_with_weights
from caltech_exp.training.engine import Batch, Batches, TrainingSetup
from caltech_exp.training.fast import EVAL_BATCH
from caltech_exp.training.loop import Evaluation, TrainingResult, evaluate, train, train_step
from tests.tools.engines import CPU, PRECISION, TINY, build_setup

FAST = RunConfig(
    model=TINY, epochs=3, step_size=2, batch_size=8, max_images=20, workers=0, lr=0.01, precision=PRECISION
)
ENGINES = [pytest.param(FAST, id="fast"), pytest.param(FAST.but(engine="reference"), id="reference")]


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture(scope="module", params=ENGINES)
def short(request: pytest.FixtureRequest) -> RunConfig:
    """A short run with each engine: fast in bf16 if the CPU has it, reference in fp32."""
    config: RunConfig = request.param
    return config


def run(config: RunConfig, data: DataSet, packs: PackStore, seed: int = 0) -> TrainingResult:
    return train(config, seed, data, CPU, packs)


@pytest.fixture(scope="module")
def trained(short: RunConfig, data: DataSet, packs: PackStore) -> TrainingResult:
    return run(short, data, packs)


def test_precision_is_checked_before_training(
    short: RunConfig, data: DataSet, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(config: RunConfig, device: torch.device) -> None:
        raise UserError(f"{config.precision} on {device.type}")

    monkeypatch.setattr("caltech_exp.training.loop.require_fp32", refuse)
    with pytest.raises(UserError, match=f"{short.precision} on cpu"):
        run(short, data, packs)


def test_epochs_record_the_rate_and_its_step_down(trained: TrainingResult) -> None:
    assert [epoch.epoch for epoch in trained.epochs] == [1, 2, 3]
    assert [epoch.lr for epoch in trained.epochs] == pytest.approx([0.01, 0.01, 0.001])
    assert trained.first_loss == pytest.approx(math.log(102), abs=0.5)
    assert all(epoch.train_loss and epoch.val_loss and epoch.seconds > 0 for epoch in trained.epochs)
    assert (trained.data.train_images, trained.data.val_images, trained.data.test_images) == (20, 20, 20)
    assert trained.test_accuracy is not None
    assert trained.images_per_second > 0
    assert trained.peak_memory_bytes > 100 * 2**20
    assert not trained.diverged


def images_by_class(samples: Sequence[Sample]) -> list[int]:
    found = Counter(sample.label for sample in samples)
    return [found[label] for label in range(NUM_CLASSES)]


def test_numbers_are_of_their_own_split(short: RunConfig, data: DataSet, packs: PackStore) -> None:
    few = replace(data, train_val=data.train_val[:27], test=data.test[20:31])  # tested on other classes
    trained = run(short.but(max_images=0), few, packs)
    assert (trained.data.train_images, trained.data.val_images, trained.data.test_images) == (14, 13, 11)
    assert trained.val_confusion is not None
    assert trained.test_confusion is not None
    assert trained.val_confusion.sum(axis=1).tolist() == images_by_class(few.val)
    assert trained.test_confusion.sum(axis=1).tolist() == images_by_class(few.test)
    assert trained.epochs[-1].val_accuracy == trained.val_confusion.trace() / 13
    assert trained.test_accuracy == trained.test_confusion.trace() / 11


def test_optimizer_has_the_settings_of_the_run(short: RunConfig, data: DataSet, packs: PackStore) -> None:
    config = short.but(lr=0.3, momentum=0.5, weight_decay=0.25)
    (group,) = build_setup(config, data, packs).optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.5, 0.25)
    assert (group["nesterov"], group["dampening"]) == (False, 0)


def test_learning_rate_steps_down_by_gamma(short: RunConfig, data: DataSet, packs: PackStore) -> None:
    trained = run(short.but(gamma=0.5), data, packs)
    assert [epoch.lr for epoch in trained.epochs] == pytest.approx([0.01, 0.01, 0.005])


def test_train_loss_is_the_mean_over_the_steps(
    short: RunConfig, data: DataSet, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter((4.0, 2.0, 1.0, 0.5))

    def step(setup: TrainingSetup, batch: Batch) -> torch.Tensor:
        train_step(setup, batch)
        return torch.tensor(next(losses))

    monkeypatch.setattr("caltech_exp.training.loop.train_step", step)
    trained = run(short.but(epochs=2), data, packs)
    assert [epoch.train_loss for epoch in trained.epochs] == [3.0, 0.75]
    assert trained.first_loss == 4.0


def test_losses_are_computed_in_float32(trained: TrainingResult) -> None:
    for loss in (trained.first_loss, trained.test_loss):
        assert loss is not None
        assert torch.tensor(loss).bfloat16().item() != loss


def test_result_depends_on_the_seed_alone(
    short: RunConfig, trained: TrainingResult, data: DataSet, packs: PackStore
) -> None:
    losses = [(epoch.train_loss, epoch.val_loss) for epoch in trained.epochs]
    again = run(short, data, packs)
    other = run(short, data, packs, seed=1)
    assert [(epoch.train_loss, epoch.val_loss) for epoch in again.epochs] == losses
    assert again.test_loss == trained.test_loss
    assert [(epoch.train_loss, epoch.val_loss) for epoch in other.epochs] != losses


def test_train_loss_halves(short: RunConfig, data: DataSet, packs: PackStore) -> None:
    config = short.but(model="resnet18", epochs=8, step_size=8, max_images=8, lr=0.02)
    losses = [epoch.train_loss for epoch in run(config, data, packs).epochs]
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < 0.5 * losses[0]


def test_diverged_run_stops_after_the_epoch(short: RunConfig, data: DataSet, packs: PackStore) -> None:
    trained = run(short.but(lr=1e20), data, packs)
    assert trained.diverged
    assert len(trained.epochs) == 1
    assert trained.epochs[0].train_loss is None
    assert trained.test_accuracy is None


def test_infinite_validation_loss_is_divergence(
    short: RunConfig, data: DataSet, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(setup: TrainingSetup, batches: Batches, on_batch: Callable[[], None]) -> Evaluation:
        return replace(evaluate(setup, batches, on_batch), loss=math.inf)

    monkeypatch.setattr("caltech_exp.training.loop.evaluate", infinite)
    trained = run(short, data, packs)
    assert trained.diverged
    (epoch,) = trained.epochs
    assert epoch.train_loss is not None
    assert epoch.val_loss is None
    assert trained.test_accuracy is None


def test_on_epoch_is_called_before_the_first_epoch_and_after_each(
    short: RunConfig, data: DataSet, packs: PackStore
) -> None:
    calls: list[tuple[int, float | None]] = []
    config = short.but(epochs=2)
    train(config, 0, data, CPU, packs, on_epoch=lambda epochs, rate: calls.append((len(epochs), rate)))
    assert [epoch for epoch, _ in calls] == [0, 1, 2]
    assert calls[0][1] is None
    assert all(rate for _, rate in calls[1:])


def test_evaluate_counts_every_image_once(
    short: RunConfig, data: DataSet, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVAL_BATCH, "cpu", 7)
    setup = build_setup(short.but(precision="fp32", batch_size=7, max_images=10), data, packs)
    images = torch.cat([images for images, _ in setup.test.epoch()])
    labels = torch.cat([labels for _, labels in setup.test.epoch()])
    setup.net.eval()
    with torch.no_grad():
        outputs = setup.net(images)
    found = evaluate(setup, setup.test)
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(outputs, labels).item(), rel=1e-5)
    assert found.accuracy == (outputs.argmax(1) == labels).double().mean().item()
    assert found.confusion.sum() == len(labels)
    for label, predicted in zip(labels.tolist(), outputs.argmax(1).tolist(), strict=True):
        assert found.confusion[label, predicted] > 0


@pytest.mark.parametrize(
    ("model", "freeze", "trainable"),
    [("resnet18", "conv", "fc."), ("alexnet", "conv", "classifier."), ("alexnet", "fc", "features.")],
)
def test_frozen_layers_keep_their_weights(
    model: str,
    freeze: str,
    trainable: str,
    short: RunConfig,
    data: DataSet,
    packs: PackStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nets = []

    def keep(config: RunConfig) -> tuple[torch.nn.Module, InitialWeights | None]:
        net, initial = build_with_weights(config)
        before = {name: value.detach().clone() for name, value in net.named_parameters()}
        nets.append((net, before))
        return net, initial

    monkeypatch.setattr(f"caltech_exp.training.{short.engine}.build_with_weights", keep)
    run(short.but(model=model, freeze=freeze, epochs=1, max_images=8), data, packs)
    ((net, before),) = nets
    changed = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith(trainable)}


DAMAGED = [
    pytest.param(FAST, id="fast"),
    pytest.param(FAST.but(engine="reference"), id="reference"),
    pytest.param(FAST.but(engine="reference", workers=1), id="reference, in a worker"),
]


@pytest.mark.parametrize("config", DAMAGED)
def test_damaged_image_is_named(config: RunConfig, data: DataSet, packs: PackStore, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data.root, tmp_path / "data"))
    broken = read_data_set(folder)
    for sample in broken.train:
        (folder / IMAGES / sample.path).write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UserError, match=r"damaged image .*\(train.txt line \d+\)"):
        run(config, broken, packs)


@pytest.mark.parametrize("config", DAMAGED)
def test_removed_image_is_named(config: RunConfig, data: DataSet, packs: PackStore, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(data.root, tmp_path / "data"))
    broken = read_data_set(folder)
    for sample in broken.train:
        (folder / IMAGES / sample.path).unlink()
    with pytest.raises(UserError, match=r"damaged image .*\(train.txt line \d+\): .*No such file"):
        run(config, broken, packs)
