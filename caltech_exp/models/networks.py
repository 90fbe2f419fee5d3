"""The networks by name: how each is built, which of its layers train, and what it must return."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torchvision.models import alexnet, resnet18

from caltech_exp.cli import UserError
from caltech_exp.config import NUM_CLASSES, RunConfig
from caltech_exp.models.custom import load_network
from caltech_exp.models.initial_weights import InitialWeights, load_initial_weights


@dataclass(frozen=True)
class Network:
    """build makes the network with torchvision's 1000-way head; `head` is that last layer's name.

    `classifier` names the fully connected part; everything else counts as convolutional.
    """

    build: Callable[[], nn.Module]
    head: str
    classifier: str


CLASSIFIERS = ("classifier", "fc", "head")
"""What torchvision's networks call their fully connected part."""

NETWORKS = {
    "alexnet": Network(alexnet, head="classifier.6", classifier="classifier"),
    "resnet18": Network(resnet18, head="fc", classifier="fc"),
}


def build(config: RunConfig) -> nn.Module:
    """The network of a run with its NUM_CLASSES-way head, on the CPU, in float32.

    Random numbers come from torch's global generator. Raises UserError if the weights are missing, damaged or of
    another network.
    """
    return build_with_weights(config)[0]


def build_with_weights(config: RunConfig) -> tuple[nn.Module, InitialWeights | None]:
    """As build; with what it says of the weights that were loaded, None if the network starts from random ones."""
    net = _build_random(config)
    return net, load_initial_weights(net, _fixed_head(config), config) if config.pretrained else None


def check_weights_fit(config: RunConfig, network: bytes | None = None) -> InitialWeights:
    """What loading the weights of a pretrained configuration comes to; raises UserError as build does.

    `network` is the content of a network file of the user's own that the study does not keep yet.
    """
    # The meta device has names and shapes only, and takes no memory. Other networks may compute with the numbers.
    with torch.device("meta") if config.model in NETWORKS else nullcontext():
        net = _build_random(config, network)
    return load_initial_weights(net, _fixed_head(config), config)


def _fixed_head(config: RunConfig) -> str | None:
    return NETWORKS[config.model].head if config.model in NETWORKS else None


def _build_random(config: RunConfig, content: bytes | None = None) -> nn.Module:
    if config.model not in NETWORKS:
        return _build_own(config, content)
    network = NETWORKS[config.model]
    net = network.build()
    replace_head(net, network)
    return net


def _build_own(config: RunConfig, content: bytes | None) -> nn.Module:
    """A network of the user's own, as its function returns it."""
    make = load_network(config.model, content)
    try:
        net = make(NUM_CLASSES)
    except Exception as error:
        raise UserError(
            f"network {config.model} fails for {NUM_CLASSES} classes: {type(error).__name__}: {error}; correct it"
        ) from error
    if not isinstance(net, nn.Module):
        raise UserError(
            f"network {config.model} returns a {type(net).__name__}, not a torch.nn.Module; correct it"
        )
    if not list(trained_parameters(net, config)):
        raise UserError(_nothing_to_train(net, config))
    return net


def _nothing_to_train(net: nn.Module, config: RunConfig) -> str:
    if any(parameter.requires_grad for parameter in net.parameters()):
        return f"freeze={config.freeze} leaves nothing of {config.model} to train; freeze something else"
    return f"network {config.model} has no parameter with requires_grad, nothing to train; leave some unfrozen"


def classifier_of(net: nn.Module, config: RunConfig) -> str:
    """The name of the fully connected part, which freeze=conv trains and freeze=fc does not; "" if there is none.

    In a network of the user's own it is the child called `classifier`, `fc` or `head`, as in torchvision's. Raises
    UserError if part of the network is to be frozen and there is none.
    """
    if config.model in NETWORKS:
        return NETWORKS[config.model].classifier
    children = [name for name, _ in net.named_children()]
    found = next((name for name in CLASSIFIERS if name in children), "")
    if config.freeze != "none" and not found:
        raise UserError(
            f"freeze={config.freeze}: {config.model} has no part called {', '.join(CLASSIFIERS)}; name its fully "
            "connected part so"
        )
    return found


def replace_head(net: nn.Module, network: Network) -> None:
    """Put a new linear layer with NUM_CLASSES outputs in place of the last one."""
    owner, _, name = network.head.rpartition(".")
    parent = net.get_submodule(owner)
    old = parent.get_submodule(name)
    if not isinstance(old, nn.Linear):
        raise TypeError(f"{network.head} is a {type(old).__name__}, not a linear layer")
    setattr(parent, name, nn.Linear(old.in_features, NUM_CLASSES))


def trained_parameters(net: nn.Module, config: RunConfig) -> Iterator[nn.Parameter]:
    """The parameters the optimizer gets: all, or only the fully connected or convolutional layers'.

    Those that a network of the user's own has frozen itself (requires_grad is False) are never among them.
    freeze=fc leaves the whole classifier as it was made, its random new head included, as the template does
    when it hands only `net.features` to the optimizer (report, section 2.4).
    """
    prefix = classifier_of(net, config) + "."
    for name, parameter in net.named_parameters():
        fully_connected = name.startswith(prefix)
        chosen = config.freeze == "none" or fully_connected == (config.freeze == "conv")
        if chosen and parameter.requires_grad:
            yield parameter


def freeze_all_but(net: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Let autograd compute gradients for the trained parameters only; no number changes by it."""
    kept = list(trained)  # before any is frozen: they may be chosen by what is
    net.requires_grad_(False)
    for parameter in kept:
        parameter.requires_grad_(True)


def split_backbone(net: nn.Module, config: RunConfig) -> tuple[nn.Module, nn.Module]:
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


def can_cache_features(trunk: nn.Module, config: RunConfig) -> bool:
    """Whether the trunk's output for an image stays the same all through a run.

    It does where the convolutional layers are frozen and nothing is drawn at random before or in them. It does
    not with batch normalisation, which in training goes by the batch, frozen or not (ResNet-18).
    """
    if config.freeze != "conv" or config.augment != "none" or config.model not in NETWORKS:
        return False
    return not any(isinstance(module, _BatchNorm | _DropoutNd) for module in trunk.modules())


def check_output_shape(outputs: object, labels: torch.Tensor, network: str) -> torch.Tensor:
    """The network's outputs, if they are one tensor [n, NUM_CLASSES] for labels [n].

    Raises UserError that names the network and what it returned. Shapes are known without waiting for the device.
    """
    wanted = (len(labels), NUM_CLASSES)
    if isinstance(outputs, torch.Tensor) and outputs.shape == wanted:
        return outputs
    found = f"shape {list(outputs.shape)}" if isinstance(outputs, torch.Tensor) else f"a {type(outputs).__name__}"
    raise UserError(
        f"network {network} returns {found} for {len(labels)} images; return one tensor of shape {list(wanted)}, "
        "in training as in evaluation"
    )
