"""One run, top to bottom: the loop of the course template, with the parts that the engine prepares."""

import math
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from caltech_exp.config import NUM_CLASSES, RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet
from caltech_exp.models.networks import check_output_shape
from caltech_exp.study.results import Epoch, Matrix
from caltech_exp.training import fast, reference
from caltech_exp.training.checkpoint import Position, random_states, restore, restore_random_states, snapshot
from caltech_exp.training.device import make_deterministic, require_fp32
from caltech_exp.training.engine import Batch, Batches, Parts


@dataclass(frozen=True)
class Trained:
    """What training measured; see results.Result for the fields of the same names."""

    diverged: bool
    epochs: tuple[Epoch, ...]
    first_loss: float | None
    test_loss: float | None
    test_accuracy: float | None
    val_confusion: "Matrix | None"
    test_confusion: "Matrix | None"
    train_images: int
    val_images: int
    test_images: int
    images_per_second: float
    peak_memory_bytes: int
    weights_sha256: str | None = None


def nothing(_snapshot: Callable[[], dict[str, Any]]) -> None:
    """For a run that nobody saves."""


def train(
    config: RunConfig,
    seed: int,
    data: DataSet,
    device: torch.device,
    packs: PackStore,
    on_epoch: Callable[[Sequence[Epoch], float | None], None],
    between: Callable[[Callable[[], dict[str, Any]]], None] = nothing,
    saved: dict[str, Any] | None = None,
) -> Trained:
    """Train and evaluate one run.

    on_epoch(closed epochs, training images per second) is called before the first and after every epoch.
    between(snapshot) is called after every step and every evaluated batch: snapshot() is what a checkpoint needs
    to go on from there, and an exception ends training. With `saved`, such a snapshot, training goes on from it;
    on the same device the result is the same to the last bit. A run diverges when an epoch's training or
    validation loss is not finite: it stops there. Raises UserError for damaged images or weights, and for a GPU
    that would not compute in the precision asked for.
    """
    set_seed(seed)
    make_deterministic(config, device)
    require_fp32(config, device)
    parts = prepare(config, data, device, packs)
    scheduler = StepLR(parts.optimizer, step_size=config.step_size, gamma=config.gamma)
    at, resume_random = Position(random_states(device)), None
    if parts.initial:
        at.weights_sha256 = parts.initial.sha256
        if parts.initial.note:
            print(parts.initial.note, flush=True)
    if saved:
        at, resume_random = restore(saved, parts, scheduler, device)

    diverged = False
    on_epoch(at.epochs, None)
    for epoch in range(len(at.epochs) + 1, config.epochs + 1):
        start = time.perf_counter() - at.epoch_seconds
        lr = scheduler.get_last_lr()[0]
        parts.net.train()
        if resume_random:  # the open epoch's order again, then on from where it was left
            restore_random_states(at.epoch_random, device)
            batches = parts.train.draw(len(at.losses))
            restore_random_states(resume_random, device)
            resume_random = None
        else:
            at.epoch_random = random_states(device)
            batches = parts.train.draw(0)
        for batch in batches:
            # Losses stay on the device until the epoch ends: no synchronisation per step.
            at.losses.append(train_step(parts, batch))
            at.trained_images += len(batch[1])
            at.epoch_seconds = time.perf_counter() - start
            between(partial(snapshot, at, parts, scheduler, device))
        step_losses = torch.stack(at.losses).double().cpu()
        training_seconds = time.perf_counter() - start
        # Evaluation draws random numbers too (its DataLoaders do): go on from before it, if it is broken off.
        trained = partial(snapshot, at, parts, scheduler, device, random_states(device))
        val = evaluate(parts, parts.val, partial(between, trained))
        scheduler.step()
        if epoch == 1:
            at.first_loss = step_losses[0].item()
        train_loss = step_losses.mean().item()
        diverged = not (math.isfinite(train_loss) and math.isfinite(val.loss))
        at.epochs.append(
            Epoch(
                epoch=epoch,
                lr=lr,
                train_loss=finite(train_loss),
                val_loss=finite(val.loss),
                val_accuracy=val.accuracy,
                seconds=time.perf_counter() - start,
            )
        )
        at.confusion = val.confusion
        at.training_seconds += training_seconds
        at.losses, at.epoch_seconds = [], 0.0
        rate = at.trained_images / at.training_seconds
        print(
            f"epoch {epoch}/{config.epochs}  lr {lr:g}  train loss {train_loss:.4f}  val loss {val.loss:.4f}  "
            f"val accuracy {val.accuracy:.4f}  {rate:.1f} images/s",
            flush=True,
        )
        on_epoch(at.epochs, rate)
        if diverged:
            break
    last = partial(snapshot, at, parts, scheduler, device)
    test = None if diverged else evaluate(parts, parts.test, partial(between, last))
    return Trained(
        diverged=diverged,
        epochs=tuple(at.epochs),
        first_loss=finite(at.first_loss),
        test_loss=finite(test.loss) if test else None,
        test_accuracy=test.accuracy if test else None,
        val_confusion=at.confusion if test else None,
        test_confusion=test.confusion if test else None,
        train_images=parts.train.images,
        val_images=parts.val.images,
        test_images=parts.test.images,
        images_per_second=at.trained_images / at.training_seconds,
        peak_memory_bytes=peak_memory(device),
        weights_sha256=at.weights_sha256,
    )


def train_step(parts: Parts, batch: Batch) -> torch.Tensor:
    """Forward, backward and optimizer step on a batch; its mean cross-entropy before the step, on the device.

    Raises UserError, as evaluate does, for a network that returns anything else than NUM_CLASSES outputs an image.
    """
    inputs, labels = batch
    parts.optimizer.zero_grad()
    with parts.arithmetic():
        outputs = check_output_shape(parts.net(inputs), labels, parts.network)
    loss = nn.functional.cross_entropy(outputs.float(), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    parts.optimizer.step()
    return loss.detach()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Mean cross-entropy and share of images classified right, over all images, and which for which."""

    loss: float
    accuracy: float
    confusion: Matrix


@torch.no_grad()
def evaluate(parts: Parts, batches: Batches, between: Callable[[], None] | None = None) -> Evaluation:
    """The network on every image of a split, without dropout; between() is called after every batch."""
    parts.net.eval()
    total: torch.Tensor | float = 0.0
    pairs: list[torch.Tensor] = []
    with parts.arithmetic():
        for inputs, labels in batches.draw(0):
            outputs = check_output_shape(parts.net(inputs), labels, parts.network).float()
            total += nn.functional.cross_entropy(outputs, labels, reduction="sum").double()
            pairs.append(labels * NUM_CLASSES + outputs.argmax(dim=1))
            if between:
                between()
    counts = torch.bincount(torch.cat(pairs), minlength=NUM_CLASSES**2).view(NUM_CLASSES, NUM_CLASSES)
    confusion = counts.cpu().numpy()
    return Evaluation(float(total) / batches.images, int(confusion.trace()) / batches.images, confusion)


def set_seed(seed: int) -> None:
    """Seed every generator a run draws from (DataLoader workers derive theirs from torch's)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak allocation, or on a CPU this process's peak resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finite(value: float | None) -> float | None:
    """JSON has no infinity: None in its place."""
    return value if value is not None and math.isfinite(value) else None


def prepare(config: RunConfig, data: DataSet, device: torch.device, packs: PackStore) -> Parts:
    """What `config.engine` trains with. Initial weights are drawn from torch's global generator.

    Raises UserError for damaged weights, and (engine=fast) if packs cannot be made or the GPU lacks the precision.
    """
    if config.engine == "reference":
        return reference.prepare(config, data, device)
    return fast.prepare(config, data, device, packs)
