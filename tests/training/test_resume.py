"""A run that is interrupted anywhere and resumed gives the result of an undisturbed run, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.training.checkpoint import read_checkpoint, write_checkpoint
from caltech_exp.training.fast import cached_features
from caltech_exp.training.loop import OnStep, TrainingResult, train
from tests.tools.engines import CPU, PRECISION, TINY

SHORT = RunConfig(
    model=TINY, epochs=2, step_size=1, batch_size=3, max_images=7, workers=0, lr=0.01, augment="combined"
).but(precision=PRECISION)
REFERENCE = SHORT.but(engine="reference")
CASES = [
    pytest.param(SHORT.but(model="resnet18"), id="fast"),
    pytest.param(SHORT.but(precision="fp32", freeze="fc", augment="none"), id="fast, frozen classifier"),
    pytest.param(SHORT.but(model="alexnet", freeze="conv", augment="none", step_size=20), id="cached features"),
    pytest.param(
        SHORT.but(model="resnet18", freeze="conv", frozen_batchnorm="eval", augment="none"),
        id="cached features, batch normalisation kept",
    ),
    pytest.param(
        SHORT.but(model="resnet18", freeze="conv", frozen_batchnorm="eval"), id="batch normalisation kept"
    ),
    pytest.param(REFERENCE, id="reference"),
    pytest.param(REFERENCE.but(workers=2), id="reference, two workers"),
]


class Broken(Exception):  # noqa: N818 - no error
    pass


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


def start(
    config: RunConfig,
    data: DataSet,
    packs: PackStore,
    on_step: OnStep = lambda _state_dict: None,
    saved: dict[str, Any] | None = None,
    device: torch.device = CPU,
) -> TrainingResult:
    cached_features.cache_clear()  # as in a process of its own
    return train(config, 3, data, device, packs, on_step=on_step, saved=saved)


def numbers(trained: TrainingResult) -> dict[str, Any]:
    """Everything but times and memory."""
    assert trained.val_confusion is not None
    assert trained.test_confusion is not None
    return {
        "epochs": [epoch.model_dump(exclude={"seconds"}) for epoch in trained.epochs],
        "losses": (trained.first_loss, trained.test_loss),
        "accuracy": trained.test_accuracy,
        "confusion": (trained.val_confusion.tolist(), trained.test_confusion.tolist()),
    }


def broken_off(path: Path, after: int) -> OnStep:
    """Save and break off at the call number `after` (from 0)."""
    calls = iter(range(after + 1))

    def on_step(state_dict: Callable[[], dict[str, Any]]) -> None:
        if next(calls) == after:
            write_checkpoint(path, state_dict())
            raise Broken

    return on_step


@pytest.mark.parametrize("config", CASES)
def test_run_resumes_anywhere_to_the_bit(
    config: RunConfig, data: DataSet, packs: PackStore, tmp_path: Path
) -> None:
    calls: list[object] = []
    whole = numbers(start(config, data, packs, calls.append))
    # Two steps and the validation in each of two epochs, then the test set.
    evaluations = 3 if config.engine == "reference" else 1
    assert len(calls) == 2 * (2 + evaluations) + evaluations
    for stop in (0, 2, len(calls) // 2, len(calls) - 1):
        path = tmp_path / f"{stop}.pt"
        with pytest.raises(Broken):
            start(config, data, packs, broken_off(path, stop))
        saved = read_checkpoint(path)
        assert isinstance(saved, dict)
        torch.rand(100)  # another process: other random states
        assert numbers(start(config, data, packs, saved=saved)) == whole, f"broken off at {stop}"


def test_run_resumes_twice(data: DataSet, packs: PackStore, tmp_path: Path) -> None:
    whole = numbers(start(SHORT, data, packs))
    saved: dict[str, Any] = {}
    for _ in range(3):
        with pytest.raises(Broken):
            start(SHORT, data, packs, broken_off(tmp_path / "c.pt", 1), saved or None)
        found = read_checkpoint(tmp_path / "c.pt")
        assert isinstance(found, dict)
        saved = found
    assert len(saved["epochs"]) == 1
    assert numbers(start(SHORT, data, packs, saved=saved)) == whole


def test_resumed_run_adds_up_its_times(data: DataSet, packs: PackStore, tmp_path: Path) -> None:
    with pytest.raises(Broken):
        start(SHORT, data, packs, broken_off(tmp_path / "c.pt", 4))
    saved = read_checkpoint(tmp_path / "c.pt")
    assert isinstance(saved, dict)
    saved["epoch_seconds"], saved["training_seconds"] = 500.0, 1000.0
    trained = start(SHORT, data, packs, saved=saved)
    assert trained.epochs[1].seconds > 500
    assert trained.images_per_second < 4 * 3 / 1500


@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_run_on_a_gpu_resumes(
    model: str, cuda: torch.device, caltech101: Path, packs: PackStore, tmp_path: Path
) -> None:
    data = read_data_set(caltech101)
    config = SHORT.but(model=model, batch_size=64, max_images=256)
    whole = numbers(start(config, data, packs, device=cuda))
    with pytest.raises(Broken):
        start(config, data, packs, broken_off(tmp_path / "c.pt", 5), device=cuda)
    saved = read_checkpoint(tmp_path / "c.pt")
    assert isinstance(saved, dict)
    assert numbers(start(config, data, packs, saved=saved, device=cuda)) == whole
