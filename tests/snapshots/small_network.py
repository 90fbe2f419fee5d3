"""A network whose checkpoint is small enough to keep in the repository."""

from collections import OrderedDict

from torch import nn


def small(num_classes: int) -> nn.Module:
    """Has statistics of batches, random numbers in training, and a classifier, as larger networks do."""
    features = nn.Sequential(
        nn.Conv2d(3, 8, 16, stride=16), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    classifier = nn.Sequential(nn.Dropout(), nn.Linear(8, num_classes))
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))
