"""Perspective (bicubic) and rotation on the device, equal to Pillow bit for bit.

Pillow's cubic has a = -0.5; torch's grid_sample has -0.75 and other rules at the border.
"""

import math

import torch
from torch import Tensor

from caltech_exp.training.augment.ops import chunks, image_corners
from caltech_exp.training.device import to_device_async

POINTS = 8192
"""Points per thread and step where points outside are skipped. Larger arrays do not fit the cache, and the
allocator returns them to the system each time."""
FIXED_BITS = 16
"""Binary places of the fixed-point numbers in Pillow's affine_fixed (Geometry.c)."""


def sample(images: Tensor, x: Tensor, y: Tensor, *, skip_outside: bool) -> Tensor:
    """Sample the images at points: uint8 [n, rows, columns, 3], 0 where a point is outside its image.

    images        uint8 [n, height, width, 3], on the device of x and y
    x, y          float64 [n, rows, columns], in pixels from the left and top edge: the first pixel's centre is 0.5
    skip_outside  compute only the points inside; their number is needed for it, and CUDA would make the host wait

    Taps beyond the border repeat the edge. The result is clipped to 0..255 and truncated, not rounded.
    """
    _, height, width, _ = images.shape
    inside = ((x >= 0) & (x < width)) & ((y >= 0) & (y < height))
    x, y = x - 0.5, y - 0.5
    column, row = x.floor(), y.floor()
    across, down = x.sub_(column).view(-1), y.sub_(row).view(-1)
    # The first tap is one left of `column`; the two edge pixels that _taps adds move it two to the right.
    window = (row.add_(1) * (width + 1)).add_(column).add_(1)
    window += torch.arange(len(images), device=x.device)[:, None, None] * ((height + 4) * (width + 1))
    taps = _taps(images)
    if skip_outside:
        hits = inside.view(-1).nonzero().squeeze(1)
        window, across, down = (part.view(-1).index_select(0, hits) for part in (window, across, down))
        black = images.new_zeros(inside.numel(), 3)
        values = images.new_empty(len(hits), 3)
        size = POINTS * torch.get_num_threads()
        for start in range(0, len(hits), size):
            chunk = slice(start, start + size)
            values[chunk] = _interpolate(taps, window[chunk], across[chunk], down[chunk], width + 1)
        return black.index_copy_(0, hits, values).view(*inside.shape, 3)
    window = torch.where(inside, window, 0.0).view(-1)
    values = _interpolate(taps, window, across, down, width + 1)
    return values.mul_(inside.view(-1, 1)).view(*inside.shape, 3)


def _taps(images: Tensor) -> Tensor:
    """Pack each four neighbours of a row into the bytes of an int32: one look-up instead of four.

    Returns int32 [n * (height + 4) * (width + 1), 3], for images with the edge repeated twice on all sides.
    """
    _, height, width, _ = images.shape
    rows, columns = (
        torch.arange(-2, size + 2, device=images.device).clamp_(0, size - 1) for size in (height, width)
    )
    padded = images.index_select(1, rows).index_select(2, columns).to(torch.int32)
    taps = padded[:, :, 3:]
    for first in (2, 1, 0):
        taps = (taps << 8).bitwise_or_(padded[:, :, first : first + width + 1])
    return taps.view(-1, 3)


def _interpolate(taps: Tensor, window: Tensor, across: Tensor, down: Tensor, stride: int) -> Tensor:
    """Interpolate along four rows, then along the column of their results: uint8 [points, 3].

    window        float64 [points], the index in `taps` of a point's first row; the others follow `stride` apart
    across, down  float64 [points], distance from the second tap
    """
    window = window.to(torch.int32)
    # Repeated for each channel, so that everything below runs over flat memory.
    across, down = (part[:, None].expand(-1, 3).reshape(-1) for part in (across, down))
    rows = (_row(taps[stride * row :].index_select(0, window).view(-1), across) for row in range(4))
    first, values, third, fourth = rows
    # In Pillow's order, so that each operation rounds as there: truncation would turn a last bit into a level.
    linear = third - first
    square = (first - values).mul_(2).add_(third).sub_(fourth)
    cubic = first.neg_().add_(values).sub_(third).add_(fourth)
    values = _horner(values, linear, square, cubic, down)
    return values.clamp_(0, 255).to(torch.uint8).view(-1, 3)


def _row(packed: Tensor, across: Tensor) -> Tensor:
    """The cubic through four packed taps, float64 [values]; its coefficients are exact integers, as in Pillow."""
    first = packed & 255
    second, third, fourth = ((packed >> bits).bitwise_and_(255) for bits in (8, 16, 24))
    value, linear = second.to(torch.float64), (third - first).to(torch.float64)
    left, right = second.sub_(first), third.sub_(fourth)
    cubic = (left - right).to(torch.float64)
    square = right.sub_(left, alpha=2).to(torch.float64)
    return _horner(value, linear, square, cubic, across)


def _horner(value: Tensor, linear: Tensor, square: Tensor, cubic: Tensor, t: Tensor) -> Tensor:
    """value + t * (linear + t * (square + t * cubic)), in the memory of `cubic`.

    Each operation rounds, as in Pillow; torch.addcmul would round product and sum once.
    """
    return cubic.mul_(t).add_(square).mul_(t).add_(linear).mul_(t).add_(value)


def distort_perspective(images: Tensor, hits: Tensor, corners: Tensor) -> Tensor:
    """Move the corners of some images, in place, and return the batch.

    images   uint8 [n, SIDE, SIDE, 3] on any device
    hits     int64 [k] on the CPU without repetition: which images
    corners  int64 [k, 4, 2] on the CPU: where their corners go (ops.draw_perspective_corners)

    The pixels are those of torchvision's perspective(interpolation=BICUBIC, fill=0) on a PIL image.
    """
    if not len(hits):
        return images
    _, height, width, _ = images.shape
    device = images.device
    solved = to_device_async(coefficients(corners), device)
    hits = to_device_async(hits, device)
    for chunk in chunks(len(hits), device):
        x, y = _sources(solved[chunk], height, width)
        moved = sample(images.index_select(0, hits[chunk]), x, y, skip_outside=device.type == "cpu")
        images.index_copy_(0, hits[chunk], moved)
    return images


def coefficients(corners: Tensor) -> Tensor:
    """The coefficients a to h that map moved corners [k, 4, 2] back: float64 [k, 8].

    As in torchvision's _get_perspective_coeffs they are solved in float64 and rounded to float32.
    """
    ends = corners.to(torch.float64)
    starts = image_corners().to(torch.float64).expand_as(ends)
    homogeneous = torch.cat((ends, torch.ones_like(ends[..., :1])), 2)
    zeros = torch.zeros_like(homogeneous)
    x_rows = torch.cat((homogeneous, zeros, -starts[..., :1] * ends), 2)
    y_rows = torch.cat((zeros, homogeneous, -starts[..., 1:] * ends), 2)
    equations = torch.stack((x_rows, y_rows), 2).reshape(-1, 8, 8)
    solution: Tensor = torch.linalg.lstsq(equations, starts.reshape(-1, 8, 1), driver="gels").solution
    return solution.squeeze(2).to(torch.float32).to(torch.float64)


def _sources(solved: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Each output pixel's source, x and y: float64 [k, height, width] (Pillow's perspective_transform)."""
    a, b, c, d, e, f, g, h = solved[:, :, None, None].unbind(1)
    # Pixel centres. In Pillow's order, so that each operation rounds as there.
    x = torch.arange(width, dtype=torch.float64, device=solved.device)[None, None, :] + 0.5
    y = torch.arange(height, dtype=torch.float64, device=solved.device)[None, :, None] + 0.5
    scale = (g * x + h * y).add_(1)
    return (a * x + b * y).add_(c).div_(scale), (d * x + e * y).add_(f).div_(scale)


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate all images, uint8 [n, height, width, 3] on any device, in place, and return the batch.

    angles  float [n] on the CPU, degrees counterclockwise

    The pixels are those of torchvision's rotate(NEAREST, expand=False, fill=0) on a PIL image.
    """
    count, height, width, _ = images.shape
    device = images.device
    matrices = [_fixed_matrix(angle, height, width) for angle in angles.tolist()]
    a0, a1, a2, a3, a4, a5 = to_device_async(torch.tensor(matrices, dtype=torch.int32).view(-1, 6), device).unbind(
        1
    )
    across = torch.arange(width, dtype=torch.int32, device=device)
    down = torch.arange(height, dtype=torch.int32, device=device)
    x_of_row, x_of_column = a2[:, None] + a1[:, None] * down, a0[:, None] * across
    y_of_row, y_of_column = a5[:, None] + a4[:, None] * down, a3[:, None] * across
    black = images.new_zeros(1, 3)
    for chunk in chunks(count, device):
        x = (x_of_row[chunk, :, None] + x_of_column[chunk, None, :]) >> FIXED_BITS
        y = (y_of_row[chunk, :, None] + y_of_column[chunk, None, :]) >> FIXED_BITS
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        source = images[chunk]
        first = torch.arange(len(source), dtype=torch.int32, device=device)[:, None, None] * (height * width)
        # Points outside read the black pixel that follows the images.
        pixel = torch.where(inside, y.mul_(width).add_(x).add_(first), len(source) * height * width)
        colours = torch.cat((source.view(-1, 3), black))
        torch.index_select(colours, 0, pixel.view(-1), out=source.view(-1, 3))
    return images


def _fixed_matrix(angle: float, height: int, width: int) -> tuple[int, ...]:
    """a0 to a5, in 65536ths: output pixel (x, y) comes from a0 x + a1 y + a2 and a3 x + a4 y + a5.

    Operation for operation Pillow's Image.rotate, with its rounding to 15 decimals, and affine_fixed.
    """
    radians = -math.radians(angle % 360.0)
    a0, a1 = round(math.cos(radians), 15), round(math.sin(radians), 15)
    a3, a4 = round(-math.sin(radians), 15), round(math.cos(radians), 15)
    centre_x, centre_y = width / 2, height / 2
    a2 = a0 * -centre_x + a1 * -centre_y + centre_x
    a5 = a3 * -centre_x + a4 * -centre_y + centre_y
    matrix = (a0, a1, a2 + a0 * 0.5 + a1 * 0.5, a3, a4, a5 + a3 * 0.5 + a4 * 0.5)
    return tuple(math.floor(value * (1 << FIXED_BITS) + 0.5) for value in matrix)
