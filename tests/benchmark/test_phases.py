"""The parts of an epoch, on the stand-in and with small matrix products: the figures hang together."""

from pathlib import Path

import pytest
import torch

from caltech_exp.benchmark import measure
from caltech_exp.benchmark.measure import augment_costs, phase_costs, prepare
from caltech_exp.benchmark.records import Request
from caltech_exp.config import RunConfig
from tests.tools.engines import PRECISION

CPU = torch.device("cpu")
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
