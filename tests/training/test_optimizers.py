"""Optimizer, schedule, warm-up and label smoothing: torch's own classes in a plain loop give the same numbers."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.training.checkpoint import read_checkpoint
from caltech_exp.training.loop import train
from tests.tools.engines import CPU, TINY, build_setup
from tests.training.test_resume import Broken, broken_off, numbers, start

FAST = RunConfig(
    model=TINY, epochs=4, step_size=2, batch_size=8, max_images=20, workers=0, lr=0.01, precision="fp32"
)
ENGINES = [pytest.param(FAST, id="fast"), pytest.param(FAST.but(engine="reference"), id="reference")]
CHANGES: list[dict[str, object]] = [
    {"optimizer": "adamw", "weight_decay": 0.1, "lr": 1e-3, "schedule": "constant"},
    {"schedule": "cosine", "label_smoothing": 0.2},
    {"schedule": "constant", "warmup_epochs": 3},
    {"optimizer": "adamw", "lr": 1e-3, "schedule": "cosine", "warmup_epochs": 2, "label_smoothing": 0.1},
    {"warmup_epochs": 1, "step_size": 1},
]


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


def plain_optimizer(net: nn.Module, config: RunConfig) -> Optimizer:
    fused = True if config.engine == "fast" else None
    if config.optimizer == "adamw":
        return AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=fused)
    return SGD(
        net.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
    )


def plain_scheduler(optimizer: Optimizer, config: RunConfig) -> LRScheduler | None:
    match config.schedule:
        case "cosine":
            return CosineAnnealingLR(optimizer, T_max=config.epochs - config.warmup_epochs)
        case "step":
            return StepLR(optimizer, config.step_size, config.gamma)
    return None


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: ",".join(changes))
@pytest.mark.parametrize("engine", ENGINES)
def test_run_equals_a_plain_loop_with_torchs_own_classes(
    engine: RunConfig, changes: dict[str, object], data: DataSet, packs: PackStore
) -> None:
    config = engine.but(**changes)
    trained = train(config, 0, data, CPU, packs)

    setup = build_setup(config, data, packs)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    optimizer = plain_optimizer(setup.net, config)
    scheduler = plain_scheduler(optimizer, config)
    rates, losses, val_losses = [], [], []
    for epoch in range(config.epochs):
        if epoch < config.warmup_epochs:
            optimizer.param_groups[0]["lr"] = config.lr * (epoch + 1) / (config.warmup_epochs + 1)
        elif epoch == config.warmup_epochs:
            optimizer.param_groups[0]["lr"] = config.lr
        rates.append(optimizer.param_groups[0]["lr"])
        setup.net.train()
        steps = []
        for inputs, labels in setup.train.epoch():
            optimizer.zero_grad()
            loss = criterion(setup.net(inputs), labels)
            loss.backward()
            optimizer.step()
            steps.append(loss.item())
        losses.append(math.fsum(steps) / len(steps))
        setup.net.eval()
        with torch.no_grad():
            batches = [(setup.net(inputs), labels) for inputs, labels in setup.val.epoch()]
        total = sum(nn.functional.cross_entropy(*batch, reduction="sum").double() for batch in batches)
        val_losses.append(float(total) / setup.val.images)
        if scheduler and epoch >= config.warmup_epochs:
            scheduler.step()

    # The rate of a warm-up is a product of torch's, right to the last bit but one.
    tolerance = 1e-5 if config.warmup_epochs else 0.0
    assert [epoch.lr for epoch in trained.epochs] == pytest.approx(rates, rel=tolerance and 1e-12, abs=0)
    assert [epoch.train_loss for epoch in trained.epochs] == pytest.approx(losses, rel=tolerance or 1e-15, abs=0)
    assert [epoch.val_loss for epoch in trained.epochs] == pytest.approx(val_losses, rel=tolerance, abs=0)


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({"schedule": "constant"}, [1, 1, 1, 1]),
        ({"schedule": "cosine"}, [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
        ({"schedule": "cosine", "warmup_epochs": 2}, [1 / 3, 2 / 3, 1, 0.5]),
        ({"warmup_epochs": 1, "step_size": 2}, [0.5, 1, 1, 0.1]),
        ({"warmup_epochs": 4, "schedule": "constant"}, [0.2, 0.4, 0.6, 0.8]),
        ({"warmup_epochs": 9, "schedule": "cosine"}, [0.1, 0.2, 0.3, 0.4]),
    ],
    ids=str,
)
def test_learning_rates_follow_the_schedule(
    changes: dict[str, object], rates: list[float], data: DataSet, packs: PackStore
) -> None:
    trained = train(FAST.but(lr=1, max_images=8, **changes), 0, data, CPU, packs)
    assert [epoch.lr for epoch in trained.epochs] == pytest.approx(rates)


@pytest.mark.parametrize("changes", [CHANGES[1], CHANGES[3]], ids=lambda changes: ",".join(changes))
@pytest.mark.parametrize("engine", ENGINES)
def test_run_resumes_to_the_bit(
    engine: RunConfig, changes: dict[str, object], data: DataSet, packs: PackStore, tmp_path: Path
) -> None:
    config = engine.but(**changes)
    calls: list[object] = []
    whole = numbers(start(config, data, packs, calls.append))
    for stop in (len(calls) // 3, len(calls) - 3):
        with pytest.raises(Broken):
            start(config, data, packs, broken_off(tmp_path / "c.pt", stop))
        saved = read_checkpoint(tmp_path / "c.pt")
        assert isinstance(saved, dict)
        torch.rand(100)  # another process: other random states
        assert numbers(start(config, data, packs, saved=saved)) == whole, f"broken off at {stop}"
