"""Whole epochs, as the training loop runs them."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.benchmark.measure import epoch_costs, rate_after_first
from caltech_exp.benchmark.records import Request
from caltech_exp.config import RunConfig
from caltech_exp.study.results import Epoch
from caltech_exp.training.loop import OnEpoch, OnStep

EPOCH = Epoch(epoch=1, lr=0.1, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, seconds=1.0)
CONFIG = RunConfig(model="resnet18", batch_size=4, max_images=8, epochs=2, precision="fp32")


def request_of(data: Path, packs: Path) -> Request:
    return Request(
        kind="epochs",
        config=CONFIG,
        data=str(data),
        packs=str(packs),
        device="cpu",
        threads=None,
    )


def test_epoch_costs_time_the_start_and_an_epoch(stand_in: Path, tmp_path: Path) -> None:
    started = time.time()
    costs = epoch_costs(request_of(stand_in, tmp_path), torch.device("cpu"), started)
    passed = time.time() - started
    # The first step is part of the start and of the first epoch.
    assert costs.start_seconds + costs.epoch_seconds <= passed
    assert costs.images_per_second > 0
    assert costs.peak_memory_bytes > 100 * 2**20


def test_epoch_costs_leave_out_a_slow_first_epoch(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_first_epoch(*_: Any, on_epoch: OnEpoch, on_step: OnStep) -> None:
        on_epoch([], None)
        for epochs, rate in ((1, 5.0), (2, 8.0)):
            time.sleep(0.3 if epochs == 1 else 0.0)
            on_step(dict)
            on_epoch([EPOCH] * epochs, rate)

    monkeypatch.setattr("caltech_exp.benchmark.measure.train", slow_first_epoch)
    costs = epoch_costs(request_of(stand_in, tmp_path), torch.device("cpu"), time.time())
    assert costs.start_seconds > 0.3
    assert costs.epoch_seconds < 0.3
    assert costs.images_per_second == pytest.approx(1 / (2 / 8 - 1 / 5))


def test_rate_after_first_leaves_out_the_first_epoch() -> None:
    # 100 images an epoch in 20, 5, 10 and 10 seconds: what training tells after each.
    assert rate_after_first([100 / 20, 200 / 25, 300 / 35, 400 / 45]) == pytest.approx(300 / 25)
    assert rate_after_first([5.0]) == 5.0
