"""Why a run failed, and how it is asked to stop. Works without torch, which a node may fail to import."""

import contextlib
import errno
import importlib
import os
import resource
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.cli import UserError
from caltech_exp.files import remove, utc_now
from caltech_exp.machine import host_name
from caltech_exp.provenance import TaskOrigin
from caltech_exp.records import write_record
from caltech_exp.study.lease import LeaseLostError, acquire, hold
from caltech_exp.study.results import FAILURE, PROGRESS, Failure, FailureKind, read_finished
from caltech_exp.study.run_status import newer_record, remove_after_result
from caltech_exp.training.dynamo import postpone_dynamo

# Texts in the messages of errors.
NODE_ERRORS = (  # of CUDA (CUDA Runtime API, cudaError), and of Python on a node with too many processes
    "CUDA driver initialization failed",
    "CUDA error: unknown error",
    "CUDA unknown error",
    "ECC error",
    "GPU is lost",
    "busy or unavailable",
    "can't start new thread",
    "fallen off the bus",
    "hardware stack error",
    "no CUDA-capable device",
    "system not yet initialized",
    "unspecified launch failure",
)
GPU_MEMORY_ERRORS = ("CUDA error: out of memory", "CUDA out of memory", "STATUS_ALLOC_FAILED")
NO_CUDNN_ENGINE = "unable to find an engine to execute this computation"
MEMORY_ERRORS = ("failed to map segment", "Cannot allocate memory", "DefaultCPUAllocator")
MISSING_LIBRARY = "cannot open shared object file"  # dlopen(3)

DISK_ERRORS = (errno.EIO, errno.ENXIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT)  # not a full disk
ALMOST_FULL = 0.1  # share of free GPU memory
LIBRARIES = ("numpy", "torch", "torchvision")


class NodeError(Exception):
    """The node is broken."""


class LibraryError(Exception):
    """A library cannot be imported in this task."""

    def __init__(self, name: str, error: Exception) -> None:
        node = os.environ.get("SLURMD_NODENAME") or host_name()
        super().__init__(f"{name} cannot be imported on {node}: {error_line(error)}{_hint(error)}")


class Interrupted(BaseException):
    """The run was asked to stop and has saved a checkpoint; this is no failure."""


@dataclass
class StopRequest:
    """Asks the run that trains in this process to stop; the signal handler sets it.

    listening  whether the run checks it: from its first step until its result is written
    requested  whether the run shall save a checkpoint and stop
    """

    listening: bool = False
    requested: bool = False


def import_libraries(*, eager: bool = False) -> None:
    """Import what training needs. Raises LibraryError, whatever the import raises.

    eager  whether nothing will be compiled, so that torch's compiler need not be loaded
    """
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
            if name == "torch" and eager:
                postpone_dynamo()
        except Exception as error:
            raise LibraryError(name, error) from error


def _hint(error: Exception) -> str:
    if _is_missing_package(error):
        return f"; {sys.executable} does not have it: check python and setup in the profile"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _is_memory_error(error) and limit != resource.RLIM_INFINITY:
        return (
            f"; the task may use {limit / 2**30:.1f} GiB of address space (ulimit -v): raise that limit where you "
            "submit, or set sbatch: {propagate: NONE} in the profile"
        )
    return ""


def _is_missing_package(error: BaseException) -> bool:
    return isinstance(error, ModuleNotFoundError) and "." not in (error.name or ".")


def _is_memory_error(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return any(text in str(error) for text in MEMORY_ERRORS)


def kind_of(error: BaseException) -> FailureKind:
    """The kind of failure that an exception stands for, also one raised in a DataLoader worker."""
    message = str(error)
    if isinstance(error, LibraryError):
        return _kind_of_import_error(error.__cause__ or error)
    if isinstance(error, UserError):
        return "mistake"
    if isinstance(error, _torch_error("OutOfMemoryError")):
        return "gpu_memory"
    if isinstance(error, RuntimeError) and any(text in message for text in GPU_MEMORY_ERRORS):
        return "gpu_memory"
    # cuDNN finds no algorithm, most often because none fits into the memory that is left; it does not say so.
    if isinstance(error, RuntimeError) and NO_CUDNN_ENGINE in message and _gpu_is_almost_full():
        return "gpu_memory"
    if _is_memory_error(error):
        return "memory"
    if isinstance(error, NodeError) or (isinstance(error, OSError) and error.errno in DISK_ERRORS):
        return "node"
    if isinstance(error, ImportError | OSError) and MISSING_LIBRARY in message:
        return "node"
    if isinstance(error, RuntimeError) and any(text in message for text in NODE_ERRORS):
        return "node"
    return "error"


def _kind_of_import_error(error: BaseException) -> FailureKind:
    """The node is at fault unless the error says otherwise: other nodes import the same libraries."""
    if _is_missing_package(error):
        return "mistake"
    if _is_memory_error(error):
        is_limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        return "mistake" if is_limited else "memory"
    kind = kind_of(error)
    return "node" if kind == "error" else kind


def _torch_error(name: str) -> tuple[type[BaseException], ...]:
    """A class of torch's exceptions; none while torch is not imported, since nothing can have raised it."""
    error_class = getattr(sys.modules.get("torch"), name, None)
    return (error_class,) if error_class else ()


def _gpu_is_almost_full() -> bool:
    """False without a GPU, and for one that does not answer."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:
        return False
    return bool(free < ALMOST_FULL * total)


def record_failure(runs: Path, name: str, error: Exception, origin: TaskOrigin) -> None:
    """Replace the progress of run `name`, whose lease is held, by failure.json; on a full disk print the error."""
    failure = Failure(
        run_id=name,
        error=error_line(error),
        traceback="".join(traceback.format_exception(error)),
        kind=kind_of(error),
        submission=origin.submission,
        job=origin.job,
        host=host_name(),
        node=host_name(os.environ.get("SLURMD_NODENAME", "")),
        log=origin.log,
        when=utc_now(),
    )
    try:
        write_record(runs / name, FAILURE, failure)
        remove(runs / name / PROGRESS)
    except (OSError, MemoryError) as reason:
        with contextlib.suppress(OSError):  # the log may be on the same disk
            print_unrecorded(name, error, reason)


def record_failure_of_free_run(
    runs: Path, name: str, error: Exception, origin: TaskOrigin, fingerprint: str
) -> None:
    """Record that a run failed before it was trained on the data of `fingerprint`.

    Nothing is recorded for a run that is finished, that another process trains, or that a newer version of
    caltech_exp left a record of.
    """
    folder = runs / name
    if newer := newer_record(folder):
        print(f"run {name} failed ({error_line(error)}); nothing is recorded: {newer.complaint('')}", flush=True)
        return
    try:
        lease = acquire(folder, origin.job, wait=False)
        if lease is None:
            print(f"run {name} is skipped: another process trains it, or did so a moment ago", flush=True)
            return
        with hold(lease):
            if read_finished(folder, fingerprint):
                remove_after_result(folder)
            else:
                record_failure(runs, name, error, origin)
    except LeaseLostError as lost:
        print(f"run {name}: {lost}", flush=True)
    except (OSError, MemoryError) as reason:
        print_unrecorded(name, error, reason)


def print_unrecorded(name: str, error: Exception, reason: Exception | None = None) -> None:
    """Print why run `name` failed where failure.json cannot be written, and why it cannot."""
    because = f" ({reason})" if reason else ""
    print(f"run {name} failed, and the failure cannot be recorded{because}: {error_line(error)}", flush=True)


def error_line(error: Exception) -> str:
    """An exception in one line; a UserError without its class, also when a DataLoader worker raised it."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, UserError):
        return lines[-1].partition(f"{UserError.__name__}: ")[2] or lines[-1]
    if isinstance(error, NodeError | LibraryError):
        return lines[-1]
    return f"{type(error).__name__}: {lines[-1]}" if lines[-1] else type(error).__name__
