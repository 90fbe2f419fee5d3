"""Freed memory is kept for the next step."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
FAULTS = """
import resource
{first}
import torch
{then}
torch.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**22)  # 16 MB, as the activations of a layer
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from caltech_exp.machine import keep_freed_memory; keep_freed_memory()"


def faults(first: str = "", then: str = "") -> int:
    """Page faults of a new process that allocates the same memory again and again."""
    code = FAULTS.format(first=first, then=then)
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def are_fewer(first: str = "", then: str = "") -> bool:
    """Whether there are less than half as many as by default.

    Asked up to three times: beside others, a kernel short of memory takes some back now and then.
    """
    default = faults()
    assert default > 20 * 2**24 / 2**21  # a fault for each page, large ones at the most
    return any(faults(first, then) < default / 2 for _ in range(3))


def test_memory_once_freed_is_used_again_without_page_faults() -> None:
    assert are_fewer(first=KEEP)


def test_asking_twice_and_after_torch_does_no_harm() -> None:
    assert are_fewer(then=f"{KEEP}; keep_freed_memory()")
