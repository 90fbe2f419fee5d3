"""The fast engine against the reference: the same pixels in the same order, and the losses they lead to."""

from pathlib import Path

import pytest
import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.models.initial_weights import InitialWeights
from caltech_exp.models.networks import build_with_weights
from caltech_exp.training.fast import cached_features, evaluation_batch
from caltech_exp.training.loop import evaluate, train, train_step
from tests.tools.engines import CPU, PRECISION, TINY, build_setup, losses

GPU = torch.device("cuda")
FP32 = RunConfig(precision="fp32", model="resnet18", batch_size=16, max_images=64, workers=0, lr=5e-2)
ALEXNET = FP32.but(model="alexnet")
FROZEN = ALEXNET.but(freeze="conv", max_images=32)
FROZEN_RESNET = FROZEN.but(model="resnet18", frozen_batchnorm="eval", lr=1e-2)


@pytest.fixture(scope="module")
def real(caltech101: Path) -> DataSet:
    return read_data_set(caltech101)


@pytest.fixture(scope="module")
def generated(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture(params=["none", "pretrained"])
def config(request: pytest.FixtureRequest, stand_in_weights: Path) -> RunConfig:
    """From scratch with the template's statistics, and from weights with ImageNet's."""
    return FP32 if request.param == "none" else FP32.but(weights=str(stand_in_weights / "resnet18.pth"))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_equal_the_references(
    workers: int, config: RunConfig, real: DataSet, packs: PackStore
) -> None:
    ours = build_setup(config, real, packs)
    drawn = [batch for _ in range(2) for batch in ours.train.epoch()]
    theirs = build_setup(config.but(engine="reference", workers=workers), real, packs)
    expected = [batch for _ in range(2) for batch in theirs.train.epoch()]
    assert len(drawn) == 2 * 4
    for (inputs, labels), (images, classes) in zip(drawn, expected, strict=True):
        assert torch.equal(inputs, images)
        assert torch.equal(labels, classes)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_images_equal_the_references(
    split: str, config: RunConfig, real: DataSet, packs: PackStore
) -> None:
    ours = getattr(build_setup(config, real, packs), split)
    theirs = getattr(build_setup(config.but(engine="reference"), real, packs), split)
    assert ours.images == theirs.images == 64
    for part in (0, 1):
        assert torch.equal(*(torch.cat([batch[part] for batch in batches.epoch()]) for batches in (ours, theirs)))


def test_alexnet_in_fp32_has_the_references_losses(real: DataSet, packs: PackStore) -> None:
    # At higher learning rates the loss rises at times, which amplifies rounding.
    config = ALEXNET.but(lr=1e-2, batch_size=8)
    expected = losses(build_setup(config.but(engine="reference"), real, packs), 10)  # of two epochs
    assert losses(build_setup(config, real, packs), 10) == pytest.approx(expected, rel=1e-4)
    assert len(set(expected)) == 10


@pytest.mark.parametrize("config", [FP32, ALEXNET], ids=["resnet18", "alexnet"])
def test_losses_in_float64_equal_the_references(config: RunConfig, real: DataSet, packs: PackStore) -> None:
    # In float64, since batch normalization amplifies rounding: in fp32 the reference differs from itself on
    # another number of threads.
    small = config.but(batch_size=4)
    expected = losses(build_setup(small.but(engine="reference"), real, packs), 3, torch.float64)
    assert losses(build_setup(small, real, packs), 3, torch.float64) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("config", [FP32, ALEXNET], ids=["resnet18", "alexnet"])
def test_bf16_stays_near_fp32(config: RunConfig, generated: DataSet, packs: PackStore) -> None:
    short = config.but(lr=1e-3, batch_size=4)
    expected = losses(build_setup(short, generated, packs), 4)
    found = losses(build_setup(short.but(precision="bf16"), generated, packs), 4)
    # Batch normalization over four images amplifies rounding: 1.2 % after three steps with AMX.
    assert found[0] == pytest.approx(expected[0], rel=1e-2)
    assert found == pytest.approx(expected, rel=4e-2)
    assert found != expected


@pytest.mark.parametrize("augment", ["crop", "perspective", "combined"])
def test_augmented_run_depends_on_the_seed_alone(augment: str, generated: DataSet, packs: PackStore) -> None:
    config = FP32.but(model=TINY, augment=augment, precision=PRECISION, epochs=2, max_images=16, batch_size=8)
    first, again, other = (train(config, seed, generated, CPU, packs) for seed in (0, 0, 1))
    assert [epoch.train_loss for epoch in again.epochs] == [epoch.train_loss for epoch in first.epochs]
    assert again.test_loss == first.test_loss
    assert [epoch.train_loss for epoch in other.epochs] != [epoch.train_loss for epoch in first.epochs]


def test_epochs_are_augmented_differently(generated: DataSet, packs: PackStore) -> None:
    setup = build_setup(FP32.but(augment="crop", max_images=1, batch_size=1), generated, packs)
    (first, _), (second, _) = next(setup.train.epoch()), next(setup.train.epoch())
    assert not torch.equal(first, second)


def test_evaluation_is_never_augmented(generated: DataSet, packs: PackStore) -> None:
    plain, augmented = (
        next(build_setup(FP32.but(augment=augment), generated, packs).val.epoch())[0]
        for augment in ("none", "combined")
    )
    assert torch.equal(plain, augmented)


def test_features_of_a_frozen_alexnet_are_cached(generated: DataSet, packs: PackStore) -> None:
    setup = build_setup(FROZEN, generated, packs)
    assert isinstance(setup.net, nn.Sequential)
    assert isinstance(setup.net[0], nn.Dropout)
    for batches in (setup.train, setup.val):
        assert next(batches.epoch())[0].shape[1:] == (9216,)


def test_features_of_a_frozen_resnet_that_keeps_its_statistics_are_cached(
    generated: DataSet, packs: PackStore
) -> None:
    setup = build_setup(FROZEN_RESNET, generated, packs)
    assert isinstance(setup.net, nn.Linear)
    for batches in (setup.train, setup.val):
        assert next(batches.epoch())[0].shape[1:] == (512,)


@pytest.mark.parametrize(
    "config",
    [
        FROZEN.but(model="resnet18"),
        FROZEN.but(augment="crop"),
        FROZEN.but(freeze="fc"),
        FROZEN_RESNET.but(augment="crop"),
        FROZEN_RESNET.but(freeze="fc"),
    ],
    ids=["batch normalisation by the batch", "crop", "fc", "ResNet-18, crop", "ResNet-18, fc"],
)
def test_features_that_change_are_not_cached(config: RunConfig, generated: DataSet, packs: PackStore) -> None:
    setup = build_setup(config, generated, packs)
    assert next(setup.train.epoch())[0].shape[1:] == (3, 224, 224)


@pytest.mark.parametrize("config", [FROZEN, FROZEN_RESNET], ids=["alexnet", "resnet18"])
def test_cached_features_change_no_result(
    config: RunConfig, generated: DataSet, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = build_setup(config, generated, packs)
    found = losses(cached, 6)
    monkeypatch.setattr("caltech_exp.training.fast.can_cache_features", lambda _trunk, _config: False)
    uncached = build_setup(config, generated, packs)
    assert next(uncached.train.epoch())[0].shape[1:] == (3, 224, 224)
    uncached = build_setup(config, generated, packs)
    assert found == pytest.approx(losses(uncached, 6), rel=1e-5)
    for ours, theirs in ((cached.val, uncached.val), (cached.test, uncached.test)):
        first, second = evaluate(cached, ours), evaluate(uncached, theirs)
        assert first.loss == pytest.approx(second.loss, rel=1e-4)
        assert (first.confusion == second.confusion).all()


def test_runs_of_a_task_share_the_features_of_equal_frozen_layers(generated: DataSet, packs: PackStore) -> None:
    other = FROZEN_RESNET.but(lr=0.5)
    cached_features.cache_clear()
    alone = losses(build_setup(other, generated, packs), 4)
    cached_features.cache_clear()
    build_setup(FROZEN_RESNET, generated, packs)
    assert losses(build_setup(other, generated, packs), 4) == alone
    assert cached_features.cache_info()[:2] == (2, 2)  # training and validation images: found, computed
    build_setup(FROZEN_RESNET, generated, packs, seed=1)  # which draws other weights
    build_setup(FROZEN_RESNET.but(normalization="imagenet"), generated, packs)
    assert cached_features.cache_info()[:2] == (2, 6)


@pytest.mark.parametrize("precision", sorted({"fp32", PRECISION}))
@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_pooling_before_relu_changes_no_bit(
    model: str, precision: str, generated: DataSet, packs: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> tuple[list[float], dict[str, torch.Tensor], float]:
        setup = build_setup(FP32.but(model=model, precision=precision), generated, packs)
        return losses(setup, 3), setup.weights(), evaluate(setup, setup.val).loss

    first, weights, val_loss = trained()
    monkeypatch.setattr("caltech_exp.training.fast.pool_before_relu", lambda _net: None)
    expected, expected_weights, expected_val_loss = trained()
    assert (first, val_loss) == (expected, expected_val_loss)
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected_weights.items())


@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
@pytest.mark.parametrize(("freeze", "of_classifier"), [("conv", False), ("fc", True)])
def test_frozen_parameters_get_no_gradient(
    model: str,
    freeze: str,
    of_classifier: bool,
    generated: DataSet,
    packs: PackStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nets: list[nn.Module] = []

    def keep(config: RunConfig) -> tuple[nn.Module, InitialWeights | None]:
        net, initial = build_with_weights(config)
        nets.append(net)
        return net, initial

    monkeypatch.setattr("caltech_exp.training.fast.build_with_weights", keep)
    losses(build_setup(FP32.but(model=model, freeze=freeze, max_images=16), generated, packs), 1)
    (net,) = nets
    for name, parameter in net.named_parameters():
        frozen = name.startswith(("classifier.", "fc.")) == of_classifier
        assert (parameter.grad is None) == frozen, name


def test_gpu_and_cpu_have_the_same_first_loss(generated: DataSet, packs: PackStore, cuda: torch.device) -> None:
    here = losses(build_setup(FP32, generated, packs), 1)
    assert losses(build_setup(FP32, generated, packs, device=cuda), 1) == pytest.approx(here, rel=1e-4)


@pytest.mark.parametrize(
    ("batch_size", "device", "images"),
    [(16, CPU, 256), (256, CPU, 256), (16, GPU, 64), (200, GPU, 800), (256, GPU, 1024), (512, GPU, 1024)],
)
def test_evaluation_batch_is_larger_on_a_cpu_and_for_large_batches(
    batch_size: int, device: torch.device, images: int
) -> None:
    assert evaluation_batch(RunConfig(batch_size=batch_size), device) == images


@pytest.mark.parametrize("augment", ["none", "combined"])
@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_gpu_trains(model: str, augment: str, generated: DataSet, packs: PackStore, cuda: torch.device) -> None:
    config = FP32.but(model=model, augment=augment, precision="bf16", epochs=2, lr=1e-3)
    trained = train(config, 0, generated, cuda, packs)
    assert not trained.diverged
    assert trained.epochs[-1].train_loss == pytest.approx(4.6, abs=1)


@pytest.mark.parametrize("augment", ["none", "combined"])
def test_epoch_never_waits_for_the_gpu(
    augment: str, generated: DataSet, packs: PackStore, cuda: torch.device
) -> None:
    setup = build_setup(FP32.but(augment=augment, precision="bf16"), generated, packs, device=cuda)
    epoch = len(list(setup.train.epoch()))
    warm = losses(setup, epoch)
    assert len(warm) == epoch
    setup.start_training()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in setup.train.epoch():
            train_step(setup, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
