"""The GPUs of this machine, found without importing torch."""

import functools
import os
import re
from pathlib import Path

from caltech_exp.child_environment import ask_tool

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
