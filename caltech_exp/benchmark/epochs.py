"""Whole epochs with validation, through the training loop itself."""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from caltech_exp.benchmark.clocks import wait
from caltech_exp.benchmark.records import EpochCosts, Measurement
from caltech_exp.packs import PackPlace
from caltech_exp.results import Epoch
from caltech_exp.splits import read_data_set
from caltech_exp.train import peak_memory, train


class _Enough(Exception):  # noqa: N818 - no error: the test set at the end is not part of an epoch
    pass


def epoch_costs(measurement: Measurement, device: torch.device) -> EpochCosts:
    """Train `config.epochs` epochs and stop. Raises UserError as `train` does."""
    times: list[float] = []
    rates: list[float] = []
    first_step: list[float] = []

    def note(epochs: Sequence[Epoch], rate: float | None) -> None:
        times.append(time.time())
        if rate is not None:
            rates.append(rate)
        if len(epochs) == measurement.config.epochs:
            raise _Enough

    def between(_snapshot: Callable[[], dict[str, Any]]) -> None:
        if not first_step:
            wait(device)
            first_step.append(time.time())

    data = read_data_set(Path(measurement.data))
    with contextlib.suppress(_Enough):
        train(measurement.config, 0, data, device, PackPlace(Path(measurement.packs)), note, between)
    return EpochCosts(
        epoch_seconds=min(end - start for start, end in itertools.pairwise(times)),
        images_per_second=rate_after_first(rates),
        start_seconds=first_step[0] - measurement.started,
        peak_memory_bytes=peak_memory(device),
    )


def rate_after_first(rates: Sequence[float]) -> float:
    """Images per second of the epochs after the first; of the first, which compiles, where there is no other.

    rates  of the first epoch, of the first two together, and so on
    """
    if len(rates) == 1:
        return rates[0]
    epochs = len(rates)
    return (epochs - 1) / (epochs / rates[-1] - 1 / rates[0])  # all epochs have as many images
