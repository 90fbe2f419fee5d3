"""What the benchmark measures, on the stand-in and with small matrix products."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from caltech_exp.benchmark import measure
from caltech_exp.benchmark.measure import (
    Convolution,
    augment_costs,
    count_flops,
    epoch_costs,
    least_seconds,
    phase_costs,
    prepare,
    rate_after_first,
)
from caltech_exp.benchmark.process import measure_side_by_side
from caltech_exp.benchmark.records import Request, SideBySideCosts
from caltech_exp.config import RunConfig
from caltech_exp.study.results import Epoch
from caltech_exp.training.loop import OnEpoch, OnStep
from tests.tools.engines import PRECISION

CPU = torch.device("cpu")
EPOCH = Epoch(epoch=1, lr=0.1, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, seconds=1.0)
EPOCHS = RunConfig(model="resnet18", batch_size=4, max_images=8, epochs=2, precision="fp32")
FAST = RunConfig(model="resnet18", batch_size=4, max_images=8, workers=0, precision=PRECISION)


def request_of(config: RunConfig, data: Path, packs: Path) -> Request:
    return Request(kind="phases", config=config, data=str(data), packs=str(packs), device="cpu", threads=None)


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "GEMM_SIZES", {"cpu": (64, 128)})


@pytest.mark.parametrize("config", [FAST, FAST.but(engine="reference")], ids=["fast", "reference"])
def test_phase_costs_follow_from_the_counted_operations(config: RunConfig, stand_in: Path, tmp_path: Path) -> None:
    costs = phase_costs(request_of(config, stand_in, tmp_path), CPU)
    # ResNet-18: 1.81e9 multiply-adds an image forward, twice that backward but for the first layer's input.
    assert costs.step_flops / 4 == pytest.approx(3 * 2 * 1.81e9 - 2 * 1.18e8, rel=0.01)
    assert costs.step_flops_per_second == pytest.approx(costs.step_flops / 4 * costs.step_images_per_second)
    assert costs.share_of_peak == costs.step_flops_per_second / costs.gemm_flops_per_second
    assert min(costs.input_images_per_second, costs.eval_images_per_second) > 0
    halved = 0.5 if config.precision == "bf16" else 1.0
    assert costs.saved_bytes_per_image == pytest.approx(halved * 23.7e6, rel=0.1)
    assert set(costs.convolution_flops_per_second) == {"forward", "data", "weights"}
    assert costs.eval_limit_images_per_second > costs.step_limit_images_per_second > 0
    assert costs.step_share_of_limit == costs.step_images_per_second / costs.step_limit_images_per_second
    # Nearly all is convolutions: three passes, each at its own rate.
    fastest, slowest = (f(costs.convolution_flops_per_second.values()) for f in (max, min))
    assert slowest < costs.step_limit_images_per_second * costs.step_flops / 4 * 1.01
    assert fastest > costs.step_limit_images_per_second * costs.step_flops / 4 * 0.99


def test_count_flops_tells_the_passes_of_convolutions_apart() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 1, stride=2), nn.Flatten(), nn.Linear(96, 2)
    )
    images = torch.randn(5, 3, 8, 8)

    def step() -> None:
        net(images).sum().backward()

    total, calls = count_flops(step)
    with FlopCounterMode(display=False) as counter:
        step()
    assert total == counter.get_total_flops()
    first, second = 2 * 5 * 64 * 4 * 27, 2 * 5 * 16 * 6 * 4
    counted = sorted((convolution.kind, convolution.flops) for convolution in calls.elements())
    assert counted == sorted(
        [("forward", first), ("forward", second), ("data", second), ("weights", first), ("weights", second)]
    )
    assert all(convolution.seconds(CPU, torch.float32) > 0 for convolution in calls)


def test_least_seconds_takes_each_kind_at_its_rate() -> None:
    shape = torch.Size((1, 1, 1, 1))
    calls = Counter({Convolution(kind, shape, shape, shape, ()): 10 for kind in ("forward", "weights")})
    rates = Counter(gemm=5, forward=10, data=7, weights=4)
    assert least_seconds(100, calls, rates) == (100 - 2 * 20) / 5 + 20 / 10 + 20 / 4


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_augment_costs_are_positive(engine: str, stand_in: Path, tmp_path: Path) -> None:
    config = FAST.but(engine=engine, augment="combined")
    assert augment_costs(request_of(config, stand_in, tmp_path), CPU).input_images_per_second > 0


def test_setup_is_as_deterministic_as_training(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[RunConfig, torch.device]] = []
    monkeypatch.setattr("caltech_exp.benchmark.measure.make_deterministic", lambda *given: made.append(given))
    prepare(request_of(FAST, stand_in, tmp_path), CPU)
    assert made == [(FAST, CPU)]


def test_epoch_costs_time_the_start_and_an_epoch(stand_in: Path, tmp_path: Path) -> None:
    started = time.time()
    costs = epoch_costs(request_of(EPOCHS, stand_in, tmp_path), CPU, started)
    passed = time.time() - started
    # The first step is part of the start and of the first epoch.
    assert costs.start_seconds + costs.epoch_seconds <= passed
    assert costs.images_per_second > 0
    assert costs.peak_memory_bytes > 100 * 2**20
    assert len(costs.each_epoch) == 2
    assert min(costs.each_epoch) == costs.epoch_seconds


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
    costs = epoch_costs(request_of(EPOCHS, stand_in, tmp_path), CPU, time.time())
    assert costs.start_seconds > 0.3
    assert costs.epoch_seconds < 0.3
    assert costs.images_per_second == pytest.approx(1 / (2 / 8 - 1 / 5))


def test_rate_after_first_leaves_out_the_first_epoch() -> None:
    # 100 images per epoch in 20, 5, 10 and 10 seconds: the rates that training reports after each.
    assert rate_after_first([100 / 20, 200 / 25, 300 / 35, 400 / 45]) == pytest.approx(300 / 25)
    assert rate_after_first([5.0]) == 5.0


def test_side_by_side_measures_several_processes_that_share_the_cores(stand_in: Path, tmp_path: Path) -> None:
    request = request_of(EPOCHS.but(epochs=1), stand_in, tmp_path).model_copy(update={"kind": "epochs"})
    outcome = measure_side_by_side(request, 2)
    assert isinstance(outcome.costs, SideBySideCosts)
    assert len(outcome.costs.runs) == 2
    assert outcome.costs.epoch_seconds >= max(run.epoch_seconds for run in outcome.costs.runs)
