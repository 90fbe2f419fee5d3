"""Mirroring some images of a batch."""

from torch import Tensor

from caltech_exp.augment.chunks import chunks
from caltech_exp.hardware import send


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
