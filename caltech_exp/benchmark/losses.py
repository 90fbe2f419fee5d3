"""The first losses of a run, step by step: how near two ways of computing the same stay to each other."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from caltech_exp.benchmark.records import FirstLosses, Measurement
from caltech_exp.engines import prepare
from caltech_exp.packs import PackPlace
from caltech_exp.parts import Batch, Parts
from caltech_exp.splits import read_data_set
from caltech_exp.train import set_seed

STEPS = 20


def first_losses(measurement: Measurement, device: torch.device) -> FirstLosses:
    """Train the first STEPS steps of `config` with seed 0. Raises UserError as preparing the engine does."""
    set_seed(0)
    data = read_data_set(Path(measurement.data))
    parts = prepare(measurement.config, data, device, PackPlace(Path(measurement.packs)))
    parts.net.train()
    found = []
    for inputs, labels in islice(_batches(parts), STEPS):
        parts.optimizer.zero_grad()
        with parts.arithmetic():
            outputs = parts.forward(inputs)
        loss = cross_entropy(outputs.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        parts.optimizer.step()
        found.append(loss.item())
    return FirstLosses(losses=tuple(found))


def _batches(parts: Parts) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from parts.train.draw()
