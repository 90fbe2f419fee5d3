"""The device a task trains on."""

import os
import socket
from pathlib import Path

import torch

from caltech_exp.errors import UserError
from caltech_exp.failures import NodeError
from caltech_exp.results import Device

GIVEN = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")
"""What Slurm sets in the environment of a task that it gave a GPU to."""
TOO_OLD = ("driver on your system is too old", "driver version is insufficient")
"""In what torch and CUDA say of a driver older than the CUDA that torch was built for."""
NO_KERNEL = "no kernel image"
"""In CUDA's cudaErrorNoKernelImageForDevice."""


def choose_device(wanted: str) -> torch.device:
    """`cuda`, `cpu`, or `auto` for cuda where there is one.

    A run never falls back to the CPU by itself: where CUDA was asked for and cannot be used, this raises NodeError
    if Slurm has given the task a GPU and torch is built for it, and UserError otherwise: for a driver or a GPU too
    old for this torch as well, whatever node that is.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        host = socket.gethostname()
        if (reason := _why_not()) and any(words in reason for words in TOO_OLD):
            raise UserError(
                f"the NVIDIA driver on {host} is too old for torch {torch.__version__}, built for CUDA "
                f"{torch.version.cuda}; install a torch built for an older CUDA (pytorch.org, previous versions), "
                "or leave such nodes out by exclude or constraint in the profile"
            )
        if torch.version.cuda and os.environ.get("CUDA_VISIBLE_DEVICES") and any(map(os.environ.get, GIVEN)):
            raise NodeError(
                f"this task on {host} was given a GPU (CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}) "
                "and CUDA cannot use it; the driver or the GPU is broken: retry=failed leaves this node out"
            )
        raise UserError(
            f"this task on {host} asked for a GPU and finds none; check gpus_per_node or gres "
            "in the profile and the CUDA build of torch, or set device: cpu in the profile"
        )
    device = torch.device("cuda" if available and wanted != "cpu" else "cpu")
    if device.type == "cuda":
        _check_kernels(device)
    return device


def _why_not() -> str:
    """What CUDA says of itself where it cannot be used."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without CUDA
        return str(error)
    return ""


def _check_kernels(device: torch.device) -> None:
    """Raises UserError if this torch was built without code for the GPU."""
    try:
        torch.zeros(1, device=device).add_(1)
    except RuntimeError as error:
        if NO_KERNEL not in str(error):
            raise
        raise UserError(
            f"torch {torch.__version__} has no code for the {torch.cuda.get_device_name(device)} of "
            f"{socket.gethostname()}, only for {', '.join(torch.cuda.get_arch_list())}; install a torch built for "
            "it (pytorch.org, previous versions), or ask for another GPU by constraint or gres in the profile"
        ) from None


def why_broken(device: torch.device) -> str:
    """After a failure: why this process cannot use the device any more, empty if it can.

    An illegal access, a failed launch, a device-side assertion or an uncorrectable memory error leaves a process
    nothing of CUDA but that error. Running out of memory leaves it whole.
    """
    if device.type != "cuda":
        return ""
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


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
