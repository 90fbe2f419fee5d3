"""The first losses of a run, step by step: how near two ways of computing the same stay to each other."""

import math
from itertools import islice, takewhile

import torch

from caltech_exp.benchmark.phases import prepared
from caltech_exp.benchmark.records import FirstLosses, Measurement
from caltech_exp.train import train_step

STEPS = 20


def first_losses(measurement: Measurement, device: torch.device) -> FirstLosses:
    """Train the first STEPS steps of `config` with seed 0. Raises UserError as preparing the engine does."""
    _, parts = prepared(measurement, device)
    parts.net.train()
    losses = (train_step(parts, batch).item() for batch in islice(parts.train.forever(), STEPS))
    return FirstLosses(losses=tuple(takewhile(math.isfinite, losses)), steps=STEPS)
