"""The hardware's limit: square matrix products."""

from functools import partial

import torch

from caltech_exp.benchmark.clocks import fastest

SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
"""Rows and columns; the best size differs from machine to machine."""
POSITIONS = 8
"""Height and width of the images whose 1 x 1 convolution is the same product."""


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of the fastest product of two square matrices (2 n^3 operations).

    As torch.mm and as a 1 x 1 convolution: torch hands the two to different libraries, and which is faster depends
    on the processor.
    """
    return max(_rate(n, device, dtype) for n in SIZES[device.type])


def _rate(n: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    images = a.view(-1, POSITIONS, POSITIONS, n).permute(0, 3, 1, 2)  # channels_last
    weights = b.view(n, n, 1, 1)
    products = (partial(torch.mm, a, b, out=torch.empty_like(a)), partial(torch.conv2d, images, weights))
    return 2 * n**3 / min(fastest(product, device, rounds=2) for product in products)
