"""Run one run and leave a record of how it ended: result.json, or failure.json."""

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
from caltech_exp.provenance import Origin, library_versions
from caltech_exp.records import write_record
from caltech_exp.study.lease import Lease, LeaseLostError, ReplacedError, acquire, hold, read_lease
from caltech_exp.study.results import (
    FAILURE,
    RESULT,
    DataRecord,
    Epoch,
    Matrix,
    Progress,
    Result,
    encode,
    read_finished,
)
from caltech_exp.study.run_status import newer_record, remove_after_result, remove_half_written
from caltech_exp.training.checkpoint import Keeper, earlier_code, recorded
from caltech_exp.training.device import cuda_versions, describe_device, energy_joules
from caltech_exp.training.failures import StopRequest, error_line, record_failure
from caltech_exp.training.loop import Trained, train

FORMAT = "0.1.0"
"""Names the format of checkpoints. It changes only when checkpoints from before cannot be resumed."""


@dataclass(frozen=True)
class TaskContext:
    """What the runs of one task share; `runs` is the folder of the study."""

    runs: Path
    data: DataSet
    device: torch.device
    packs: PackStore
    origin: Origin
    checkpoint_seconds: float = 600.0
    stop_request: StopRequest = field(default_factory=StopRequest)


@dataclass
class _Account:
    """What a run has cost so far, over all attempts that it went on from."""

    started: str
    seconds: float
    joules: float | None
    since: float
    joules_since: float | None

    def spent(self, device: torch.device) -> dict[str, Any]:
        now = energy_joules(device)
        known = None not in (self.joules, self.joules_since, now)
        joules = (self.joules or 0.0) + (now or 0.0) - (self.joules_since or 0.0) if known else None
        return {
            "started": self.started,
            "wall_seconds": self.seconds + time.perf_counter() - self.since,
            "energy_joules": joules,
        }


def run_one(config: RunConfig, seed: int, context: TaskContext) -> Result | None:
    """Train one run and write its result into `runs/<run id>`; one finished on the same data is returned as it is.

    It goes on from the run's checkpoint, if there is one. None if another process trains the run, or a newer
    version of caltech_exp has left a record of it: then the run is left to that one. An exception is recorded in
    failure.json, unless the run is another's by then, and raised again; keeper.Interrupted is no failure, nor is
    lease.ReplacedError: this process's job runs elsewhere now.
    """
    name = run_id(config, seed)
    folder = context.runs / name
    if known := read_finished(folder, context.data.fingerprint):
        return known
    if newer := newer_record(folder):
        print(f"run {name}: nothing is trained: {newer.complaint('')}", flush=True)
        return None
    try:
        lease = _take(folder, context.origin.job)
        if lease is None:
            lease_info = read_lease(folder)
            owner = lease_info.owner if lease_info else None
            who = f"job {owner.job} on {owner.host}" if owner else "another process"
            print(f"run {name}: left to {who}, which trains it", flush=True)
            return None
        with hold(lease):
            return _carry_out(config, seed, folder, lease, context)
    except ReplacedError:
        raise
    except LeaseLostError as error:
        print(f"run {name}: {error}", flush=True)
        return None
    finally:
        context.stop_request.listening = False


def _take(folder: Path, job: str) -> Lease | None:
    """As `take`. Whoever cannot take a run writes nothing into its folder: the log says why."""
    try:
        return acquire(folder, job)
    except OSError as error:
        print(f"run {folder.name} failed, and that cannot be written down: {error_line(error)}", flush=True)
        raise


def _carry_out(config: RunConfig, seed: int, folder: Path, lease: Lease, context: TaskContext) -> Result:
    """Train the run, or record why that failed; its lease is held."""
    try:
        # Whoever held it before may have ended just now.
        result = read_finished(folder, context.data.fingerprint)
        result = result or _train(config, seed, folder, lease, context)
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


def _train(config: RunConfig, seed: int, folder: Path, lease: Lease, context: TaskContext) -> Result:
    device, data = context.device, context.data
    print(f"run {folder.name}: {config.model_dump_json()} seed {seed} on {device}", flush=True)
    remove_half_written(folder)
    remove(folder / FAILURE)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    account = _Account(utc_now(), 0.0, 0.0, time.perf_counter(), energy_joules(device))
    keeper = Keeper(
        folder=folder,
        lease=lease,
        stop_request=context.stop_request,
        every_seconds=context.checkpoint_seconds,
        kin=_kin(config, folder.name, data, device),
        account=lambda: account.spent(device),
    )
    saved = keeper.resume()
    if saved:
        account.started, account.seconds, account.joules = (
            saved[key] for key in ("started", "wall_seconds", "energy_joules")
        )
        print(f"run {folder.name}: goes on from its checkpoint, after epoch {len(saved['epochs'])}", flush=True)
    here = context.origin.code
    earlier = earlier_code(saved, here) if saved else ()
    if earlier:
        print(
            f"run {folder.name}: began with other code, {', '.join(map(str, earlier))}; this is {here}", flush=True
        )
    keeper.codes = recorded(earlier, here)

    def on_epoch(epochs: Sequence[Epoch], rate: float | None) -> None:
        keeper.note(_progress(config, folder.name, epochs, rate, context.origin))

    def between(snapshot: Callable[[], dict[str, Any]]) -> None:
        # Not before the first step, which may take long: there is nothing to save yet.
        context.stop_request.listening = True
        keeper.between(snapshot)

    trained = train(config, seed, data, device, context.packs, on_epoch, between, saved)
    result = Result(
        run_id=folder.name,
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
        data=_data_record(data, trained),
        device=describe_device(device),
        libraries={**library_versions(), **cuda_versions(device)},
        code=here,
        earlier_code=earlier,
        job=context.origin.job,
        host=host_name(),
        attempts=lease.attempt,
        images_per_second=trained.images_per_second,
        peak_memory_bytes=trained.peak_memory_bytes,
        weights_sha256=trained.weights_sha256,
        **account.spent(device),
    )
    lease.confirm()
    write_record(folder, RESULT, result)
    print(f"run {folder.name}: {result.status}, validation accuracy {result.val_accuracy}", flush=True)
    return result


def _kin(config: RunConfig, name: str, data: DataSet, device: torch.device) -> dict[str, Any]:
    """What decides, besides a checkpoint, over the bits of all that follows from it. None is as if left out."""
    return {
        "run": name,
        "data": data.fingerprint,
        "device": describe_device(device).model_dump(),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "compiled": None,  # earlier versions could train through torch.compile
        # Before, engine=fast trained the layers too that a network's own file had frozen.
        "own_freezing": config.model not in NETWORK_NAMES or None,
        "torch": str(torch.__version__),
        "caltech_exp": FORMAT,
    }


def _progress(
    config: RunConfig, name: str, epochs: Sequence[Epoch], rate: float | None, origin: Origin
) -> Progress:
    seconds = [epoch.seconds for epoch in epochs]
    # The median: the first epoch takes longer (cold caches).
    left = statistics.median(seconds) * (config.epochs - len(seconds)) if seconds else None
    return Progress(
        run_id=name,
        epoch=len(seconds),
        epochs=config.epochs,
        images_per_second=rate,
        seconds_left=left,
        submission=origin.submission,
        job=origin.job,
        host=host_name(),
        when=utc_now(),
    )


def _data_record(data: DataSet, trained: Trained) -> DataRecord:
    return DataRecord(
        fingerprint=data.fingerprint,
        stand_in=data.stand_in,
        train_images=trained.train_images,
        val_images=trained.val_images,
        test_images=trained.test_images,
    )


def _encoded(matrix: "Matrix | None") -> str | None:
    return None if matrix is None else encode(matrix)
