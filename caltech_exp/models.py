"""The networks by name: how each is built, given weights, and which of its layers train."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import alexnet, resnet18

from caltech_exp.config import NUM_CLASSES, RunConfig
from caltech_exp.errors import UserError
from caltech_exp.weights import weights_file


@dataclass(frozen=True)
class Network:
    """build makes the network with torchvision's 1000-way head; `head` is that last layer's name.

    `classifier` names the fully connected part; everything else counts as convolutional.
    """

    build: Callable[[], nn.Module]
    head: str
    classifier: str


NETWORKS = {
    "alexnet": Network(alexnet, head="classifier.6", classifier="classifier"),
    "resnet18": Network(resnet18, head="fc", classifier="fc"),
}


def build(config: RunConfig) -> nn.Module:
    """The network of a run with its NUM_CLASSES-way head, on the CPU, in float32.

    The head is new (random) unless a given state dict brings one of NUM_CLASSES outputs. Random numbers come
    from torch's global generator. Raises UserError if the weights are missing, damaged or of another network.
    """
    network = NETWORKS[config.model]
    net = network.build()
    if not config.pretrained:
        replace_head(net, network)
        return net
    path = weights_file(config)
    state = _read_state_dict(path)
    head = state.get(f"{network.head}.weight")
    trained_here = isinstance(head, torch.Tensor) and head.shape[:1] == (NUM_CLASSES,)
    if trained_here:
        replace_head(net, network)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"weights {path} do not fit {config.model}: {reason}; give weights of that network"
        ) from None
    if not trained_here:
        replace_head(net, network)
    return net


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

    freeze=fc leaves the whole classifier as it was made, its random new head included, as the template does
    when it hands only `net.features` to the optimizer (report, section 2.4).
    """
    prefix = NETWORKS[config.model].classifier + "."
    for name, parameter in net.named_parameters():
        fully_connected = name.startswith(prefix)
        if config.freeze == "none" or fully_connected == (config.freeze == "conv"):
            yield parameter


def _read_state_dict(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # on damaged bytes torch's unpickler raises nearly anything, an IndexError too
        raise UserError(f"weights {path} are not a file written by torch.save; give a state dict") from None
    if not isinstance(state, dict):
        raise UserError(f"weights {path} hold a {type(state).__name__}, not a state dict; save net.state_dict()")
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()):
        raise UserError(f"weights {path} hold more than named tensors; save net.state_dict() alone")
    return state
