"""Frozen layers: which never need a gradient, and whose output can be computed once and kept."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from caltech_exp.config import RunConfig
from caltech_exp.models import NETWORKS


def freeze_all_but(net: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Let autograd compute gradients for the trained parameters only; no number changes by it."""
    kept = list(trained)  # before any is frozen: they may be chosen by what is
    net.requires_grad_(False)
    for parameter in kept:
        parameter.requires_grad_(True)


def trunk_and_classifier(net: nn.Module, config: RunConfig) -> tuple[nn.Module, nn.Module]:
    """The network in two: images to features [n, features], and features to outputs [n, 102].

    torchvision's AlexNet and ResNet-18 apply their children in order, flattened before the classifier. Of any
    other network nothing is known: all of it is the first part.
    """
    if config.model not in NETWORKS:
        return net, nn.Identity()
    name = NETWORKS[config.model].classifier
    children = dict(net.named_children())
    classifier = children.pop(name)
    return nn.Sequential(*children.values(), nn.Flatten()), classifier


def features_are_fixed(trunk: nn.Module, config: RunConfig) -> bool:
    """Whether the trunk's output for an image stays the same all through a run.

    It does where the convolutional layers are frozen and nothing is drawn at random before or in them. It does
    not with batch normalisation, which in training goes by the batch, frozen or not (ResNet-18).
    """
    if config.freeze != "conv" or config.augment != "none" or config.model not in NETWORKS:
        return False
    return not any(isinstance(module, _BatchNorm | _DropoutNd) for module in trunk.modules())
