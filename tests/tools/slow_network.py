"""A network whose training can be held at a pace: tests of runs that end half-way need no processor time for them.

While the file that the variable BRAKE names exists, a step of training takes a second.
"""

import os
import time
from pathlib import Path

from torch import Tensor, nn


class Brake(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if self.training and Path(os.environ.get("BRAKE", "")).is_file():
            time.sleep(1)
        return images


def slow(num_classes: int) -> nn.Module:
    features = nn.Sequential(Brake(), nn.Conv2d(3, 8, 16, stride=16), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    return nn.Sequential(features, nn.Dropout(), nn.Linear(8 * 14 * 14, num_classes))
