"""Crops out of a store of images of different sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from caltech_exp.augment.chunks import chunks
from caltech_exp.augment.draws import padding
from caltech_exp.augment.parameters import SIDE
from caltech_exp.hardware import send


@dataclass(frozen=True)
class Packed:
    """Images one after the other, row by row.

    pixels: uint8 [all pixels, 3], on the device.
    offsets, heights, widths: int64 [images], on the CPU, in pixels; an image's first pixel is pixels[offset].
    """

    pixels: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor


def crop(packed: Packed, samples: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """SIDE x SIDE crops: uint8 [n, SIDE, SIDE, 3] on the store's device.

    samples: which images of the store; top, left: the crop's corner in pixels of the padded image, as
    draws.crop_corners gives them; all int64 [n] on the CPU. Smaller images are padded by repeating their edge, as
    by torchvision's RandomCrop(pad_if_needed=True, padding_mode="edge").
    """
    device = packed.pixels.device
    offsets, heights, widths = (sizes[samples] for sizes in (packed.offsets, packed.heights, packed.widths))
    # An index clamped into the image is edge padding.
    rows = _clamped(top - padding(heights), heights) * widths[:, None] + offsets[:, None]
    columns = _clamped(left - padding(widths), widths)
    rows, columns = send(rows, device), send(columns, device)
    crops = torch.empty(len(samples), SIDE, SIDE, 3, dtype=torch.uint8, device=device)
    for some in chunks(len(samples), device):
        index = rows[some, :, None] + columns[some, None, :]
        torch.index_select(packed.pixels, 0, index.view(-1), out=crops[some].view(-1, 3))
    return crops


def _clamped(first: Tensor, sizes: Tensor) -> Tensor:
    """For each sample the SIDE rows (or columns) from `first`, those outside 0..size-1 moved to the edge."""
    wanted = first[:, None] + torch.arange(SIDE)
    return torch.minimum(wanted.clamp(min=0), sizes[:, None] - 1)
