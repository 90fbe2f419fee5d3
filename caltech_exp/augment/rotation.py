"""Rotation about the centre by an angle for each image, nearest pixel, as Pillow computes it."""

import math

import torch
from torch import Tensor

from caltech_exp.augment.chunks import chunks
from caltech_exp.hardware import send

FIXED_BITS = 16
"""Binary places of the fixed-point numbers in Pillow's affine_fixed (Geometry.c)."""


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Rotated images, same shape, 0 outside: torchvision rotate(NEAREST, expand=False, fill=0) on a PIL image.

    images: uint8 [n, height, width, 3] on any device, changed in place and returned; angles: degrees
    counterclockwise, float [n] on the CPU.
    """
    count, height, width, _ = images.shape
    device = images.device
    matrices = [_fixed_matrix(angle, height, width) for angle in angles.tolist()]
    a0, a1, a2, a3, a4, a5 = send(torch.tensor(matrices, dtype=torch.int32).view(-1, 6), device).unbind(1)
    across = torch.arange(width, dtype=torch.int32, device=device)
    down = torch.arange(height, dtype=torch.int32, device=device)
    x_of_row, x_of_column = a2[:, None] + a1[:, None] * down, a0[:, None] * across
    y_of_row, y_of_column = a5[:, None] + a4[:, None] * down, a3[:, None] * across
    black = images.new_zeros(1, 3)
    for some in chunks(count, device):
        x = (x_of_row[some, :, None] + x_of_column[some, None, :]) >> FIXED_BITS
        y = (y_of_row[some, :, None] + y_of_column[some, None, :]) >> FIXED_BITS
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        source = images[some]
        first = torch.arange(len(source), dtype=torch.int32, device=device)[:, None, None] * (height * width)
        # Points outside read the black pixel that is put after the images.
        pixel = torch.where(inside, y.mul_(width).add_(x).add_(first), len(source) * height * width)
        colours = torch.cat((source.view(-1, 3), black))
        torch.index_select(colours, 0, pixel.view(-1), out=source.view(-1, 3))
    return images


def _fixed_matrix(angle: float, height: int, width: int) -> tuple[int, ...]:
    """Output pixel to source pixel: x' = a0 x + a1 y + a2, y' = a3 x + a4 y + a5, in 65536ths of a pixel.

    Pillow's Image.rotate (with its rounding to 15 decimals) and then affine_fixed, operation for operation.
    """
    radians = -math.radians(angle % 360.0)
    a0, a1 = round(math.cos(radians), 15), round(math.sin(radians), 15)
    a3, a4 = round(-math.sin(radians), 15), round(math.cos(radians), 15)
    centre_x, centre_y = width / 2, height / 2
    a2 = a0 * -centre_x + a1 * -centre_y + centre_x
    a5 = a3 * -centre_x + a4 * -centre_y + centre_y
    places = (a0, a1, a2 + a0 * 0.5 + a1 * 0.5, a3, a4, a5 + a3 * 0.5 + a4 * 0.5)
    return tuple(math.floor(value * (1 << FIXED_BITS) + 0.5) for value in places)
