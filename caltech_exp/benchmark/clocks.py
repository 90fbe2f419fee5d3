"""Timing on a device that may still be busy, and on a machine that may not be ours alone."""

import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, everything it queued on the device included."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def fastest(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The shortest of `rounds` times, after one that does not count: other load on the machine only adds."""
    work()
    return min(seconds(work, device) for _ in range(rounds))


def wait(device: torch.device) -> None:
    """Until the device has done all that was queued on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
