"""The reference engine: the course template's transforms, DataLoaders and optimizer, in fp32."""

import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils.data import DataLoader

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import Caltech, eval_transform, train_transform
from caltech_exp.data.splits import DataSet, Sample, evenly
from caltech_exp.models.networks import build_with_weights, fixed_batchnorms, trained_parameters
from caltech_exp.training.engine import Batches, TrainingSetup, make_optimizer, training_indices, training_sampler


def build_setup(config: RunConfig, data: DataSet, device: torch.device) -> TrainingSetup:
    train, val, test = loaders(config, data, device)
    net, initial = build_with_weights(config)
    net = net.to(device)
    optimizer = make_optimizer(trained_parameters(net, config), config)
    fixed = fixed_batchnorms(net, config)
    return TrainingSetup(config, net, optimizer, nullcontext, train, val, test, initial, fixed=fixed)


def loaders(config: RunConfig, data: DataSet, device: torch.device) -> tuple[Batches, Batches, Batches]:
    """Training, validation and test set. A batch with an image that cannot be decoded raises UserError."""

    def batches(split: str, samples: tuple[Sample, ...], transform: Callable[[Any], Any], train: bool) -> Batches:
        used = evenly(samples, config.max_images)
        if train:
            used = tuple(used[index] for index in training_indices(used, config))
        loader: DataLoader[Any] = DataLoader(
            Caltech(data, split, used, transform),
            config.batch_size,
            sampler=training_sampler([sample.label for sample in used], config) if train else None,
            drop_last=train and config.last_batch == "drop",
            num_workers=config.workers,
            worker_init_fn=_ignore_task_signals,
            pin_memory=device.type == "cuda",
        )
        return Batches(loader, lambda batch: (batch[0].to(device), batch[1].to(device)))

    transform = eval_transform(config, data)
    return (
        batches("train", data.train, train_transform(config, data), train=True),
        batches("train", data.val, transform, train=False),
        batches("test", data.test, transform, train=False),
    )


def _ignore_task_signals(_worker: int) -> None:
    """Undo the handlers that a DataLoader worker inherits: only the task answers preemption and time limit."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
