"""Why a run failed: the user's mistake, memory, a bad node, or anything else."""

import errno
import os
import socket
import traceback
from pathlib import Path

import torch

from caltech_exp.clock import utc_now
from caltech_exp.errors import UserError
from caltech_exp.provenance import Origin
from caltech_exp.results import FAILURE, PROGRESS, Failure, FailureKind, write_record

OF_A_NODE = (
    "CUDA driver initialization failed",
    "CUDA error: unknown error",
    "CUDA unknown error",
    "ECC error",
    "GPU is lost",
    "busy or unavailable",
    "fallen off the bus",
    "hardware stack error",
    "no CUDA-capable device",
    "system not yet initialized",
    "unspecified launch failure",
)
"""In the messages of CUDA errors that the node is to blame for, not the program (CUDA Runtime API, cudaError)."""
OF_GPU_MEMORY = ("CUDA error: out of memory", "CUDA out of memory", "STATUS_ALLOC_FAILED")
"""In errors of a full GPU that are no torch.OutOfMemoryError: a context's, a library's workspace, a compiler's."""
NO_ENGINE = "unable to find an engine to execute this computation"
"""Of cuDNN, where no algorithm is left: most often for want of memory to work in, which it does not say."""
ALMOST_FULL = 0.1
"""Share of the GPU's memory below which cuDNN is taken to have wanted more of it."""
OF_A_DISK = (errno.EIO, errno.ENXIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT)
"""Errors of a node's disks and mounts; a full disk is not among them."""


class NodeError(Exception):
    """The node cannot do what it should."""


def kind_of(error: BaseException) -> FailureKind:
    """What kind of failure an exception is, also one that a DataLoader's worker passed on."""
    text = str(error)
    if isinstance(error, UserError):
        return "mistake"
    if isinstance(error, torch.OutOfMemoryError):
        return "gpu_memory"
    if isinstance(error, RuntimeError) and any(words in text for words in OF_GPU_MEMORY):
        return "gpu_memory"
    if isinstance(error, RuntimeError) and NO_ENGINE in text and _gpu_is_almost_full():
        return "gpu_memory"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return "memory"
    if isinstance(error, NodeError) or (isinstance(error, OSError) and error.errno in OF_A_DISK):
        return "node"
    if isinstance(error, RuntimeError) and any(words in text for words in OF_A_NODE):
        return "node"
    return "error"


def _gpu_is_almost_full() -> bool:
    """Whether there is little memory left on the GPU in use; not where there is none or it does not answer."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:
        return False
    return free < ALMOST_FULL * total


def record_failure(runs: Path, name: str, error: Exception, origin: Origin) -> None:
    """Leave failure.json in the folder of run `name`, and no progress; on a full disk, a line in the log."""
    failure = Failure(
        run_id=name,
        error=one_line(error),
        traceback="".join(traceback.format_exception(error)),
        kind=kind_of(error),
        submission=origin.submission,
        job=origin.job,
        host=socket.gethostname(),
        node=os.environ.get("SLURMD_NODENAME", ""),
        log=origin.log,
        when=utc_now(),
    )
    try:
        write_record(runs / name, FAILURE, failure)
        (runs / name / PROGRESS).unlink(missing_ok=True)
    except OSError as full:
        print(f"run {name} failed, and that cannot be written down ({full}): {failure.error}", flush=True)


def one_line(error: Exception) -> str:
    """What went wrong in one line; a UserError as it stands, also when a DataLoader worker raised it."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, UserError):
        return lines[-1].partition(f"{UserError.__name__}: ")[2] or lines[-1]
    if isinstance(error, NodeError):
        return lines[-1]
    return f"{type(error).__name__}: {lines[-1]}"
