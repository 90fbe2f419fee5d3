"""From packed pixels to the network's input, on the device, bit for bit as the reference's transforms give it."""

from collections.abc import Callable

import torch

from caltech_exp.transforms import Statistics

CHUNK = {"cpu": 16, "cuda": 128}
"""Images converted at a time: on a CPU their float32 form (10 MB) stays in its cache; on a GPU it is 77 MB of its
memory, where that of a whole evaluation batch would be the largest thing there."""


def normalization(
    statistics: Statistics, device: torch.device, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """ToTensor and Normalize of the reference engine for whole batches.

    The function returned takes uint8 [n, h, w, 3] to [n, 3, h, w] of `dtype` in channels_last layout. In bfloat16
    the values are those of float32, rounded as autocast would round them.
    """
    # Tensors, not plain numbers: CUDA divides by a number as it multiplies by its reciprocal, off in the last bit.
    scale = torch.tensor(255.0, device=device)
    mean, std = (torch.tensor(values, device=device) for values in statistics)

    def normalize(images: torch.Tensor) -> torch.Tensor:
        n, height, width, channels = images.shape
        rows = images.reshape(n, height, width * channels)
        out = torch.empty(rows.shape, dtype=dtype, device=device)
        row_mean, row_std = mean.repeat(width), std.repeat(width)
        chunk = CHUNK[device.type]
        for start in range(0, n, chunk):
            part = slice(start, start + chunk)
            out[part] = rows[part].to(torch.float32).div_(scale).sub_(row_mean).div_(row_std)
        return out.view(images.shape).permute(0, 3, 1, 2)

    return normalize
