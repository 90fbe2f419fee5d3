"""The device of a run: choose it, describe it, make it deterministic, read its energy."""

import os
import socket
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.machine import ask_nvml, computes_bf16, nvidia_driver
from caltech_exp.study.results import Device
from caltech_exp.training.failures import NodeError

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


def cuda_versions(device: torch.device) -> dict[str, str]:
    """Versions by name, to stand beside provenance.library_versions; none on a CPU.

    torch_build    of torch with its build, as in `2.9.0+cu130`
    cuda, cudnn    that torch runs with; cuDNN's as it numbers itself, 91300 for 9.13.0
    nvidia_driver  of this machine, where nvidia-ml-py can ask it
    """
    if device.type != "cuda":
        return {}
    found = {
        "torch_build": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nvidia_driver": nvidia_driver(),
    }
    return {name: str(version) for name, version in found.items() if version}


def energy_joules(device: torch.device) -> float | None:
    """The device's own counter, in joules since its driver was loaded; differences of it mean something.

    None on a CPU, on GPUs without a counter (before NVIDIA's Volta), in a MIG slice, and without nvidia-ml-py. The
    counter is the whole board's: two runs that share a GPU both count everything.
    """
    if device.type != "cuda":
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return ask_nvml(
        lambda nvml: nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByUUID(uuid)) / 1000
    )
