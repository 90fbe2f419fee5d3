"""Bicubic resampling, perspective and rotation on the device, equal to Pillow bit for bit.

Its cubic has a = -0.5; torch's grid_sample has -0.75 and other rules at the border.
"""

import math

import torch
from torch import Tensor

from caltech_exp.training.augment.ops import chunks, image_corners
from caltech_exp.training.device import send

POINTS = 8192
"""So many at a time and thread, where points are skipped: larger arrays leave the cache, and the allocator returns
them to the system each time."""


def sample(images: Tensor, x: Tensor, y: Tensor, *, skip_outside: bool) -> Tensor:
    """The images' values at points: uint8 [n, rows, columns, 3], 0 where a point lies outside its image.

    images: uint8 [n, height, width, 3]; x, y: float64 [n, rows, columns], in pixels from the image's left and top
    edge, so that the first pixel's centre is at 0.5; all on one device. Taps beyond the border repeat the edge;
    the result is clipped to 0..255 and truncated, not rounded. skip_outside does less work with the same result;
    it needs the number of points inside, for which on CUDA the host would have to wait.
    """
    _, height, width, _ = images.shape
    inside = ((x >= 0) & (x < width)) & ((y >= 0) & (y < height))
    x, y = x - 0.5, y - 0.5
    column, row = x.floor(), y.floor()
    across, down = x.sub_(column).view(-1), y.sub_(row).view(-1)
    # The first tap is one left of `column` and, with the two edge pixels in _taps, one right of that again.
    window = (row.add_(1) * (width + 1)).add_(column).add_(1)
    window += torch.arange(len(images), device=x.device)[:, None, None] * ((height + 4) * (width + 1))
    taps = _taps(images)
    if skip_outside:
        kept = inside.view(-1).nonzero().squeeze(1)
        window, across, down = (of.view(-1).index_select(0, kept) for of in (window, across, down))
        black = images.new_zeros(inside.numel(), 3)
        values = images.new_empty(len(kept), 3)
        at_once = POINTS * torch.get_num_threads()
        for start in range(0, len(kept), at_once):
            some = slice(start, start + at_once)
            values[some] = _interpolate(taps, window[some], across[some], down[some], width + 1)
        return black.index_copy_(0, kept, values).view(*inside.shape, 3)
    window = torch.where(inside, window, 0.0).view(-1)
    values = _interpolate(taps, window, across, down, width + 1)
    return values.mul_(inside.view(-1, 1)).view(*inside.shape, 3)


def _taps(images: Tensor) -> Tensor:
    """Four neighbours of a row as the bytes of an int32, for each place where they can start.

    int32 [n * (height + 4) * (width + 1), 3], of images with the edge repeated twice all round: one look-up in
    place of four.
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
    """Values, uint8 [points, 3]: rows first, then the column of their four results.

    window: float64 [points], where in `taps` a point's first row is; the others follow `stride` apart.
    across, down: float64 [points], how far right and down of the second tap.
    """
    window = window.to(torch.int32)
    # One value for each channel, so that all the arithmetic below runs over flat memory.
    across, down = (part[:, None].expand(-1, 3).reshape(-1) for part in (across, down))
    rows = (_row(taps[stride * row :].index_select(0, window).view(-1), across) for row in range(4))
    first, values, third, fourth = rows
    # In Pillow's order, so that they round as there: truncation turns a last bit into a level.
    linear = third - first
    square = (first - values).mul_(2).add_(third).sub_(fourth)
    cubic = first.neg_().add_(values).sub_(third).add_(fourth)
    values = _horner(values, linear, square, cubic, down)
    return values.clamp_(0, 255).to(torch.uint8).view(-1, 3)


def _row(bytes_of_row: Tensor, across: Tensor) -> Tensor:
    """The cubic through four taps, float64 [values]; its coefficients are exact integers, as in Pillow."""
    first = bytes_of_row & 255
    second, third, fourth = ((bytes_of_row >> bits).bitwise_and_(255) for bits in (8, 16, 24))
    value, linear = second.to(torch.float64), (third - first).to(torch.float64)
    left, right = second.sub_(first), third.sub_(fourth)
    cubic = (left - right).to(torch.float64)
    square = right.sub_(left, alpha=2).to(torch.float64)
    return _horner(value, linear, square, cubic, across)


def _horner(value: Tensor, linear: Tensor, square: Tensor, cubic: Tensor, at: Tensor) -> Tensor:
    """value + at * (linear + at * (square + at * cubic)), in the memory of `cubic`.

    Each operation rounds, as in Pillow; torch.addcmul would round product and sum at once.
    """
    return cubic.mul_(at).add_(square).mul_(at).add_(linear).mul_(at).add_(value)


def distort_perspective(images: Tensor, chosen: Tensor, corners: Tensor) -> Tensor:
    """Moves the corners of the chosen images, in place, and returns the batch; black where nothing is left.

    images: uint8 [n, SIDE, SIDE, 3] on any device; chosen: int64 [k] on the CPU, without repetition; corners:
    int64 [k, 4, 2] on the CPU, where their corners go (draws.perspective_corners). As torchvision's
    perspective(interpolation=BICUBIC, fill=0) on a PIL image.
    """
    if not len(chosen):
        return images
    _, height, width, _ = images.shape
    device = images.device
    solved = send(coefficients(corners), device)
    chosen = send(chosen, device)
    for some in chunks(len(chosen), device):
        x, y = _sources(solved[some], height, width)
        moved = sample(images.index_select(0, chosen[some]), x, y, skip_outside=device.type == "cpu")
        images.index_copy_(0, chosen[some], moved)
    return images


def coefficients(corners: Tensor) -> Tensor:
    """a..h of torchvision's _get_perspective_coeffs, which map moved corners [k, 4, 2] back: float64 [k, 8].

    Solved in float64 but, as there, rounded to float32.
    """
    ends = corners.to(torch.float64)
    starts = image_corners().to(torch.float64).expand_as(ends)
    homogeneous = torch.cat((ends, torch.ones_like(ends[..., :1])), 2)
    nothing = torch.zeros_like(homogeneous)
    of_x = torch.cat((homogeneous, nothing, -starts[..., :1] * ends), 2)
    of_y = torch.cat((nothing, homogeneous, -starts[..., 1:] * ends), 2)
    equations = torch.stack((of_x, of_y), 2).reshape(-1, 8, 8)
    solution: Tensor = torch.linalg.lstsq(equations, starts.reshape(-1, 8, 1), driver="gels").solution
    return solution.squeeze(2).to(torch.float32).to(torch.float64)


def _sources(solved: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """x and y, float64 [k, height, width], of each output pixel's source (Pillow's perspective_transform)."""
    a, b, c, d, e, f, g, h = solved[:, :, None, None].unbind(1)
    # Pixel centres; the operations are in Pillow's order, so that they round as there.
    x = torch.arange(width, dtype=torch.float64, device=solved.device)[None, None, :] + 0.5
    y = torch.arange(height, dtype=torch.float64, device=solved.device)[None, :, None] + 0.5
    scale = (g * x + h * y).add_(1)
    return (a * x + b * y).add_(c).div_(scale), (d * x + e * y).add_(f).div_(scale)


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
