"""This machine: its processes, its CPU, its GPUs. No torch."""

import ctypes
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar


def host_name(name: str | None = None) -> str:
    """A host's name in the form of records.HostName; this machine's by default."""
    return re.sub(r"[^\w.:()-]", "_", socket.gethostname() if name is None else name)[:255]


def machine_id() -> str:
    """The boot of this machine and the namespace of its process ids; empty where Linux does not tell.

    Machines cloned while they ran share it, so compare the host's name too.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 (text, not a path)
            return ""  # /proc belongs to another namespace, whose process ids are not ours
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_alive(pid: int, started: int) -> bool | None:
    """Whether the process `pid` that started at `started` (see `process_start`) still lives on this machine.

    None if that cannot be known: with hidepid, /proc hides other users' processes, alive or not.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process, which may have reused the id
        pass
    state, start = _stat(pid) or ("", 0)
    if not state:
        return None
    return state not in "ZX" and start == started


def process_start(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if it is hidden, gone or a zombie."""
    state, start = _stat(pid) or ("X", 0)
    return None if state in "ZX" else start


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process; None if /proc does not show it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return (fields[0], int(fields[19])) if len(fields) > 19 else None


Answer = TypeVar("Answer")


def ask_nvml(question: Callable[[Any], Answer]) -> Answer | None:
    """What `question(pynvml)` returns; None without an NVIDIA driver or GPU, or if the GPU cannot answer."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return question(pynvml)
    except pynvml.NVMLError:
        return None


def nvidia_driver() -> str | None:
    """The version of the NVIDIA driver, None without one."""
    return ask_nvml(lambda nvml: str(nvml.nvmlSystemGetDriverVersion()))


FOLDER = Path("/proc/driver/nvidia/gpus")
"""The driver's folder with one entry a GPU. WSL2 and some sandboxes have GPUs but no such folder."""
GPU_NAME = re.compile(r"[0-9]+|(GPU|MIG)-\S+")  # a number or a UUID, of a GPU or of a part of one


def local_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; like CUDA, up to the first bad name.

    Without the driver's folder that variable is trusted if it is set, otherwise NVML counts the GPUs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(list(FOLDER.iterdir())) if FOLDER.is_dir() else None
    if visible is None or count == 0:
        return tuple(map(str, range(_nvml_count() if count is None else count)))
    names = (name.strip() for name in visible.split(","))
    return tuple(takewhile(GPU_NAME.fullmatch, names))


@lru_cache(maxsize=1)
def _nvml_count() -> int:
    return ask_nvml(lambda nvml: int(nvml.nvmlDeviceGetCount())) or 0


def first_gpu_name() -> str:
    """`NVIDIA H100 80GB HBM3`"""
    name = ask_nvml(lambda nvml: str(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0))))
    return name or "unknown"


BF16_ON_X86 = {"avx512bw", "avx512dq", "avx512vl"}
"""What oneDNN, which computes torch's convolutions on a CPU, needs for bf16 (its developer guide, CPU data types).
Without them torch falls back to slow loops of its own."""


def processor_name() -> str:
    """`AMD EPYC`, as the kernel calls this CPU; `cpu` if it gives no name."""
    return next(_cpu_info("model name"), "cpu")


def _cpu_info(*labels: str) -> Iterator[str]:
    """What /proc/cpuinfo has on its lines with one of these labels; nothing where it cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return iter(())
    return (line.partition(":")[2].strip() for line in lines if line.lower().startswith(labels))


@lru_cache(maxsize=1)
def computes_bf16() -> bool:
    """Whether this CPU computes bf16 convolutions with vector instructions; True if that cannot be known."""
    flags = {flag for line in _cpu_info("flags", "features") for flag in line.split()}
    if not flags:
        return True
    match platform.machine():
        case "x86_64":
            return flags >= BF16_ON_X86
        case "aarch64":
            return "bf16" in flags
        case _:
            return True


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt(3)
TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, on Linux with glibc; elsewhere nothing changes.

    Every step allocates the same hundreds of megabytes of activations. By default each step
    maps them again, and the page faults take longer than the smaller layers. It changes no number of a run.
    torch's own large pages (THP_MEM_ALLOC_ENABLE) stay off: their alignment keeps glibc from using freed memory
    again (docs/performance.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, TOP_PAD_BYTES)
