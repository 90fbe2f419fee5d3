"""How far a run has come, and all that it takes to go on from there as if nothing had happened."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from caltech_exp.parts import Parts
from caltech_exp.random_states import random_states
from caltech_exp.results import Epoch

if TYPE_CHECKING:
    from caltech_exp.confusion import Matrix


@dataclass
class Position:
    """Where training is; the loop moves it on.

    epochs            the closed epochs, evaluated
    losses            of the open epoch's steps, on the device
    epoch_seconds     spent on the open epoch so far
    training_seconds  spent on the steps of the closed epochs
    trained_images    in all steps
    first_loss        of the first step, known once the first epoch is closed
    confusion         of the last evaluation of the validation set
    epoch_random      the random states in which the open epoch began
    weights_sha256    of the file that the run started from, None for random weights, or where it is not known
    """

    epoch_random: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    epoch_seconds: float = 0.0
    training_seconds: float = 0.0
    trained_images: int = 0
    first_loss: float | None = None
    confusion: "Matrix | None" = None
    weights_sha256: str | None = None


def snapshot(
    at: Position, parts: Parts, scheduler: LRScheduler, device: torch.device, states: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What a checkpoint holds: the position, weights, optimizer, schedule, and the random states (now, or
    `states`).

    Tensors are those in use, not copies: write them before the next step.
    """
    return {
        "net": parts.net.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "random": states or random_states(device),
        "epoch_random": at.epoch_random,
        "epochs": [epoch.model_dump() for epoch in at.epochs],
        "losses": torch.stack(at.losses) if at.losses else torch.empty(0),
        "epoch_seconds": at.epoch_seconds,
        "training_seconds": at.training_seconds,
        "trained_images": at.trained_images,
        "first_loss": at.first_loss,
        "confusion": None if at.confusion is None else torch.from_numpy(at.confusion),
        "weights_sha256": at.weights_sha256,
    }


def restore(
    saved: dict[str, Any], parts: Parts, scheduler: LRScheduler, device: torch.device
) -> tuple[Position, dict[str, Any]]:
    """Bring weights, optimizer and schedule back to the snapshot's; returns its position and its random states.

    Those are for the caller to set, once it has passed over the batches that the open epoch has had.
    """
    parts.net.load_state_dict(saved["net"])
    parts.optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    parts.optimizer._opt_called = True  # type: ignore[attr-defined]  # it stepped, in the process before: no warning
    position = Position(
        epoch_random=saved["epoch_random"],
        epochs=[Epoch.model_validate(epoch) for epoch in saved["epochs"]],
        losses=list(saved["losses"].to(device).unbind()),
        epoch_seconds=saved["epoch_seconds"],
        training_seconds=saved["training_seconds"],
        trained_images=saved["trained_images"],
        first_loss=saved["first_loss"],
        confusion=None if saved["confusion"] is None else saved["confusion"].numpy(),
        weights_sha256=saved.get("weights_sha256"),  # not in checkpoints of earlier versions
    )
    return position, saved["random"]
