"""Random parameters for a batch, with the distributions of torchvision's samplers.

Everything is drawn on the CPU from torch's global generator: the host then knows which samples a transform hits
and need not ask the device. A batch is drawn at once, so a seed gives other values than with torchvision, which
draws sample by sample.
"""

import torch
from torch import Tensor

from caltech_exp.augment.parameters import DEGREES, DISTORTION, SIDE


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
