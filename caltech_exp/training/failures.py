"""Why a run failed, and how a run is asked to stop. No torch, which a node may not be able to import.

Works without torch, which a node may not be able to import.
"""

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
from caltech_exp.files import utc_now
from caltech_exp.machine import host_name
from caltech_exp.provenance import Origin
from caltech_exp.records import write_record
from caltech_exp.study.lease import LeaseLostError, acquire, hold
from caltech_exp.study.results import FAILURE, PROGRESS, Failure, FailureKind, read_finished
from caltech_exp.study.run_status import newer_record, remove_after_result

OF_A_NODE = (
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
"""In the messages of errors that the node is to blame for, not the program: CUDA's (CUDA Runtime API, cudaError),
and Python's on a node with too many processes."""
OF_GPU_MEMORY = ("CUDA error: out of memory", "CUDA out of memory", "STATUS_ALLOC_FAILED")
"""In errors of a full GPU that are no torch.OutOfMemoryError: a context's, a library's workspace."""
NO_ENGINE = "unable to find an engine to execute this computation"
"""Of cuDNN, where no algorithm is left: most often for want of memory to work in, which it does not say."""
ALMOST_FULL = 0.1
"""Share of the GPU's memory below which cuDNN is taken to have wanted more of it."""
OF_A_DISK = (errno.EIO, errno.ENXIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT)
"""Errors of a node's disks and mounts; a full disk is not among them."""
OF_A_LIBRARY = "cannot open shared object file"
"""In the loader's complaint of a library that is missing (dlopen(3))."""
OF_MEMORY = ("failed to map segment", "Cannot allocate memory", "DefaultCPUAllocator")
"""In what the loader, the system and torch say where there is no more memory."""
LIBRARIES = ("numpy", "torch", "torchvision")
"""What training needs and planning does without."""


class NodeError(Exception):
    """The node cannot do what it should."""


class LibraryError(Exception):
    """A library cannot be imported in this task."""

    def __init__(self, name: str, error: Exception) -> None:
        node = os.environ.get("SLURMD_NODENAME") or host_name()
        super().__init__(f"{name} cannot be imported on {node}: {error_line(error)}{_remedy(error)}")


def import_libraries() -> None:
    """Import what training needs. Raises LibraryError, whatever the import raises."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise LibraryError(name, error) from error


def _remedy(error: Exception) -> str:
    """What to do about an import that failed, where that is clear."""
    if _is_missing_package(error):
        return f"; {sys.executable} does not have it: check python and setup in the profile"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _is_of_memory(error) and limit != resource.RLIM_INFINITY:
        return (
            f"; the task may use {limit / 2**30:.1f} GiB of address space (ulimit -v): raise that limit where you "
            "submit, or set sbatch: {propagate: NONE} in the profile"
        )
    return ""


def _is_missing_package(error: BaseException) -> bool:
    return isinstance(error, ModuleNotFoundError) and "." not in (error.name or ".")


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return any(words in str(error) for words in OF_MEMORY)


def kind_of(error: BaseException) -> FailureKind:
    """What kind of failure an exception is, also one that a DataLoader's worker passed on."""
    text = str(error)
    if isinstance(error, LibraryError):
        return _kind_of_import(error.__cause__ or error)
    if isinstance(error, UserError):
        return "mistake"
    if isinstance(error, _torch_error("OutOfMemoryError")):
        return "gpu_memory"
    if isinstance(error, RuntimeError) and any(words in text for words in OF_GPU_MEMORY):
        return "gpu_memory"
    if isinstance(error, RuntimeError) and NO_ENGINE in text and _gpu_is_almost_full():
        return "gpu_memory"
    if _is_of_memory(error):
        return "memory"
    if isinstance(error, NodeError) or (isinstance(error, OSError) and error.errno in OF_A_DISK):
        return "node"
    if isinstance(error, ImportError | OSError) and OF_A_LIBRARY in text:
        return "node"
    if isinstance(error, RuntimeError) and any(words in text for words in OF_A_NODE):
        return "node"
    return "error"


def _kind_of_import(error: BaseException) -> FailureKind:
    """The node's fault unless something else is clear: the same libraries were imported on others."""
    if _is_missing_package(error):
        return "mistake"
    if _is_of_memory(error):
        limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        return "mistake" if limited else "memory"
    kind = kind_of(error)
    return "node" if kind == "error" else kind


def _torch_error(name: str) -> tuple[type[BaseException], ...]:
    """A class of torch's exceptions; none while torch is not imported: then nothing can have raised it."""
    found = getattr(sys.modules.get("torch"), name, None)
    return (found,) if found else ()


def _gpu_is_almost_full() -> bool:
    """Whether there is little memory left on the GPU in use; not where there is none or it does not answer."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:
        return False
    return bool(free < ALMOST_FULL * total)


def record_failure(runs: Path, name: str, error: Exception, origin: Origin) -> None:
    """Leave failure.json in the folder of run `name`, and no progress; on a full disk, a line in the log.

    Only for who holds the run's lease.
    """
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
        (runs / name / PROGRESS).unlink(missing_ok=True)
    except (OSError, MemoryError) as full:
        with contextlib.suppress(OSError):  # the log may lie on the same disk
            print(f"run {name} failed, and that cannot be written down ({full}): {failure.error}", flush=True)


def record_failure_of_free_run(runs: Path, name: str, error: Exception, origin: Origin, fingerprint: str) -> None:
    """Record that a run failed before it was trained.

    Not if it is finished, another process trains it, or a newer version of caltech_exp has left a record of it.

    fingerprint  of the data set that it is to be trained on
    """
    folder = runs / name
    if newer := newer_record(folder):
        print(f"run {name} failed ({error_line(error)}); it is left as it is: {newer.complaint('')}", flush=True)
        return
    try:
        lease = acquire(folder, origin.job, wait=False)
        if lease is None:
            print(f"run {name}: left as it is, another process trains it or did so a moment ago", flush=True)
            return
        with hold(lease):
            if read_finished(folder, fingerprint):
                remove_after_result(folder)
            else:
                record_failure(runs, name, error, origin)
    except LeaseLostError as lost:
        print(f"run {name}: {lost}", flush=True)
    except (OSError, MemoryError) as reason:
        print(f"run {name} failed, and that cannot be written down ({reason}): {error_line(error)}", flush=True)


def error_line(error: Exception) -> str:
    """What went wrong in one line; a UserError as it stands, also when a DataLoader worker raised it."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, UserError):
        return lines[-1].partition(f"{UserError.__name__}: ")[2] or lines[-1]
    if isinstance(error, NodeError | LibraryError):
        return lines[-1]
    return f"{type(error).__name__}: {lines[-1]}" if lines[-1] else type(error).__name__


class Interrupted(BaseException):
    """The run was asked to stop and has saved where it is; no failure."""


@dataclass
class StopRequest:
    """Tells the run that trains in this process to stop; the signal handler sets it.

    listening  whether the run checks it: from its first step until its result is written
    requested  whether the run shall save a checkpoint and stop
    """

    listening: bool = False
    requested: bool = False
