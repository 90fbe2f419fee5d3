"""One run, top to bottom: the course template's loop (engine `reference`)."""

import math
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from caltech_exp.config import RunConfig
from caltech_exp.data import Caltech
from caltech_exp.models import build, trained_parameters
from caltech_exp.results import Epoch
from caltech_exp.splits import DataSet, evenly
from caltech_exp.transforms import eval_transform, train_transform

Batches = DataLoader[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Trained:
    """What training measured; see results.Result for the fields of the same names."""

    diverged: bool
    epochs: tuple[Epoch, ...]
    first_loss: float | None
    test_loss: float | None
    test_accuracy: float | None
    train_images: int
    val_images: int
    test_images: int
    images_per_second: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Loaders:
    train: Batches
    val: Batches
    test: Batches


def make_loaders(config: RunConfig, data: DataSet, device: torch.device) -> Loaders:
    """The template's three DataLoaders; training is shuffled and drops the last incomplete batch."""
    steps = train_transform(config.augment, config.pretrained)
    plain = eval_transform(config.pretrained)
    pinned = device.type == "cuda"

    def loader(split: str, images: tuple[object, ...], transform: object, **options: bool) -> Batches:
        return DataLoader(
            Caltech(data, split, images, transform),  # type: ignore[arg-type]
            config.batch_size,
            num_workers=config.workers,
            worker_init_fn=_leave_signals_to_the_task,
            pin_memory=pinned,
            **options,  # type: ignore[arg-type]
        )

    most = config.max_images
    return Loaders(
        loader("train", evenly(data.train, most), steps, shuffle=True, drop_last=True),
        loader("train", evenly(data.val, most), plain),
        loader("test", evenly(data.test, most), plain),
    )


def _leave_signals_to_the_task(_worker: int) -> None:
    """Workers inherit the task's handlers for preemption and time limit, which are for the task to answer."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def train(
    config: RunConfig,
    seed: int,
    data: DataSet,
    device: torch.device,
    on_epoch: Callable[[int, float | None], None],
) -> Trained:
    """Train and evaluate one run.

    on_epoch(epochs done, training images per second) is called before the first and after every epoch. A run
    diverges when an epoch's training or validation loss is not finite: it stops there. Raises UserError for
    damaged images or weights.
    """
    set_seed(seed)
    loaders = make_loaders(config, data, device)
    net = build(config).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(
        trained_parameters(net, config),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    scheduler = StepLR(optimizer, step_size=config.step_size, gamma=config.gamma)

    history: list[Epoch] = []
    first_loss = math.nan
    diverged = False
    training_seconds = 0.0
    trained_images = 0
    on_epoch(0, None)
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        lr = scheduler.get_last_lr()[0]
        net.train()
        # Losses stay on the device until the epoch ends: no synchronisation per step.
        losses: list[torch.Tensor] = []
        for images, labels in loaders.train:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(net(images), labels)
            losses.append(loss.detach())
            loss.backward()
            optimizer.step()
            trained_images += len(labels)
        scheduler.step()
        step_losses = torch.stack(losses).double().cpu()
        training_seconds += time.perf_counter() - start
        if epoch == 1:
            first_loss = step_losses[0].item()
        train_loss = step_losses.mean().item()
        val_loss, val_accuracy = evaluate(net, loaders.val, device)
        diverged = not (math.isfinite(train_loss) and math.isfinite(val_loss))
        history.append(
            Epoch(
                epoch=epoch,
                lr=lr,
                train_loss=finite(train_loss),
                val_loss=finite(val_loss),
                val_accuracy=val_accuracy,
                seconds=time.perf_counter() - start,
            )
        )
        rate = trained_images / training_seconds
        print(
            f"epoch {epoch}/{config.epochs}  lr {lr:g}  train loss {train_loss:.4f}  val loss {val_loss:.4f}  "
            f"val accuracy {val_accuracy:.4f}  {rate:.1f} images/s",
            flush=True,
        )
        on_epoch(epoch, rate)
        if diverged:
            break
    test_loss, test_accuracy = (None, None) if diverged else evaluate(net, loaders.test, device)
    return Trained(
        diverged=diverged,
        epochs=tuple(history),
        first_loss=finite(first_loss),
        test_loss=finite(test_loss),
        test_accuracy=test_accuracy,
        train_images=len(loaders.train.dataset),  # type: ignore[arg-type]
        val_images=len(loaders.val.dataset),  # type: ignore[arg-type]
        test_images=len(loaders.test.dataset),  # type: ignore[arg-type]
        images_per_second=trained_images / training_seconds,
        peak_memory_bytes=peak_memory(device),
    )


@torch.no_grad()
def evaluate(net: nn.Module, batches: Batches, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and share of images classified right, over all images, without dropout."""
    net.eval()
    total = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        outputs = net(images)
        total += nn.functional.cross_entropy(outputs, labels, reduction="sum")
        right += (outputs.argmax(dim=1) == labels).sum()
        seen += len(labels)
    return total.item() / seen, right.item() / seen


def set_seed(seed: int) -> None:
    """Seed every generator a run draws from (DataLoader workers derive theirs from torch's)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    # Convolutions in fp32 as the report's GPUs computed them, not in the TF32 that newer ones default to.
    torch.backends.cudnn.allow_tf32 = False


def peak_memory(device: torch.device) -> int:
    """Bytes: the device's peak allocation, or on a CPU this process's peak resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finite(value: float | None) -> float | None:
    """JSON has no infinity: None in its place."""
    return value if value is not None and math.isfinite(value) else None
