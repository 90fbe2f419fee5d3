"""The device of a run: choose it, describe it, make it deterministic, read its energy."""

import os
import socket
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.machine import ask_nvml, computes_bf16, nvidia_driver, processor_name
from caltech_exp.study.results import Device
from caltech_exp.training.failures import NodeError

TF32_OVERRIDE = "NVIDIA_TF32_OVERRIDE"
POOL_WARNING = "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation"
SLURM_GPUS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")  # set in a task that was given a GPU
DRIVER_TOO_OLD = ("driver on your system is too old", "driver version is insufficient")
NO_KERNEL = "no kernel image"  # CUDA's cudaErrorNoKernelImageForDevice


def autocast(config: RunConfig, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """The context of the fast engine's forward passes: autocast to bfloat16, or none for fp32.

    A CPU without bf16 emulates it. A GPU without it (before NVIDIA's Ampere) raises UserError.
    """
    if config.precision == "fp32":
        return nullcontext
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name(device)
        raise UserError(f"the GPU {name} does not compute in bf16; submit with precision=fp32")
    if device.type == "cpu" and not computes_bf16():
        print("this CPU emulates bf16, which is slow; precision=fp32 is faster", flush=True)
    return partial(torch.autocast, device.type, torch.bfloat16)


def input_type(config: RunConfig) -> torch.dtype:
    """The type of the network's inputs: what autocast would convert float32 to."""
    return torch.float32 if config.precision == "fp32" else torch.bfloat16


def make_deterministic(config: RunConfig, device: torch.device) -> None:
    """Make the device compute the same bits from the same numbers, as far as PyTorch can.

    On CUDA this means deterministic algorithms (PyTorch warns of an operation that has none), a fixed workspace
    for cuBLAS, and no TF32, which newer GPUs and TORCH_ALLOW_TF32_CUBLAS_OVERRIDE turn on. A CPU computes the
    same bits anyway, given the same number of threads.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # AlexNet's pool maps 6 x 6 to 6 x 6: each input gets one addend, so their order does not matter. A custom
    # network that trains later in the same process may have another pool.
    warnings.filterwarnings("ignore" if config.model == "alexnet" else "default", message=POOL_WARNING)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def require_fp32(config: RunConfig, device: torch.device) -> None:
    """Raise UserError if the environment makes CUDA compute fp32 in TF32, which torch cannot undo."""
    override = os.environ.get(TF32_OVERRIDE, "")
    if device.type == "cuda" and config.precision == "fp32" and override not in ("", "0"):
        raise UserError(
            f"{TF32_OVERRIDE}={override} lets the GPU compute fp32 in TF32, whatever torch asks for; unset it on "
            f"the node, for example by the line `unset {TF32_OVERRIDE}` in the profile's setup"
        )


def to_device_async(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a CPU tensor to the device without waiting for the device."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def choose_device(name: str) -> torch.device:
    """The device `cuda` or `cpu`, or for `auto` cuda if there is one.

    A run never falls back to the CPU by itself. If CUDA cannot be used, NodeError means that the node is broken:
    Slurm has given the task a GPU, and torch is built for CUDA. UserError means anything else, and also a driver
    or a GPU that is too old for this torch.
    """
    is_available = torch.cuda.is_available()
    if name == "cuda" and not is_available:
        raise _unusable_cuda()
    device = torch.device("cuda" if is_available and name != "cpu" else "cpu")
    if device.type == "cuda":
        _check_kernels(device)
    return device


def _unusable_cuda() -> UserError | NodeError:
    host, visible = socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        reason = ""
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch is built without CUDA
        reason = str(error)
    if any(text in reason for text in DRIVER_TOO_OLD):
        return UserError(
            f"the NVIDIA driver on {host} is too old for torch {torch.__version__}, built for CUDA "
            f"{torch.version.cuda}; install a torch built for an older CUDA (pytorch.org, previous versions), "
            "or leave such nodes out by exclude or constraint in the profile"
        )
    if torch.version.cuda and visible and any(map(os.environ.get, SLURM_GPUS)):
        return NodeError(
            f"this task on {host} was given a GPU (CUDA_VISIBLE_DEVICES={visible}) and CUDA cannot use it; "
            "the driver or the GPU is broken: retry=failed leaves this node out"
        )
    return UserError(
        f"this task on {host} asked for a GPU and finds none; check gpus_per_node or gres "
        "in the profile and the CUDA build of torch, or set device: cpu in the profile"
    )


def _check_kernels(device: torch.device) -> None:
    """Raise UserError if this torch was built without code for the GPU."""
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
    """After a failure: the error with which CUDA now answers every call of this process, or an empty string.

    An illegal access, a failed launch, a device-side assertion or an uncorrectable memory error has this effect;
    running out of memory does not.
    """
    if device.type != "cuda":
        return ""
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return ""


def describe_device(device: torch.device) -> Device:
    if device.type == "cuda":
        return Device(type="cuda", name=torch.cuda.get_device_name(device))
    return Device(type="cpu", name=processor_name())


def cuda_versions(device: torch.device) -> dict[str, str]:
    """Versions that matter on a GPU only, by name; cuDNN's is its own number, 91300 for 9.13.0."""
    if device.type != "cuda":
        return {}
    versions = {
        "torch_build": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nvidia_driver": nvidia_driver(),
    }
    return {name: str(version) for name, version in versions.items() if version}


def energy_joules(device: torch.device) -> float | None:
    """The device's energy counter, which starts when its driver is loaded; None without a counter.

    CPUs, GPUs before NVIDIA's Volta and MIG slices have none. It counts the whole board: two runs that share a GPU
    both count everything.
    """
    if device.type != "cuda":
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    return ask_nvml(
        lambda nvml: nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByUUID(uuid)) / 1000
    )
