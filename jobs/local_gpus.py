"""The GPUs of this machine, found without importing torch."""

import os
import re
from pathlib import Path

ENTRY = re.compile(r"[0-9]+|(GPU|MIG)-\S+")
"""What CUDA_VISIBLE_DEVICES may name a GPU by: its number, or its UUID or that of a part of it."""


def local_gpus() -> tuple[str, ...]:
    """Those that this process may use, as CUDA_VISIBLE_DEVICES names them; as CUDA, up to the first wrong name."""
    present = tuple(str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not present:
        return present
    found: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if not ENTRY.fullmatch(entry):
            break
        found.append(entry)
    return tuple(found)
