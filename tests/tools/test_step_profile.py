"""The parts of a step are all of it, and a variant computes what the step does."""

from pathlib import Path

import pytest
import torch

from caltech_exp.benchmark import measure as benchmark
from caltech_exp.benchmark.records import Request
from caltech_exp.config import RunConfig
from tests.tools.step_profile import PRODUCTS, StepProfile, kind_of, measure, tables

CPU = torch.device("cpu")


def test_operators_are_counted_by_their_kind() -> None:
    kinds = {
        "aten::convolution_backward": "convolutions, backward",
        "aten::mkldnn_convolution": "convolutions, forward",
        "aten::addmm": "matrix products",
        "aten::max_pool2d_with_indices_backward": "pooling",
        "aten::threshold_backward": "ReLU and dropout",
        "aten::_fused_sgd_": "optimizer",
        "aten::_to_copy": "copies, casts, layouts",
        "aten::native_batch_norm": "batch normalization",
        "aten::nll_loss_forward": "others",
    }
    assert {name: kind_of(name) for name in kinds} == kinds


def test_step_profile_measures_parts_variants_and_evaluation(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "GEMM_SIZES", {"cpu": (64,)})
    monkeypatch.setattr("tests.tools.step_profile.STEPS", 1)
    config = RunConfig().but(model="resnet18", batch_size=2, max_images=4, precision="fp32")
    request = Request(
        kind="phases", config=config, data=str(stand_in), packs=str(tmp_path), device="cpu", threads=None
    )
    figures = measure(request, CPU, rounds=2)
    assert set(PRODUCTS) <= set(figures.parts)
    counted = sum(part.flops for part in figures.parts.values())
    assert counted / 2 == pytest.approx(3 * 2 * 1.81e9 - 2 * 1.18e8, rel=0.01)
    assert all(part.flops == 0 for kind, part in figures.parts.items() if kind not in PRODUCTS)
    # zeros beside the inputs change no loss beyond rounding
    assert figures.difference.keys() == figures.variants.keys()
    assert max(figures.difference.values()) < 1e-5
    assert all(len(times) == 2 for times in figures.variants.values())
    assert figures.failures == {"one CUDA graph": "CUDA graphs need a GPU"}
    assert list(figures.evaluation) == [2, 4, 8, 16]
    text = tables(figures)
    assert "| first convolution with 8 channels |" in text
    assert StepProfile.model_validate_json(figures.model_dump_json()) == figures
