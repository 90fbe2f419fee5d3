"""Crop, flip and grayscale on the device, and the random numbers of all transforms.

All numbers are drawn on the CPU from torch's global generator, so that the host knows which images a transform
changes without waiting for the device. They are drawn for a whole batch. torchvision draws them image by image, so
there a seed gives other values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from caltech_exp.data.dataset import DEGREES, DISTORTION, SIDE
from caltech_exp.training.device import to_device_async

CUDA_IMAGES = 32
"""Enough to fill a GPU; bicubic sampling takes about 20 MB of working memory for each."""
LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 65536ths (Pillow's Convert.c, ITU-R 601-2)."""


def chunks(count: int, device: torch.device) -> Iterator[slice]:
    """Slices that cover range(count): on a CPU so small that a chunk stays in the cache between operations."""
    size = CUDA_IMAGES if device.type == "cuda" else max(1, torch.get_num_threads() // 2)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def draw_hits(count: int, probability: float) -> Tensor:
    """Draw which of `count` images a transform changes: int64 [k], ascending."""
    return (torch.rand(count) < probability).nonzero().squeeze(1)


def draw_crop_corners(heights: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
    """Draw top and left, int64 [n] each, of SIDE x SIDE crops from images of these sizes, int64 [n] in pixels.

    They are counted from the corner of the padded image (torchvision's RandomCrop with pad_if_needed).
    """
    return _draw_up_to(_padded(heights) - SIDE), _draw_up_to(_padded(widths) - SIDE)


def padding(sizes: Tensor) -> Tensor:
    """Pixels that RandomCrop(pad_if_needed=True) adds on each side: all that is missing, int64 [n]."""
    return (SIDE - sizes).clamp(min=0)


def draw_perspective_corners(count: int) -> Tensor:
    """Draw where the corners of SIDE x SIDE images go: int64 [count, 4, 2], x and y in pixels.

    Their order is that of image_corners. See torchvision's RandomPerspective.get_params.
    """
    reach = int(DISTORTION * (SIDE // 2))
    inwards = torch.randint(0, reach + 1, (count, 4, 2))
    return image_corners() + inwards * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])


def image_corners() -> Tensor:
    """The corner pixels of a SIDE x SIDE image, clockwise from top left: int64 [4, 2], x and y."""
    last = SIDE - 1
    return torch.tensor([[0, 0], [last, 0], [last, last], [0, last]])


def draw_angles(count: int) -> Tensor:
    """Draw angles in degrees, counterclockwise: float32 [count], as torchvision's RandomRotation does."""
    return torch.empty(count).uniform_(-DEGREES, DEGREES)


def _padded(sizes: Tensor) -> Tensor:
    return sizes + 2 * padding(sizes)


def _draw_up_to(highest: Tensor) -> Tensor:
    """Draw uniform integers from 0 to `highest` inclusive, by remainder as torch.randint does."""
    return torch.empty_like(highest).random_() % (highest + 1)


@dataclass(frozen=True)
class PixelBuffer:
    """Images one after the other, row by row.

    pixels                   uint8 [all pixels, 3], on the device
    offsets, heights, widths int64 [images], on the CPU; the first pixel of an image is pixels[offset]
    """

    pixels: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor


def crop(buffer: PixelBuffer, samples: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Crop the samples at the corners of draw_crop_corners: uint8 [n, SIDE, SIDE, 3] on the buffer's device.

    Small images are padded by repeating their edge, as by torchvision's RandomCrop(padding_mode="edge"). The last
    three arguments are int64 [n] on the CPU.
    """
    device = buffer.pixels.device
    offsets, heights, widths = (sizes[samples] for sizes in (buffer.offsets, buffer.heights, buffer.widths))
    # An index clamped into the image is edge padding.
    rows = _clamped(top - padding(heights), heights) * widths[:, None] + offsets[:, None]
    columns = _clamped(left - padding(widths), widths)
    rows, columns = to_device_async(rows, device), to_device_async(columns, device)
    crops = torch.empty(len(samples), SIDE, SIDE, 3, dtype=torch.uint8, device=device)
    for chunk in chunks(len(samples), device):
        index = rows[chunk, :, None] + columns[chunk, None, :]
        torch.index_select(buffer.pixels, 0, index.view(-1), out=crops[chunk].view(-1, 3))
    return crops


def _clamped(first: Tensor, sizes: Tensor) -> Tensor:
    """The SIDE rows (or columns) from `first` on, those outside 0..size-1 moved to the edge: int64 [n, SIDE]."""
    index = first[:, None] + torch.arange(SIDE)
    return torch.minimum(index.clamp(min=0), sizes[:, None] - 1)


# The functions below change the images at `hits` (int64 [k] on the CPU, without repetition) of a batch, uint8
# [n, height, width, 3] on any device, in place, and return the batch.


def flip_horizontally(images: Tensor, hits: Tensor) -> Tensor:
    """Mirror left and right, as torchvision's hflip."""
    return _flip(images, hits, 2)


def flip_vertically(images: Tensor, hits: Tensor) -> Tensor:
    """Mirror top and bottom, as torchvision's vflip."""
    return _flip(images, hits, 1)


def _flip(images: Tensor, hits: Tensor, dimension: int) -> Tensor:
    if not len(hits):
        return images
    hits = to_device_async(hits, images.device)
    for chunk in chunks(len(hits), images.device):
        images.index_copy_(0, hits[chunk], images.index_select(0, hits[chunk]).flip(dimension))
    return images


def grayscale(images: Tensor, hits: Tensor) -> Tensor:
    """Set all channels to their luma, as torchvision's rgb_to_grayscale does on a PIL image."""
    if not len(hits):
        return images
    hits = to_device_async(hits, images.device)
    for chunk in chunks(len(hits), images.device):
        red, green, blue = images.index_select(0, hits[chunk]).to(torch.int32).unbind(3)
        luma = (red * LUMA[0]).add_(green * LUMA[1]).add_(blue * LUMA[2]).add_(0x8000) >> 16
        images.index_copy_(0, hits[chunk], luma.to(torch.uint8).unsqueeze(3).expand(-1, -1, -1, 3))
    return images
