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


def choose_device(wanted: str) -> torch.device:
    """`cuda`, `cpu`, or `auto` for cuda where there is one.

    A run never falls back to the CPU by itself: where CUDA was asked for and cannot be used, this raises NodeError
    if Slurm has given the task a GPU and torch is built for it, and UserError otherwise.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        host = socket.gethostname()
        if torch.version.cuda and os.environ.get("CUDA_VISIBLE_DEVICES") and any(map(os.environ.get, GIVEN)):
            raise NodeError(
                f"this task on {host} was given a GPU (CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}) "
                "and CUDA cannot use it; the driver or the GPU is broken: retry=failed leaves this node out"
            )
        raise UserError(
            f"this task on {host} asked for a GPU and finds none; check gpus_per_node or gres "
            "in the profile and the CUDA build of torch, or set device: cpu in the profile"
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


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
