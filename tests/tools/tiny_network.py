"""A network of a thousandth of ResNet-18's work, for tests of what surrounds a network."""

from collections import OrderedDict

from torch import nn


def tiny(num_classes: int) -> nn.Module:
    """Has what a checkpoint must bring back: statistics of batches, and layers that draw at random."""
    features = nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    classifier = nn.Sequential(nn.Dropout(), nn.Linear(8 * 14 * 14, num_classes))
    return nn.Sequential(OrderedDict(features=features, classifier=classifier))
