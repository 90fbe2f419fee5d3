"""What the device can do: bf16, compiled networks, copies that nobody waits for."""

import os
import shutil
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.cpu import computes_bf16
from caltech_exp.errors import UserError

OLDEST_FOR_TRITON = (7, 0)
"""Compute capability, NVIDIA's Volta: torch.compile refuses older GPUs (torch/utils/_triton.py, has_triton)."""


def arithmetic(config: RunConfig, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """The context for forward passes of engine=fast: autocast to bfloat16, or none for fp32.

    Raises UserError for bf16 on a GPU that has none in hardware (before NVIDIA's Ampere). A CPU without it
    computes the same, slowly.
    """
    if config.precision == "fp32":
        return nullcontext
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"the GPU {name} does not compute in bf16; submit with precision=fp32")
    if device.type == "cpu" and not computes_bf16():
        print("this CPU does not compute in bf16 and emulates it, slowly: precision=fp32 is faster", flush=True)
    return partial(torch.autocast, device.type, torch.bfloat16)


def input_type(config: RunConfig) -> torch.dtype:
    """The type of the network's input: what autocast would make of float32."""
    return torch.float32 if config.precision == "fp32" else torch.bfloat16


def compiled(net: nn.Module, device: torch.device, cache: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """On CUDA the network through torch.compile, on a CPU as it is.

    The compiled code is kept in `cache` where that can be written, unless TORCHINDUCTOR_CACHE_DIR names another
    place: array tasks that share it compile once. Where something is missing that Triton needs, the log says what
    and the network is used as it is.
    """
    if device.type != "cuda":
        return net
    if missing := _missing_for_triton(device):
        print(f"{missing}: training without torch.compile", flush=True)
        return net
    if os.access(cache.parent, os.W_OK):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net, dynamic=False)
    return forward


def _missing_for_triton(device: torch.device) -> str | None:
    """What torch.compile would fail for at the first step: Triton builds a C extension of Python on the node."""
    if not (os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler on this machine"
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        return f"no {headers / 'Python.h'} on this machine (the package python3-dev or python3-devel has it)"
    if torch.cuda.get_device_capability(device) < OLDEST_FOR_TRITON:
        return f"Triton does not know GPUs as old as this {torch.cuda.get_device_name(device)}"
    return None


def make_deterministic(device: torch.device) -> None:
    """Let the device compute the same bits from the same numbers every time, as far as PyTorch can.

    On CUDA: deterministic algorithms where there are any (a warning in the log names an operation that has none),
    a fixed workspace for cuBLAS, and convolutions in fp32 as the report's GPUs computed them, not in the TF32 that
    newer ones default to. A CPU computes the same bits by itself, given the same number of threads.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on the device, without waiting for the device."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
