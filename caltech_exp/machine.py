"""This machine: its processes, its CPU, its GPUs. No torch."""

import ctypes
import functools
import os
import platform
import re
import socket
from functools import lru_cache
from pathlib import Path

from caltech_exp.child_environment import ask_tool


def host_name(name: str | None = None) -> str:
    """A machine's name as a record holds it (record.HostName): this one's where none is given."""
    return re.sub(r"[^\w.:()-]", "_", socket.gethostname() if name is None else name)[:255]


def machine() -> str:
    """This boot of this machine and this name space of process numbers; empty where Linux does not tell.

    Machines that were cloned while they ran have the same: compare the host's name too.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 (text, not a path)
            return ""  # the /proc of another name space: its numbers are not ours
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_alive(pid: int, started: int) -> bool | None:
    """Whether the process `pid` that started then still lives on this machine; None if that cannot be known.

    A /proc that is mounted with hidepid shows no processes of other users, whether they live or not.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's, perhaps one that has the number now
        pass
    state, start = _stat(pid) or ("", 0)
    if not state:
        return None
    return state not in "ZX" and start == started


def start_of(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if there is none to be seen, or only its remains
    (a zombie)."""
    state, start = _stat(pid) or ("X", 0)
    return None if state in "ZX" else start


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process, None if /proc does not show it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return (fields[0], int(fields[19])) if len(fields) > 19 else None


FOLDER = Path("/proc/driver/nvidia/gpus")
"""Of the driver, one entry per GPU. WSL2 and some sandboxes have GPUs and no such folder."""
ENTRY = re.compile(r"[0-9]+|(GPU|MIG)-\S+")
"""What CUDA_VISIBLE_DEVICES may name a GPU by: its number, or its UUID or that of a part of it."""
NVIDIA_SMI_SECONDS = 10.0


def local_gpus() -> tuple[str, ...]:
    """Those that this process may use, as CUDA_VISIBLE_DEVICES names them; as CUDA, up to the first wrong name.

    Without the driver's folder that variable is trusted where it is set, and nvidia-smi is asked where it is not.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = len(list(FOLDER.iterdir())) if FOLDER.is_dir() else None
    if visible is None or count == 0:
        return tuple(map(str, range(_count_of_nvidia_smi() if count is None else count)))
    found: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if not ENTRY.fullmatch(entry):
            break
        found.append(entry)
    return tuple(found)


@functools.cache
def _count_of_nvidia_smi() -> int:
    """How many GPUs nvidia-smi lists; none where it is not there or does not answer. Asked once per process."""
    listed = ask_tool(["nvidia-smi", "-L"], NVIDIA_SMI_SECONDS) or ""
    return sum(line.startswith("GPU ") for line in listed.splitlines())


BF16_ON_X86 = {"avx512bw", "avx512dq", "avx512vl"}
"""What oneDNN, which computes torch's convolutions on a CPU, needs for bf16 at all (its developer guide, CPU data
types); without them torch falls back to loops of its own."""


@lru_cache(maxsize=1)
def computes_bf16() -> bool:
    """Whether convolutions in bf16 are computed by vector instructions here; True where that cannot be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return True
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    match platform.machine():
        case "x86_64":
            return flags >= BF16_ON_X86
        case "aarch64":
            return "bf16" in flags
        case _:
            return True


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""
TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, on Linux with glibc; elsewhere nothing changes.

    Every step allocates the same hundreds of megabytes of activations. By default each is mapped anew, and the
    page faults take longer than the smaller layers. Large pages come with it where this is called before torch is
    imported. No number of a run depends on it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, TOP_PAD_BYTES)
