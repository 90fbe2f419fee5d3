"""Checkpoints: the state that a run resumes from, the file that holds it, and when it is written."""

import contextlib
import hashlib
import io
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

from caltech_exp.bootstrap import look_again
from caltech_exp.cli import one_line, shown
from caltech_exp.files import RefusedFileError, new_file, open_file
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import write_record
from caltech_exp.study.lease import Lease, ReplacedError
from caltech_exp.study.results import PROGRESS, Epoch, Progress
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.training.engine import Batch, TrainingSetup
from caltech_exp.training.failures import Interrupted, StopRequest

if TYPE_CHECKING:
    from caltech_exp.study.results import Matrix

StateDict = dict[str, Any]


def random_states(device: torch.device) -> StateDict:
    """The states of all random generators, as types that torch.load reads with weights_only."""
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


def restore_random_states(states: StateDict, device: torch.device) -> None:
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


class UnfitError(Exception):
    """A whole checkpoint lacks a part of a run, or holds a part of another one."""


@contextlib.contextmanager
def must_fit() -> Iterator[None]:
    """Raises UnfitError for a part of a checkpoint that the block does not find or cannot use."""
    try:
        yield
    except KeyError as error:
        raise UnfitError(f"it lacks {shown(repr(error.args[0]))}") from error
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        # Any other RuntimeError may be the device's, and the checkpoint sound.
        is_misfit = any(words in str(error) for words in ("Error(s) in loading state_dict", "RNG state"))
        if isinstance(error, RuntimeError) and not is_misfit:
            raise
        raise UnfitError(one_line(shown(f"{type(error).__name__}: {error}", 300))) from error


@dataclass
class TrainState:
    """How far training is; the loop updates it.

    epochs            the closed epochs, evaluated
    losses            of the open epoch's steps, on the device
    epoch_seconds     spent on the open epoch so far
    training_seconds  spent on the steps of the closed epochs
    trained_images    in all steps
    first_loss        of the first step, known once the first epoch is closed
    confusion         of the last evaluation of the validation set
    epoch_random      random states at the start of the open epoch
    resume_random     random states to continue with, until a resumed run has skipped the batches it has had
    weights_sha256    of the file that the run started from; None for random weights, or if it is not known
    keep_weights      which weights of the network are kept: none, last or best
    best_epoch        whose weights best_weights are; 0 if they are not kept
    """

    setup: TrainingSetup
    scheduler: LRScheduler
    device: torch.device
    epochs: list[Epoch] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    epoch_seconds: float = 0.0
    training_seconds: float = 0.0
    trained_images: int = 0
    first_loss: float | None = None
    confusion: "Matrix | None" = None
    epoch_random: StateDict = field(default_factory=dict)
    resume_random: StateDict | None = None
    weights_sha256: str | None = None
    keep_weights: str = "none"
    best_epoch: int = 0
    best_weights: StateDict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.setup.initial:
            self.weights_sha256 = self.setup.initial.sha256

    @property
    def images_per_second(self) -> float:
        return self.trained_images / self.training_seconds

    def remaining_batches(self) -> Iterator[Batch]:
        """The batches of the open epoch that have not been trained on."""
        if self.resume_random is None:
            self.epoch_random = random_states(self.device)
            return self.setup.train.epoch()
        restore_random_states(self.epoch_random, self.device)  # draws the same order again
        batches = self.setup.train.epoch(skip=len(self.losses))
        restore_random_states(self.resume_random, self.device)
        self.resume_random = None
        return batches

    def close_epoch(self, epoch: Epoch, confusion: "Matrix", training_seconds: float) -> None:
        self.epochs.append(epoch)
        self.confusion = confusion
        self.training_seconds += training_seconds
        self.losses, self.epoch_seconds = [], 0.0
        if self.keep_weights == "best" and self._best() == len(self.epochs):
            self.best_epoch, self.best_weights = len(self.epochs), self.setup.weights()

    def _best(self) -> int:
        """The first epoch with the best validation accuracy, from 1."""
        return 1 + max(range(len(self.epochs)), key=lambda index: self.epochs[index].val_accuracy)

    def kept_weights(self) -> tuple[int, StateDict] | None:
        """The epoch and the weights to keep after training; None if none are to be kept, or they are not known."""
        if self.keep_weights == "last":
            return len(self.epochs), self.setup.weights()
        if self.keep_weights != "best":
            return None
        if self.best_epoch == self._best():
            return self.best_epoch, self.best_weights
        print(f"no weights are kept: epoch {self._best()}, the best, was trained without keep_weights=best")
        return None

    def state_dict(self, random_now: StateDict | None = None) -> StateDict:
        """What a checkpoint holds, with the current random states unless others are given.

        The tensors are those in use, not copies: write them before the next step.
        """
        return {
            "net": self.setup.net.state_dict(),
            "optimizer": self.setup.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": random_now or random_states(self.device),
            "epoch_random": self.epoch_random,
            "epochs": [epoch.model_dump() for epoch in self.epochs],
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "epoch_seconds": self.epoch_seconds,
            "training_seconds": self.training_seconds,
            "trained_images": self.trained_images,
            "first_loss": self.first_loss,
            "confusion": None if self.confusion is None else torch.from_numpy(self.confusion),
            "weights_sha256": self.weights_sha256,
            **({"best_epoch": self.best_epoch, "best_weights": self.best_weights} if self.best_epoch else {}),
        }

    @must_fit()
    def load_state_dict(self, saved: StateDict) -> None:
        self.setup.net.load_state_dict(saved["net"])
        self.setup.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        # The optimizer has stepped in an earlier process: the scheduler shall not warn that it has not.
        self.setup.optimizer._opt_called = True  # type: ignore[attr-defined]
        self.epochs = [Epoch.model_validate(epoch) for epoch in saved["epochs"]]
        self.losses = list(saved["losses"].to(self.device).unbind())
        self.epoch_seconds = float(saved["epoch_seconds"])
        self.training_seconds = float(saved["training_seconds"])
        self.trained_images = int(saved["trained_images"])
        self.first_loss = saved["first_loss"]
        self.confusion = None if saved["confusion"] is None else saved["confusion"].numpy()
        self.epoch_random = saved["epoch_random"]
        self.resume_random = saved["random"]
        for states in (self.epoch_random, self.resume_random):
            restore_random_states(states, self.device)  # only to see that it can be done; see remaining_batches
        self.weights_sha256 = saved.get("weights_sha256")  # earlier versions did not save it
        self.best_epoch, self.best_weights = saved.get("best_epoch", 0), saved.get("best_weights", {})


MARK = b"caltech_exp checkpoint 1 sha256 "
"""Starts the last bytes of the file, after what torch.save wrote; the checksum follows as 64 hex digits."""
TRAILER = len(MARK) + 64


class _Hashing(io.RawIOBase):
    """Hashes what is written to `file`, and keeps the OSError that torch.save hides behind another error."""

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


def write_checkpoint(path: Path, state: StateDict) -> None:
    """Replace `path` by `state` (tensors, numbers, texts, lists, dicts) in one step. Raises OSError."""
    with new_file(path) as file:
        file.write(MARK + _save(state, file).encode())


def write_weights(path: Path, weights: StateDict) -> str:
    """Replace `path` by a state dict in one step and return the SHA-256 of the file. Raises OSError."""
    with new_file(path) as file:
        return _save(weights, file)


def _save(state: StateDict, file: BinaryIO) -> str:
    """Save the state into the file and return the SHA-256 of what was written."""
    hashing = _Hashing(file)
    try:
        torch.save(state, cast("IO[bytes]", hashing))
    except RuntimeError:
        if hashing.error:
            raise hashing.error from None
        raise
    return hashing.digest.hexdigest()


def _read_whole(path: Path) -> bytes:
    """The content of a checkpoint; nothing if it does not end like one, which may have any size."""
    with open_file(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TRAILER))
        is_whole = file.read(len(MARK)) == MARK
        file.seek(0)
        return file.read() if is_whole else b""


def read_checkpoint(path: Path) -> StateDict | str | None:
    """The state in `path`, on the CPU; None without such a file, or the reason why it cannot be used.

    Raises OSError if the file cannot be read now. It may be sound, so nothing may replace it.
    """
    try:
        content = look_again(lambda: _read_whole(path))
    except FileNotFoundError:
        return None
    except RefusedFileError as error:
        return str(error.strerror)
    except IsADirectoryError:
        return "it is a folder; remove it, or the run saves no checkpoint"
    if not content:
        return "it is not a whole checkpoint of this version"
    if hashlib.sha256(memoryview(content)[:-TRAILER]).hexdigest().encode() != content[-64:]:
        return "its checksum is wrong"
    try:
        # weights_only: nothing in the file is executed.
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, LookupError, TypeError, ValueError):
        return "it holds more than numbers and tensors"
    return state if isinstance(state, dict) else "it does not hold a run"


def earlier_code(saved: Mapping[str, Any], current: CodeVersion) -> tuple[CodeVersion, ...]:
    """The code versions other than the current one that trained the run in a checkpoint, oldest first.

    The first checkpoints named the version of the package alone.
    """
    history = saved.get("codes") or [{"version": saved["kin"]["caltech_exp"], "commit": None, "dirty": None}]
    return tuple(code for code in map(CodeVersion.model_validate, history) if code != current)


@dataclass
class CheckpointManager:
    """Saves a run at intervals and before it stops, and stops it when it is asked to or its lease is lost.

    compatibility  what must be equal for a checkpoint to be used: run, data, device, versions
    elapsed        returns the time and energy that the run has taken so far
    code_history   the code versions that have trained the run, oldest first
    """

    folder: Path
    lease: Lease
    stop_request: StopRequest
    every_seconds: float
    compatibility: dict[str, Any]
    elapsed: Callable[[], dict[str, Any]]
    code_history: tuple[CodeVersion, ...] = ()
    _last_saved: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        return self.folder / CHECKPOINT

    def resume(self) -> StateDict | None:
        """The state to resume from; None without a checkpoint that can be used, and the log says why.

        Raises OSError if the checkpoint cannot be read now, UnfitError if it names no run.
        """
        saved = read_checkpoint(self.path)
        if saved is None:
            return None
        if isinstance(saved, str):
            print(f"{self.path} is not used: {saved}", flush=True)
            return None
        with must_fit():
            kin = dict(saved["kin"])
        if differences := [
            f"{name} is {kin.get(name)}, not {value}"
            for name, value in self.compatibility.items()
            if kin.get(name) != value
        ]:
            print(f"{self.path} is not used: {', '.join(differences)}", flush=True)
            return None
        return saved

    def on_step(self, state_dict: Callable[[], StateDict]) -> None:
        """Save the run if it is time to.

        Raises Interrupted when the run is asked to stop, LeaseLostError when another process trains it or will.
        """
        self.lease.check()
        if self.lease.is_requested:
            self._save(state_dict())
            raise ReplacedError("Slurm has started this job again, and the new process continues the run")
        if self.stop_request.requested:
            self._save(state_dict())
            raise Interrupted
        if time.monotonic() - self._last_saved >= self.every_seconds:
            self._save(state_dict())

    def _save(self, state: StateDict) -> None:
        self.lease.confirm()
        start = time.monotonic()
        codes = [code.model_dump() for code in self.code_history]
        try:
            write_checkpoint(self.path, {"kin": self.compatibility, "codes": codes, **self.elapsed(), **state})
        except OSError as error:  # the checkpoint before is still whole, and training continues
            print(f"no checkpoint: {self.path}: {error.strerror or error}", flush=True)
        else:
            print(f"checkpoint written in {time.monotonic() - start:.1f} s", flush=True)
        self._last_saved = time.monotonic()

    def write_progress(self, progress: Progress) -> None:
        """Write progress.json; on a full disk a line in the log says so. Raises LeaseLostError as on_step does."""
        self.lease.confirm()
        try:
            write_record(self.folder, PROGRESS, progress)
        except OSError as error:
            print(f"no progress.json: {error.strerror or error}", flush=True)
