"""Crop, flip and grayscale on the device, and the random numbers that they draw.

Everything is drawn on the CPU from torch's global generator: the host then knows which samples a transform hits
and need not ask the device. A batch is drawn at once, so a seed gives other values than with torchvision, which
draws sample by sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from caltech_exp.data.dataset import DEGREES, DISTORTION, SIDE
from caltech_exp.training.device import send

CUDA_IMAGES = 32
"""Enough to fill a GPU; bicubic sampling takes about 20 MB of working memory for each."""


def chunks(count: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover range(count).

    On the CPU few images at a time, so that what one operation writes is in the cache when the next reads it.
    """
    size = CUDA_IMAGES if device.type == "cuda" else max(1, torch.get_num_threads() // 2)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def chosen(count: int, probability: float) -> Tensor:
    """Which of `count` samples a transform with this probability hits: int64 [k], ascending.

    As in torchvision's RandomHorizontalFlip.forward and its kin: torch.rand(1) < p.
    """
    return (torch.rand(count) < probability).nonzero().squeeze(1)


def crop_corners(heights: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
    """Top and left, int64 [n] each, of a SIDE x SIDE crop in images of int64 [n] heights and widths in pixels.

    They count from the corner of the padded image (torchvision RandomCrop.get_params with pad_if_needed).
    """
    return _within(_padded(heights) - SIDE), _within(_padded(widths) - SIDE)


def padding(sizes: Tensor) -> Tensor:
    """Pixels that RandomCrop(pad_if_needed=True) adds on both sides, each, of images of these sizes: int64 [n].

    All that is missing on one side, and as much again on the other.
    """
    return (SIDE - sizes).clamp(min=0)


def perspective_corners(count: int) -> Tensor:
    """Where the corners of SIDE x SIDE images go: int64 [count, 4, 2], x and y in pixels.

    Order top-left, top-right, bottom-right, bottom-left, as in torchvision RandomPerspective.get_params.
    """
    reach = int(DISTORTION * (SIDE // 2))
    inwards = torch.randint(0, reach + 1, (count, 4, 2))
    return image_corners() + inwards * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])


def image_corners() -> Tensor:
    """The corner pixels of a SIDE x SIDE image, ordered as perspective_corners: int64 [4, 2]."""
    last = SIDE - 1
    return torch.tensor([[0, 0], [last, 0], [last, last], [0, last]])


def angles(count: int) -> Tensor:
    """Angles in degrees, counterclockwise, float32 [count] as in torchvision RandomRotation.get_params."""
    return torch.empty(count).uniform_(-DEGREES, DEGREES)


def _padded(sizes: Tensor) -> Tensor:
    return sizes + 2 * padding(sizes)


def _within(highest: Tensor) -> Tensor:
    """Uniform integers from 0 to `highest`, both included; by remainder, as torch.randint makes its own."""
    return torch.empty_like(highest).random_() % (highest + 1)


@dataclass(frozen=True)
class PixelBuffer:
    """Images one after the other, row by row.

    pixels: uint8 [all pixels, 3], on the device.
    offsets, heights, widths: int64 [images], on the CPU, in pixels; an image's first pixel is pixels[offset].
    """

    pixels: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor


def crop(packed: PixelBuffer, samples: Tensor, top: Tensor, left: Tensor) -> Tensor:
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


def flip_horizontally(images: Tensor, chosen: Tensor) -> Tensor:
    """Swaps left and right of the chosen images, in place, and returns the batch (torchvision hflip).

    images: uint8 [n, height, width, 3] on any device; chosen: int64 [k] on the CPU, without repetition.
    """
    return _flip(images, chosen, 2)


def flip_vertically(images: Tensor, chosen: Tensor) -> Tensor:
    """Swaps top and bottom, otherwise as flip_horizontally (torchvision vflip)."""
    return _flip(images, chosen, 1)


def _flip(images: Tensor, chosen: Tensor, dimension: int) -> Tensor:
    if not len(chosen):
        return images
    chosen = send(chosen, images.device)
    for some in chunks(len(chosen), images.device):
        images.index_copy_(0, chosen[some], images.index_select(0, chosen[some]).flip(dimension))
    return images


WEIGHTS = (19595, 38470, 7471)
"""Of red, green and blue in Pillow's luma, in 65536ths (Pillow's Convert.c, ITU-R 601-2)."""


def grayscale(images: Tensor, chosen: Tensor) -> Tensor:
    """Sets all channels of the chosen images to their luma, in place, and returns the batch.

    images: uint8 [n, height, width, 3] on any device; chosen: int64 [k] on the CPU, without repetition. As
    torchvision's rgb_to_grayscale(num_output_channels=3) on a PIL image.
    """
    if not len(chosen):
        return images
    chosen = send(chosen, images.device)
    for some in chunks(len(chosen), images.device):
        red, green, blue = images.index_select(0, chosen[some]).to(torch.int32).unbind(3)
        luma = (red * WEIGHTS[0]).add_(green * WEIGHTS[1]).add_(blue * WEIGHTS[2]).add_(0x8000) >> 16
        images.index_copy_(0, chosen[some], luma.to(torch.uint8).unsqueeze(3).expand(-1, -1, -1, 3))
    return images
