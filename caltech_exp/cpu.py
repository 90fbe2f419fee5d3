"""What this machine's processor can do, without torch."""

import platform
from functools import lru_cache
from pathlib import Path

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
