"""The seam between the training loop and the engines: what an engine prepares for a run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn

from caltech_exp.models.initial_weights import InitialWeights

Batch = tuple[torch.Tensor, torch.Tensor]
"""Network inputs and labels (int64 [n]), both on the device."""


@dataclass(frozen=True)
class Batches:
    """A split as batches.

    draw(skip)  begins a new pass over the `images` images and passes over its first `skip` batches at once, with
                the same random numbers drawn for the order of the rest
    """

    images: int
    draw: Callable[[int], Iterator[Batch]]

    def forever(self) -> Iterator[Batch]:
        """Pass after pass."""
        while True:
            yield from self.draw(0)


@dataclass(frozen=True)
class Parts:
    """What differs from engine to engine.

    network    the network's name in errors
    net        the layers that the batches are fed to, in training or evaluation mode as the loop sets it
    optimizer  over the parameters that train
    arithmetic the context of forward passes, with the precision that the run asks for
    initial    what the network started from, None for random weights
    """

    network: str
    net: nn.Module
    optimizer: torch.optim.Optimizer
    arithmetic: Callable[[], AbstractContextManager[object]]
    train: Batches
    val: Batches
    test: Batches
    initial: InitialWeights | None = None
