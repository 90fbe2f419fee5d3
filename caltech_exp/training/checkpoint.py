"""Checkpoints: what a run needs to go on, the file that holds it, and when it is written."""

import hashlib
import io
import pickle
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from caltech_exp.bootstrap import look_again
from caltech_exp.files import new_file
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import write_record
from caltech_exp.study.lease import Lease, ReplacedError
from caltech_exp.study.results import PROGRESS, Epoch, Progress
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.training.engine import Parts
from caltech_exp.training.failures import Interrupted, StopRequest

if TYPE_CHECKING:
    from caltech_exp.study.results import Matrix


def random_states(device: torch.device) -> dict[str, Any]:
    """The states now, of types that torch.load reads with weights_only."""
    version, numbers, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    states = {
        "python": [version, list(numbers), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Let every generator go on from `states`, which `random_states` gave."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


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


MARK = b"caltech_exp checkpoint 1 sha256 "
"""Begins the file's last bytes; the checksum, in 64 hex digits, follows. Before it stands what torch.save
wrote."""
TRAILER = len(MARK) + 64


class _Hashing(io.RawIOBase):
    """Passes on what is written, hashes it, and remembers what went wrong: torch.save tells something else."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` by `state` (tensors, numbers, texts, lists, dicts) in one step. Raises OSError."""
    with new_file(path) as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, cast("IO[bytes]", hashing))
        except RuntimeError:
            if hashing.error:
                raise hashing.error from None
            raise
        file.write(MARK + hashing.digest.hexdigest().encode())


def read_checkpoint(path: Path) -> dict[str, Any] | str | None:
    """The state in `path` on the CPU, None if there is no such file, or in a few words why it cannot be used.

    Raises OSError if the file cannot be read now: it may be whole, and is not to be written over.
    """
    try:
        content = look_again(path.read_bytes)
    except FileNotFoundError:
        return None
    if len(content) < TRAILER or content[-TRAILER:-64] != MARK:
        return "it is not a whole checkpoint of this version"
    if hashlib.sha256(memoryview(content)[:-TRAILER]).hexdigest().encode() != content[-64:]:
        return "its checksum is wrong"
    # The checksum says that it is what was written; weights_only, that nothing in it is executed.
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return "it holds something else than numbers and tensors"
    return state if isinstance(state, dict) else "it holds no run"


def recorded(earlier: tuple[CodeVersion, ...], here: CodeVersion) -> list[dict[str, Any]]:
    """What a checkpoint keeps: every code that trained the run, oldest first, the running one last."""
    return [code.model_dump() for code in (*earlier, here)]


def earlier_code(saved: Mapping[str, Any], here: CodeVersion) -> tuple[CodeVersion, ...]:
    """Every other code than the running one that trained what a checkpoint holds, oldest first.

    Checkpoints of before codes were kept name the package's version alone.
    """
    before = saved.get("codes") or [{"version": saved["kin"]["caltech_exp"], "commit": None, "dirty": None}]
    return tuple(code for code in map(CodeVersion.model_validate, before) if code != here)


Snapshot = dict[str, Any]


@dataclass
class Keeper:
    """Keeps one run.

    kin      what must be the same for a checkpoint to be gone on from: run, data, device and so on
    account  what the run has cost so far, to be kept in its checkpoint
    codes    every code that has trained it (lineage.recorded), to be kept there too
    """

    folder: Path
    lease: Lease
    stop_request: StopRequest
    every_seconds: float
    kin: dict[str, Any]
    account: Callable[[], dict[str, Any]]
    codes: list[dict[str, Any]] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)

    def resume(self) -> Snapshot | None:
        """The run's checkpoint, None if there is none to go on from; why not, the log says.

        Raises OSError if it cannot be read now.
        """
        found = read_checkpoint(self.folder / CHECKPOINT)
        if found is None:
            return None
        if isinstance(found, str):
            print(f"{self.folder / CHECKPOINT} is not used: {found}", flush=True)
            return None
        other = [
            f"{name} {found['kin'].get(name)}" for name, is_ in self.kin.items() if found["kin"].get(name) != is_
        ]
        if other:
            print(f"{self.folder / CHECKPOINT} is not used: it is of {', '.join(other)}", flush=True)
            return None
        return found

    def between(self, snapshot: Callable[[], Snapshot]) -> None:
        """Between two steps: save if it is time to, or asked for.

        Raises Interrupted if this process was asked to stop, LeaseLostError if another trains the run or will.
        """
        self.lease.check()
        if self.lease.is_requested:
            self._save(snapshot)
            raise ReplacedError("Slurm has started this job again, and the new process goes on with the run")
        if self.stop_request.requested:
            self._save(snapshot)
            raise Interrupted
        if time.monotonic() - self._saved >= self.every_seconds:
            self._save(snapshot)

    def _save(self, snapshot: Callable[[], Snapshot]) -> None:
        self.lease.confirm()
        start = time.monotonic()
        try:
            write_checkpoint(self.folder / CHECKPOINT, self._record(snapshot()))
        except OSError as error:  # the one before is whole still, and training goes on
            print(f"no checkpoint: {self.folder / CHECKPOINT}: {error.strerror or error}", flush=True)
        else:
            print(f"checkpoint written in {time.monotonic() - start:.1f} s", flush=True)
        self._saved = time.monotonic()

    def _record(self, snapshot: Snapshot) -> Snapshot:
        return {"kin": self.kin, "codes": self.codes, **self.account(), **snapshot}

    def note(self, progress: Progress) -> None:
        """Let others read how far the run is; that this may fail on a full disk is no reason to stop.

        Raises LeaseLostError if another trains the run.
        """
        self.lease.confirm()
        try:
            write_record(self.folder, PROGRESS, progress)
        except OSError as error:
            print(f"no progress.json: {error.strerror or error}", flush=True)
