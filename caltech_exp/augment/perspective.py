"""Perspective distortion of some images of a batch, bicubic, as torchvision and Pillow compute it."""

import torch
from torch import Tensor

from caltech_exp.augment.bicubic import sample
from caltech_exp.augment.chunks import chunks
from caltech_exp.augment.draws import image_corners
from caltech_exp.hardware import send


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
