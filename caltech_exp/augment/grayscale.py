"""Taking the colour from some images of a batch."""

import torch
from torch import Tensor

from caltech_exp.augment.chunks import chunks
from caltech_exp.hardware import send

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
