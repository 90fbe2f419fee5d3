"""How many images to process at a time."""

from collections.abc import Iterator

import torch

CUDA_IMAGES = 32
"""Enough to fill a GPU; bicubic sampling takes about 20 MB of working memory for each."""


def chunks(count: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover range(count).

    On the CPU few images at a time, so that what one operation writes is in the cache when the next reads it.
    """
    size = CUDA_IMAGES if device.type == "cuda" else max(1, torch.get_num_threads() // 2)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
