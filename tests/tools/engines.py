"""The setup of an engine, and the losses of its first steps."""

from pathlib import Path

import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet
from caltech_exp.machine import computes_bf16
from caltech_exp.training import loop
from caltech_exp.training.engine import TrainingSetup
from caltech_exp.training.loop import set_seed

CPU = torch.device("cpu")
PRECISION = "bf16" if computes_bf16() else "fp32"
"""For tests that hold in either precision: bf16, unless this CPU emulates it, twenty times slower."""
TINY = f"{Path(__file__).with_name('tiny_network.py')}:tiny"
"""The `model` of tests that are not about the network."""


def build_setup(
    config: RunConfig, data: DataSet, packs: PackStore, *, seed: int = 0, device: torch.device = CPU
) -> TrainingSetup:
    """The setup of a run as `train` builds it."""
    set_seed(seed)
    return loop.build_setup(config, data, device, packs)


def losses(setup: TrainingSetup, steps: int, dtype: torch.dtype = torch.float32) -> list[float]:
    """The losses of the first `steps` steps, over as many epochs as they need, computed in `dtype`."""
    setup.net.to(dtype)
    setup.start_training()
    found = []
    for _, (inputs, labels) in zip(range(steps), setup.train.forever(), strict=False):
        setup.optimizer.zero_grad()
        with setup.autocast():
            outputs = setup.net(inputs.to(dtype) if dtype == torch.float64 else inputs)
        loss = nn.functional.cross_entropy(outputs.to(dtype), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        setup.optimizer.step()
        found.append(loss.item())
    return found
