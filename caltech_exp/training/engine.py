"""What an engine prepares for a run, and which training images both engines show in which order."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, RandomSampler, Sampler, WeightedRandomSampler

from caltech_exp.config import RunConfig
from caltech_exp.data.splits import Sample, evenly
from caltech_exp.models.initial_weights import InitialWeights

Batch = tuple[torch.Tensor, torch.Tensor]
"""Network inputs and labels (int64 [n]), both on the device."""


@dataclass(frozen=True)
class Batches:
    """A split as batches: what `loader` yields, as network inputs and labels."""

    loader: DataLoader[Any]
    to_batch: Callable[[Any], Batch]

    @property
    def images(self) -> int:
        return len(self.loader.dataset)  # type: ignore[arg-type]

    def epoch(self, skip: int = 0) -> Iterator[Batch]:
        """Start a pass over the split and leave out its first `skip` batches.

        The loader loads the skipped batches too, so that the random generators of its workers advance.
        """
        remaining = iter(self.loader)
        for _ in range(skip):
            next(remaining)
        return map(self.to_batch, remaining)

    def forever(self) -> Iterator[Batch]:
        while True:
            yield from self.epoch()


@dataclass(frozen=True)
class TrainingSetup:
    """What the training loop gets from an engine.

    config    of the run
    net       the layers that the batches are fed to
    autocast  returns the context of forward passes, which sets their precision
    initial   the weights file that the network starts from, None for random weights
    whole_net the network, where `net` is only its last layers
    fixed     layers that stay in evaluation mode while the others train
    """

    config: RunConfig
    net: nn.Module
    optimizer: torch.optim.Optimizer
    autocast: Callable[[], AbstractContextManager[object]]
    train: Batches
    val: Batches
    test: Batches
    initial: InitialWeights | None = None
    whole_net: nn.Module | None = None
    fixed: tuple[nn.Module, ...] = ()

    def start_training(self) -> None:
        """Put the network in training mode, except its fixed layers."""
        self.net.train()
        for layer in self.fixed:
            layer.eval()

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the whole network's state dict, on the CPU in torch's default layout."""
        net = self.net if self.whole_net is None else self.whole_net
        return {
            name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
            for name, tensor in net.state_dict().items()
        }


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: RunConfig, *, fused: bool | None = None
) -> optim.Optimizer:
    """The optimizer of a run; fused=None leaves the implementation to torch."""
    if config.optimizer == "adamw":
        return optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=fused)
    return optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused
    )


def make_scheduler(optimizer: optim.Optimizer, config: RunConfig) -> LRScheduler:
    """The schedule of a run, stepped after every epoch.

    With w warm-up epochs the learning rate of epoch n is lr * n / (w + 1) up to epoch w; then the schedule starts.
    """
    warmup = config.warmup_epochs
    scheduler: LRScheduler
    match config.schedule:
        case "step":
            scheduler = lr_scheduler.StepLR(optimizer, step_size=config.step_size, gamma=config.gamma)
        case "cosine":
            scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, config.epochs - warmup))
        case "constant":
            scheduler = lr_scheduler.ConstantLR(optimizer, factor=1.0)
    if not warmup:
        return scheduler
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [rise, scheduler], milestones=[warmup])


def training_indices(samples: Sequence[Sample], config: RunConfig) -> list[int]:
    """Indices of the samples that are trained on, in order: at most max_per_class of a class, evenly spaced."""
    if config.max_per_class == 0:
        return list(range(len(samples)))
    by_class: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        by_class.setdefault(sample.label, []).append(index)
    return sorted(i for indices in by_class.values() for i in evenly(tuple(indices), config.max_per_class))


def training_sampler(labels: Sequence[int], config: RunConfig) -> Sampler[int]:
    """Draw the order of an epoch over images of these labels, from torch's global generator.

    sampling=balanced draws as many images with replacement, each class equally often. The report names an
    unbalanced data set as a danger (Introduction).
    """
    if config.sampling == "shuffle":
        return RandomSampler(labels)
    counts = Counter(labels)
    weights = torch.tensor([1 / counts[label] for label in labels], dtype=torch.float64)
    return WeightedRandomSampler(weights.tolist(), num_samples=len(labels), replacement=True)
