"""The hardware's limit: square matrix products."""

import torch

from caltech_exp.benchmark.clocks import fastest

SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
"""Rows and columns; the best size differs from machine to machine."""


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of the fastest product of two square matrices (2 n^3 operations)."""
    return max(_rate(n, device, dtype) for n in SIZES[device.type])


def _rate(n: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * n**3 / fastest(lambda: torch.mm(a, b, out=out), device, rounds=3)
