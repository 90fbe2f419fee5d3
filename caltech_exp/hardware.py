"""What the device can do: bf16, the same bits every time, copies that nobody waits for."""

import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from caltech_exp.config import RunConfig
from caltech_exp.cpu import computes_bf16
from caltech_exp.errors import UserError

OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Is stronger than what a program asks NVIDIA's libraries for."""
POOL = "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation"
"""Begins torch's warning of an operation that adds up by several threads at once."""


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


def make_deterministic(config: RunConfig, device: torch.device) -> None:
    """Let the device compute the same bits from the same numbers every time, as far as PyTorch can.

    On CUDA: deterministic algorithms where there are any (a warning in the log names an operation that has none),
    a fixed workspace for cuBLAS, and convolutions and matrix products in fp32 as the report's GPUs computed them,
    not in the TF32 that newer ones, or TORCH_ALLOW_TF32_CUBLAS_OVERRIDE, default to. A CPU computes the same bits
    by itself, given the same number of threads.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # AlexNet's pool maps 6 x 6 onto 6 x 6: one addend per input, so no order changes the sum. Of a network of the
    # user's own, which may come after it in the same process, that is not known.
    warnings.filterwarnings("ignore" if config.model == "alexnet" else "default", message=POOL)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def require_fp32(config: RunConfig, device: torch.device) -> None:
    """Raises UserError where a run in fp32 would compute in TF32 whatever torch asks for.

    NVIDIA's libraries read NVIDIA_TF32_OVERRIDE themselves: at 0 they never use TF32, and at anything else it is
    theirs to decide.
    """
    override = os.environ.get(OVERRIDE, "")
    if device.type == "cuda" and config.precision == "fp32" and override not in ("", "0"):
        raise UserError(
            f"{OVERRIDE}={override} lets the GPU compute fp32 in TF32, whatever torch asks for; unset it on the "
            f"node, for example by the line `unset {OVERRIDE}` in the profile's setup"
        )


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on the device, without waiting for the device."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
