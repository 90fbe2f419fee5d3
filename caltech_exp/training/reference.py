"""Engine `reference`: the course template's parts to the letter. PIL transforms, DataLoaders, fp32."""

import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import optim
from torch.utils.data import DataLoader

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import Caltech, eval_transform, train_transform
from caltech_exp.data.splits import DataSet, Sample, evenly
from caltech_exp.models.networks import build_with_weights, trained_parameters
from caltech_exp.training.engine import Batch, Batches, Parts
from caltech_exp.training.sampling import training_indices, training_sampler


def prepare(config: RunConfig, data: DataSet, device: torch.device) -> Parts:
    """DataLoaders, network and optimizer as the template makes them. Raises UserError for damaged weights."""
    train, val, test = loaders(config, data, device)
    net, initial = build_with_weights(config)
    net = net.to(device)
    optimizer = optim.SGD(
        trained_parameters(net, config),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    return Parts(config.model, net, optimizer, nullcontext, train, val, test, initial)


def loaders(config: RunConfig, data: DataSet, device: torch.device) -> tuple[Batches, Batches, Batches]:
    """Training, validation and test set; training is shuffled and, by default, drops the last incomplete batch.

    A batch raises UserError that names the image, its split file and line if one cannot be decoded.
    """
    random, plain = train_transform(config), eval_transform(config)

    def batches(split: str, samples: tuple[Sample, ...], transform: Callable[[Any], Any], train: bool) -> Batches:
        chosen = evenly(samples, config.max_images)
        if train:
            chosen = tuple(chosen[index] for index in training_indices(chosen, config))
        loader: DataLoader[Batch] = DataLoader(
            Caltech(data, split, chosen, transform),
            config.batch_size,
            sampler=training_sampler([sample.label for sample in chosen], config) if train else None,
            drop_last=train and config.last_batch == "drop",
            num_workers=config.workers,
            worker_init_fn=_leave_signals_to_the_task,
            pin_memory=device.type == "cuda",
        )

        def draw(skip: int) -> Iterator[Batch]:
            rest = iter(loader)
            for _ in range(skip):  # read and transformed once more: the workers' generators must move on
                next(rest)
            return ((images.to(device), labels.to(device)) for images, labels in rest)

        return Batches(len(chosen), draw)

    return (
        batches("train", data.train, random, train=True),
        batches("train", data.val, plain, train=False),
        batches("test", data.test, plain, train=False),
    )


def _leave_signals_to_the_task(_worker: int) -> None:
    """Workers inherit the task's handlers for preemption and time limit, which are for the task to answer."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
