"""Pillow's bicubic sampling of images at given points, bit for bit (bicubic_filter32RGB in its Geometry.c).

Its cubic has a = -0.5; torch's grid_sample has -0.75 and other rules at the border.
"""

import torch
from torch import Tensor

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
