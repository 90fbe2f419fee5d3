"""Whole epochs, as the training loop runs them."""

import time
from pathlib import Path

import torch

from caltech_exp.benchmark.epochs import epoch_costs
from caltech_exp.benchmark.records import Measurement
from caltech_exp.config import RunConfig


def test_an_epoch_and_the_start_before_it_are_timed(stand_in: Path, tmp_path: Path) -> None:
    config = RunConfig(model="resnet18", batch_size=4, max_images=8, epochs=2, precision="fp32")
    started = time.time()
    measurement = Measurement(
        kind="epochs",
        config=config,
        data=str(stand_in),
        packs=str(tmp_path),
        device="cpu",
        threads=None,
        started=started,
    )
    costs = epoch_costs(measurement, torch.device("cpu"))
    passed = time.time() - started
    assert 0 < costs.start_seconds < passed
    assert costs.start_seconds + 2 * costs.epoch_seconds <= passed
    assert costs.images_per_second > 0
    assert costs.peak_memory_bytes > 100 * 2**20
