"""Train one run and record how it ended: result.json or failure.json."""

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from caltech_exp.config import NETWORK_NAMES, RunConfig, run_id
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet
from caltech_exp.files import remove, utc_now
from caltech_exp.machine import host_name
from caltech_exp.provenance import CodeVersion, TaskOrigin, library_versions
from caltech_exp.records import write_record
from caltech_exp.study.lease import Lease, LeaseLostError, ReplacedError, acquire, hold, read_lease
from caltech_exp.study.results import (
    FAILURE,
    RESULT,
    WEIGHTS,
    Epoch,
    Keep,
    KeptWeights,
    Matrix,
    Progress,
    Result,
    encode,
    read_finished,
)
from caltech_exp.study.run_status import CHECKPOINT, newer_record, remove_after_result, remove_half_written
from caltech_exp.training.checkpoint import (
    CheckpointManager,
    StateDict,
    UnfitError,
    earlier_code,
    must_fit,
    write_weights,
)
from caltech_exp.training.device import cuda_versions, describe_device, energy_joules
from caltech_exp.training.failures import StopRequest, error_line, print_unrecorded, record_failure
from caltech_exp.training.loop import train

CHECKPOINT_FORMAT = "0.1.0"
"""It changes only when earlier checkpoints cannot be resumed."""


@dataclass(frozen=True)
class TaskContext:
    """What the runs of one task share; `runs` is the folder of the study."""

    runs: Path
    data: DataSet
    device: torch.device
    packs: PackStore
    origin: TaskOrigin
    checkpoint_seconds: float = 600.0
    stop_request: StopRequest = field(default_factory=StopRequest)
    keep_weights: Keep = "none"


@dataclass
class Elapsed:
    """The time and energy of a run.

    seconds, joules  of the attempts that this one resumes; joules are None if a device had no counter
    """

    device: torch.device
    started: str = field(default_factory=utc_now)
    seconds: float = 0.0
    joules: float | None = 0.0

    def __post_init__(self) -> None:
        self._start = time.perf_counter()
        self._start_joules = energy_joules(self.device)

    def resume(self, saved: StateDict) -> None:
        self.started = saved["started"]
        self.seconds = float(saved["wall_seconds"])
        self.joules = saved["energy_joules"]

    def totals(self) -> dict[str, Any]:
        earlier, start, end = self.joules, self._start_joules, energy_joules(self.device)
        return {
            "started": self.started,
            "wall_seconds": self.seconds + time.perf_counter() - self._start,
            "energy_joules": None if earlier is None or start is None or end is None else earlier + end - start,
        }


def run_one(config: RunConfig, seed: int, context: TaskContext) -> Result | None:
    """Train one run, from its checkpoint if it has one, and write result.json; or return the result it has.

    Returns None, and changes nothing, if another process trains the run or a newer version of caltech_exp left a
    record of it. An exception is recorded in failure.json and raised again, but not Interrupted (the run was asked
    to stop) and ReplacedError (Slurm started this process's job again elsewhere).
    """
    name = run_id(config, seed)
    folder = context.runs / name
    if finished := read_finished(folder, context.data.fingerprint):
        return finished
    if newer := newer_record(folder):
        print(f"run {name} is skipped: {newer.complaint('')}", flush=True)
        return None
    try:
        lease = _acquire(folder, context.origin.job)
        if lease is None:
            return None
        with hold(lease):
            return _train_or_record_failure(config, seed, folder, lease, context)
    except ReplacedError:
        raise
    except LeaseLostError as error:
        print(f"run {name}: {error}", flush=True)
        return None
    finally:
        context.stop_request.listening = False


def _acquire(folder: Path, job: str) -> Lease | None:
    try:
        lease = acquire(folder, job)
    except OSError as error:  # nothing may be written into the folder of a run whose lease is not held
        print_unrecorded(folder.name, error)
        raise
    if lease is None:
        lease_info = read_lease(folder)
        owner = lease_info.owner if lease_info else None
        trainer = f"job {owner.job} on {owner.host}" if owner else "another process"
        print(f"run {folder.name} is skipped: {trainer} trains it", flush=True)
    return lease


def _train_or_record_failure(
    config: RunConfig, seed: int, folder: Path, lease: Lease, context: TaskContext
) -> Result:
    try:
        # The owner before may have finished the run since it was last read.
        result = read_finished(folder, context.data.fingerprint)
        result = result or _train_anew_if_unfit(config, seed, folder, lease, context)
    except LeaseLostError:
        raise
    except Exception as error:
        try:
            lease.confirm()
        except LeaseLostError as lost:
            raise LeaseLostError(f"{lost}; here it failed: {error_line(error)}") from error
        record_failure(context.runs, folder.name, error, context.origin)
        raise
    with contextlib.suppress(LeaseLostError):
        lease.confirm()
        remove_after_result(folder)
    return result


def _train_anew_if_unfit(config: RunConfig, seed: int, folder: Path, lease: Lease, context: TaskContext) -> Result:
    try:
        return _train(config, seed, folder, lease, context)
    except UnfitError as error:
        print(f"{folder / CHECKPOINT} is not used: {error}", flush=True)
        lease.confirm()
        remove(folder / CHECKPOINT)
    return _train(config, seed, folder, lease, context)


def _train(config: RunConfig, seed: int, folder: Path, lease: Lease, context: TaskContext) -> Result:
    name, device, data, code = folder.name, context.device, context.data, context.origin.code
    print(f"run {name}: {config.model_dump_json()} seed {seed} on {device}", flush=True)
    remove_half_written(folder)
    remove(folder / FAILURE)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elapsed = Elapsed(device)
    checkpoints = CheckpointManager(
        folder=folder,
        lease=lease,
        stop_request=context.stop_request,
        every_seconds=context.checkpoint_seconds,
        compatibility=_compatibility(config, name, data, device),
        elapsed=elapsed.totals,
    )
    saved = checkpoints.resume()
    earlier: tuple[CodeVersion, ...] = ()
    if saved:
        with must_fit():
            earlier = earlier_code(saved, code)
            elapsed.resume(saved)
            print(f"run {name} resumes from its checkpoint, after epoch {len(saved['epochs'])}", flush=True)
    if earlier:
        print(f"run {name} began with other code, {', '.join(map(str, earlier))}; this is {code}", flush=True)
    checkpoints.code_history = (*earlier, code)

    def on_epoch(epochs: Sequence[Epoch], images_per_second: float | None) -> None:
        checkpoints.write_progress(make_progress(config, name, epochs, images_per_second, context.origin))

    def on_step(state_dict: Callable[[], StateDict]) -> None:
        context.stop_request.listening = True  # before the first step there is nothing to save
        checkpoints.on_step(state_dict)

    trained = train(
        config,
        seed,
        data,
        device,
        context.packs,
        on_epoch=on_epoch,
        on_step=on_step,
        saved=saved,
        keep_weights=context.keep_weights,
    )
    lease.confirm()
    kept_weights = _keep_weights(folder, trained.kept_weights, context.keep_weights)
    result = Result(
        run_id=name,
        config=config,
        seed=seed,
        status="diverged" if trained.diverged else "finished",
        epochs=trained.epochs,
        first_loss=trained.first_loss,
        val_accuracy=None if trained.diverged else trained.epochs[-1].val_accuracy,
        best_val_accuracy=max(epoch.val_accuracy for epoch in trained.epochs),
        test_loss=trained.test_loss,
        test_accuracy=trained.test_accuracy,
        val_confusion=_encoded(trained.val_confusion),
        test_confusion=_encoded(trained.test_confusion),
        data=trained.data,
        device=describe_device(device),
        libraries={**library_versions(), **cuda_versions(device)},
        code=code,
        earlier_code=earlier,
        job=context.origin.job,
        host=host_name(),
        attempts=lease.attempt,
        images_per_second=trained.images_per_second,
        peak_memory_bytes=trained.peak_memory_bytes,
        threads=torch.get_num_threads(),
        weights_sha256=trained.weights_sha256,
        kept_weights=kept_weights,
        **elapsed.totals(),
    )
    lease.confirm()
    write_record(folder, RESULT, result)
    print(f"run {name}: {result.status}, validation accuracy {result.val_accuracy}", flush=True)
    return result


def _keep_weights(folder: Path, weights: tuple[int, StateDict] | None, which: Keep) -> KeptWeights | None:
    """Write the weights into the run's folder; without any, remove those of an attempt that left no result."""
    if weights is None or which == "none":
        remove(folder / WEIGHTS)
        return None
    epoch, state = weights
    return KeptWeights(which=which, epoch=epoch, sha256=write_weights(folder / WEIGHTS, state))


def _compatibility(config: RunConfig, name: str, data: DataSet, device: torch.device) -> dict[str, Any]:
    """What must be equal for a checkpoint to lead to the same bits. None is as if the key were missing."""
    return {
        "run": name,
        "data": data.fingerprint,
        "device": describe_device(device).model_dump(),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "compiled": None,  # earlier versions could train through torch.compile
        # Earlier versions of engine=fast also trained the layers that a custom network had frozen itself.
        "own_freezing": config.model not in NETWORK_NAMES or None,
        "torch": str(torch.__version__),
        "caltech_exp": CHECKPOINT_FORMAT,
    }


def make_progress(
    config: RunConfig, name: str, epochs: Sequence[Epoch], images_per_second: float | None, origin: TaskOrigin
) -> Progress:
    seconds = [epoch.seconds for epoch in epochs]
    # The median, since the first epoch takes longer (cold caches).
    seconds_left = statistics.median(seconds) * (config.epochs - len(seconds)) if seconds else None
    return Progress(
        run_id=name,
        epoch=len(seconds),
        epochs=config.epochs,
        images_per_second=images_per_second,
        seconds_left=seconds_left,
        submission=origin.submission,
        job=origin.job,
        host=host_name(),
        when=utc_now(),
        curve=tuple(epoch.point for epoch in epochs),
    )


def _encoded(matrix: "Matrix | None") -> str | None:
    return None if matrix is None else encode(matrix)
