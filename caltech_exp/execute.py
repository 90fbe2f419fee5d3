"""Run one run and leave a record of how it ended: result.json, or failure.json."""

import socket
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from caltech_exp.clock import utc_now
from caltech_exp.config import RunConfig, run_id
from caltech_exp.confusion import Matrix, encode
from caltech_exp.energy import energy_joules
from caltech_exp.errors import UserError
from caltech_exp.packs import PackPlace
from caltech_exp.provenance import CodeVersion, library_versions
from caltech_exp.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    DataRecord,
    Device,
    Failure,
    Progress,
    Result,
    read_result,
    write_record,
)
from caltech_exp.splits import DataSet
from caltech_exp.train import Trained, train


@dataclass(frozen=True)
class Origin:
    """Where a run is executed from: submission, job id, log file, version of the running code."""

    submission: str
    job: str
    log: str
    code: CodeVersion


def choose_device(wanted: str) -> torch.device:
    """`cuda`, `cpu`, or `auto` for cuda where there is one.

    Raises UserError if CUDA was asked for and there is none: a run never falls back to the CPU by itself.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError(
            f"this task on {socket.gethostname()} asked for a GPU and finds none; check gpus_per_node or gres "
            "in the profile and the CUDA build of torch, or set device: cpu in the profile"
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def execute(
    config: RunConfig,
    seed: int,
    runs: Path,
    data: DataSet,
    device: torch.device,
    packs: PackPlace,
    origin: Origin,
) -> Result:
    """Train one run and write its result into `runs/<run id>`; one finished on the same data is returned as it is.

    Any exception is recorded in failure.json and raised again.
    """
    name = run_id(config, seed)
    folder = runs / name
    known = read_result(folder)
    if isinstance(known, Result) and known.data.fingerprint == data.fingerprint:
        return known
    host = socket.gethostname()
    started, start = utc_now(), time.perf_counter()

    def report_progress(epoch: int, rate: float | None) -> None:
        progress = Progress(
            run_id=name,
            epoch=epoch,
            epochs=config.epochs,
            images_per_second=rate,
            submission=origin.submission,
            job=origin.job,
            host=host,
            when=utc_now(),
        )
        write_record(folder, PROGRESS, progress)

    print(f"run {name}: {config.model_dump_json()} seed {seed} on {device}", flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE).unlink(missing_ok=True)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        energy = energy_joules(device)
        trained = train(config, seed, data, device, packs, report_progress)
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
            data=_data_record(data, trained),
            device=describe_device(device),
            libraries=library_versions(),
            code=origin.code,
            job=origin.job,
            host=host,
            started=started,
            wall_seconds=time.perf_counter() - start,
            images_per_second=trained.images_per_second,
            peak_memory_bytes=trained.peak_memory_bytes,
            energy_joules=_spent(energy, energy_joules(device)),
        )
        write_record(folder, RESULT, result)
    except Exception as error:
        record_failure(runs, name, error, origin)
        raise
    (folder / PROGRESS).unlink(missing_ok=True)
    print(f"run {name}: {result.status}, validation accuracy {result.val_accuracy}", flush=True)
    return result


def record_failure(runs: Path, name: str, error: Exception, origin: Origin) -> None:
    """Leave failure.json in the folder of run `name`, and no progress."""
    failure = Failure(
        run_id=name,
        error=one_line(error),
        traceback="".join(traceback.format_exception(error)),
        mistake=isinstance(error, UserError),
        submission=origin.submission,
        job=origin.job,
        host=socket.gethostname(),
        log=origin.log,
        when=utc_now(),
    )
    write_record(runs / name, FAILURE, failure)
    (runs / name / PROGRESS).unlink(missing_ok=True)


def one_line(error: Exception) -> str:
    """What went wrong in one line; a UserError as it stands, also when a DataLoader worker raised it."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, UserError):
        return lines[-1].partition(f"{UserError.__name__}: ")[2] or lines[-1]
    return f"{type(error).__name__}: {lines[-1]}"


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


def _spent(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def describe_device(device: torch.device) -> Device:
    """The device's type and model name."""
    if device.type == "cuda":
        return Device(type="cuda", name=torch.cuda.get_device_name(device))
    return Device(type="cpu", name=_cpu_name())


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "cpu"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "cpu")
