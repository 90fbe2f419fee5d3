"""The training loop: the course template's, with what an engine prepares."""

import math
import random
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet
from caltech_exp.models.networks import check_output_shape
from caltech_exp.study.results import DataRecord, Epoch, Matrix
from caltech_exp.training import fast, reference
from caltech_exp.training.checkpoint import StateDict, TrainState, random_states
from caltech_exp.training.device import make_deterministic, require_fp32
from caltech_exp.training.engine import Batch, Batches, TrainingSetup, make_scheduler

OnEpoch = Callable[[Sequence[Epoch], float | None], None]
OnStep = Callable[[Callable[[], StateDict]], None]


@dataclass(frozen=True)
class TrainingResult:
    """What training measured; the fields are those of study.results.Result.

    kept_weights  the epoch and the state dict that the run is to keep
    """

    diverged: bool
    epochs: tuple[Epoch, ...]
    first_loss: float | None
    test_loss: float | None
    test_accuracy: float | None
    val_confusion: "Matrix | None"
    test_confusion: "Matrix | None"
    data: DataRecord
    images_per_second: float
    peak_memory_bytes: int
    weights_sha256: str | None = None
    kept_weights: tuple[int, StateDict] | None = None


def train(
    config: RunConfig,
    seed: int,
    data: DataSet,
    device: torch.device,
    packs: PackStore,
    *,
    on_epoch: OnEpoch = lambda _epochs, _images_per_second: None,
    on_step: OnStep = lambda _state_dict: None,
    saved: StateDict | None = None,
    keep_weights: str = "none",
) -> TrainingResult:
    """Train and evaluate one run. It has diverged, and ends, when a loss is not finite.

    on_epoch      called before the first epoch and after each, with the epochs so far and training images per
                  second
    on_step       called after every step and every evaluated batch, with the function that returns the state for
                  a checkpoint; an exception ends training
    saved         the state of a checkpoint: training resumes there, on the same device to the last bit
    keep_weights  of which epoch the result has the weights: none, last or best; a diverged run has none
    """
    # Set-up

    set_seed(seed)
    make_deterministic(config, device)
    require_fp32(config, device)
    setup = build_setup(config, data, device, packs)
    scheduler = make_scheduler(setup.optimizer, config)
    state = TrainState(setup, scheduler, device, keep_weights=keep_weights)
    if setup.initial and setup.initial.note:
        print(setup.initial.note, flush=True)
    if saved:
        state.load_state_dict(saved)
    diverged = False
    on_epoch(state.epochs, None)

    for epoch in range(len(state.epochs) + 1, config.epochs + 1):
        # Training

        start = time.perf_counter() - state.epoch_seconds
        lr = scheduler.get_last_lr()[0]
        setup.start_training()
        for batch in state.remaining_batches():
            # Losses stay on the device until the epoch ends: no synchronisation per step.
            state.losses.append(train_step(setup, batch))
            state.trained_images += len(batch[1])
            state.epoch_seconds = time.perf_counter() - start
            on_step(state.state_dict)
        step_losses = torch.stack(state.losses).double().cpu()
        training_seconds = time.perf_counter() - start

        # Validation

        # DataLoaders draw random numbers here too. A run that is interrupted draws them again from this state.
        random_before = random_states(device)
        val = evaluate(setup, setup.val, partial(on_step, partial(state.state_dict, random_before)))
        scheduler.step()

        # Logging

        if epoch == 1:
            state.first_loss = step_losses[0].item()
        train_loss = step_losses.mean().item()
        state.close_epoch(
            Epoch(
                epoch=epoch,
                lr=lr,
                train_loss=finite(train_loss),
                val_loss=finite(val.loss),
                val_accuracy=val.accuracy,
                seconds=time.perf_counter() - start,
            ),
            val.confusion,
            training_seconds,
        )
        print(
            f"epoch {epoch}/{config.epochs}  lr {lr:g}  train loss {train_loss:.4f}  val loss {val.loss:.4f}  "
            f"val accuracy {val.accuracy:.4f}  {state.images_per_second:.1f} images/s",
            flush=True,
        )
        on_epoch(state.epochs, state.images_per_second)
        diverged = not (math.isfinite(train_loss) and math.isfinite(val.loss))
        if diverged:
            break

    # Test

    test = None if diverged else evaluate(setup, setup.test, partial(on_step, state.state_dict))
    return TrainingResult(
        diverged=diverged,
        epochs=tuple(state.epochs),
        first_loss=finite(state.first_loss),
        test_loss=finite(test.loss) if test else None,
        test_accuracy=test.accuracy if test else None,
        val_confusion=state.confusion if test else None,
        test_confusion=test.confusion if test else None,
        data=DataRecord(
            fingerprint=data.fingerprint,
            stand_in=data.stand_in,
            train_images=setup.train.images,
            val_images=setup.val.images,
            test_images=setup.test.images,
        ),
        images_per_second=state.images_per_second,
        peak_memory_bytes=peak_memory(device),
        weights_sha256=state.weights_sha256,
        kept_weights=None if diverged else state.kept_weights(),
    )


def build_setup(config: RunConfig, data: DataSet, device: torch.device, packs: PackStore) -> TrainingSetup:
    """Prepare what config.engine trains with. Initial weights are drawn from torch's global generator."""
    if config.engine == "reference":
        return reference.build_setup(config, data, device)
    return fast.build_setup(config, data, device, packs)


def train_step(setup: TrainingSetup, batch: Batch) -> torch.Tensor:
    """Forward, backward and optimizer step; returns the batch's mean loss before it, on the device."""
    inputs, labels = batch
    setup.optimizer.zero_grad()
    with setup.autocast():
        outputs = check_output_shape(setup.net(inputs), labels, setup.config)
    loss = nn.functional.cross_entropy(outputs.float(), labels, label_smoothing=setup.config.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    setup.optimizer.step()
    return loss.detach()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Mean cross-entropy, accuracy and confusion matrix over all images of a split."""

    loss: float
    accuracy: float
    confusion: Matrix


@torch.no_grad()
def evaluate(setup: TrainingSetup, batches: Batches, on_batch: Callable[[], None] = lambda: None) -> Evaluation:
    """Evaluate the network on every image of a split; on_batch() is called after every batch."""
    setup.net.eval()
    classes = setup.config.classes
    total: torch.Tensor | float = 0.0
    cells: list[torch.Tensor] = []
    with setup.autocast():
        for inputs, labels in batches.epoch():
            outputs = check_output_shape(setup.net(inputs), labels, setup.config).float()
            total += nn.functional.cross_entropy(outputs, labels, reduction="sum").double()
            cells.append(labels * classes + outputs.argmax(dim=1))
            on_batch()
    counts = torch.bincount(torch.cat(cells), minlength=classes**2).view(classes, classes)
    confusion = counts.cpu().numpy()
    return Evaluation(float(total) / batches.images, int(confusion.trace()) / batches.images, confusion)


def set_seed(seed: int) -> None:
    """Seed every generator that a run draws from; DataLoader workers derive their seeds from torch's."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def peak_memory(device: torch.device) -> int:
    """Peak bytes: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finite(value: float | None) -> float | None:
    """None in place of infinity and NaN, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None
