"""The networks by name: how each is built, which of its layers train, and what it must return."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import PurePath

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torchvision.models import alexnet, resnet18

from caltech_exp.cli import UserError
from caltech_exp.config import PIN, RunConfig
from caltech_exp.models.custom import load_network
from caltech_exp.models.initial_weights import InitialWeights, load_initial_weights


@dataclass(frozen=True)
class Network:
    """One of torchvision's networks.

    build       makes the network with torchvision's 1000-way head
    head        the name of that last layer
    classifier  the name of the fully connected part; everything else counts as convolutional
    """

    build: Callable[[], nn.Module]
    head: str
    classifier: str


CLASSIFIERS = ("classifier", "fc", "head")  # names of the fully connected part in torchvision's networks

NETWORKS = {
    "alexnet": Network(alexnet, head="classifier.6", classifier="classifier"),
    "resnet18": Network(resnet18, head="fc", classifier="fc"),
}


def build(config: RunConfig) -> nn.Module:
    """The network of a run with an output for each of config.classes, on the CPU, in float32.

    Random numbers come from torch's global generator.
    """
    return build_with_weights(config)[0]


def build_with_weights(config: RunConfig) -> tuple[nn.Module, InitialWeights | None]:
    """The network as `build` makes it, and the weights it starts from; None for random ones."""
    net = build_random(config)
    return net, load_initial_weights(net, _fixed_head(config), config) if config.pretrained else None


def check_weights_fit(config: RunConfig, network: bytes | None = None) -> InitialWeights:
    """What a pretrained configuration would load; raise UserError if the weights do not fit.

    network  the content of a custom network's file that the study does not hold yet
    """
    # The meta device has names and shapes only, and takes no memory. Custom networks may compute with their
    # numbers.
    with torch.device("meta") if config.model in NETWORKS else nullcontext():
        net = build_random(config, network)
    return load_initial_weights(net, _fixed_head(config), config)


def _fixed_head(config: RunConfig) -> str | None:
    return NETWORKS[config.model].head if config.model in NETWORKS else None


def build_random(config: RunConfig, content: bytes | None = None) -> nn.Module:
    """The network of a run with random weights; `content` is that of a custom network's file."""
    if config.model not in NETWORKS:
        return _build_custom(config, content)
    network = NETWORKS[config.model]
    net = network.build()
    replace_head(net, network, config.classes)
    return net


def _build_custom(config: RunConfig, content: bytes | None) -> nn.Module:
    build_net = load_network(config.model, content)
    try:
        net = build_net(config.classes)
    except Exception as error:
        raise UserError(
            f"network {config.model} fails for {config.classes} classes: {type(error).__name__}: {error}; "
            "correct it"
        ) from error
    if not isinstance(net, nn.Module):
        raise UserError(
            f"network {config.model} returns a {type(net).__name__}, not a torch.nn.Module; correct it"
        )
    if next(trained_parameters(net, config), None) is None:
        raise UserError(_nothing_to_train(net, config))
    if config.frozen_batchnorm == "eval" and not fixed_batchnorms(net, config):
        raise UserError(
            f"frozen_batchnorm=eval: no frozen layer of {config.model} is a batch normalisation; leave it out"
        )
    return net


def _nothing_to_train(net: nn.Module, config: RunConfig) -> str:
    if any(parameter.requires_grad for parameter in net.parameters()):
        return f"freeze={config.freeze} leaves nothing of {config.model} to train; freeze something else"
    return f"network {config.model} has no parameter with requires_grad, so nothing to train; leave some unfrozen"


def classifier_name(net: nn.Module, config: RunConfig) -> str:
    """The name of the fully connected part, which freeze=conv trains and freeze=fc does not; "" if there is none.

    In a custom network it is the child called `classifier`, `fc` or `head`, as in torchvision's. Raises UserError
    if there is none but part of the network is to be frozen.
    """
    if config.model in NETWORKS:
        return NETWORKS[config.model].classifier
    children = [name for name, _ in net.named_children()]
    classifier = next((name for name in CLASSIFIERS if name in children), "")
    if config.freeze != "none" and not classifier:
        raise UserError(
            f"freeze={config.freeze}: {PurePath(config.model.partition(PIN)[0]).name} has no child called "
            f"{', '.join(CLASSIFIERS)}; give its fully connected part one of these names"
        )
    return classifier


def replace_head(net: nn.Module, network: Network, classes: int) -> None:
    """Replace the last layer by a new linear layer with so many outputs."""
    owner, _, name = network.head.rpartition(".")
    parent = net.get_submodule(owner)
    old = parent.get_submodule(name)
    if not isinstance(old, nn.Linear):
        raise TypeError(f"{network.head} is a {type(old).__name__}, not a linear layer")
    setattr(parent, name, nn.Linear(old.in_features, classes))


def trained_parameters(net: nn.Module, config: RunConfig) -> Iterator[nn.Parameter]:
    """The parameters that the optimizer gets: all, or only those of the fully connected or convolutional layers.

    Parameters that a custom network has frozen itself (requires_grad is False) are left out. freeze=fc freezes the
    whole classifier, its random new head included, as the template does when it gives only `net.features` to the
    optimizer (report, section 2.4).
    """
    classifier = classifier_name(net, config)
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and not _is_frozen(name, classifier, config):
            yield parameter


def _is_frozen(name: str, classifier: str, config: RunConfig) -> bool:
    """Whether a parameter or layer of that name is in the part that config.freeze freezes."""
    is_fully_connected = f"{name}.".startswith(f"{classifier}.")
    return config.freeze != "none" and is_fully_connected == (config.freeze == "fc")


def fixed_batchnorms(net: nn.Module, config: RunConfig) -> tuple[nn.Module, ...]:
    """With frozen_batchnorm=eval the frozen layers' batch normalisations, which stay in evaluation mode.

    One that a custom network has frozen itself (no parameter has requires_grad) is among them.
    """
    if config.frozen_batchnorm == "train":
        return ()
    classifier = classifier_name(net, config)
    return tuple(
        module
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm)
        and (
            _is_frozen(name, classifier, config)
            or (module.affine and not any(parameter.requires_grad for parameter in module.parameters()))
        )
    )


def freeze_all_but(net: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Compute gradients for the trained parameters only, which saves time and changes no number."""
    parameters = list(trained)  # before freezing: an iterator may select by requires_grad
    net.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)


def split_backbone(net: nn.Module, config: RunConfig) -> tuple[nn.Module, nn.Module]:
    """Split the network in two: images to features [n, features], and features to outputs [n, classes].

    torchvision's AlexNet and ResNet-18 apply their children in order and flatten before the classifier. A custom
    network may do anything, so all of it is the first part.
    """
    if config.model not in NETWORKS:
        return net, nn.Identity()
    name = NETWORKS[config.model].classifier
    children = dict(net.named_children())
    classifier = children.pop(name)
    return nn.Sequential(*children.values(), nn.Flatten()), classifier


def can_cache_features(backbone: nn.Module, config: RunConfig) -> bool:
    """Whether the backbone's output for an image is the same throughout a run.

    It is if the convolutional layers are frozen and neither the augmentation nor they draw random numbers. With
    batch normalisation (ResNet-18) it is only if that keeps its statistics: otherwise the output in training
    depends on the batch, frozen or not.
    """
    if config.freeze != "conv" or config.augment != "none" or config.model not in NETWORKS:
        return False
    changing = _DropoutNd if config.frozen_batchnorm == "eval" else _BatchNorm | _DropoutNd
    return not any(isinstance(module, changing) for module in backbone.modules())


def check_output_shape(outputs: object, labels: torch.Tensor, config: RunConfig) -> torch.Tensor:
    """The network's outputs; raise UserError unless they are one tensor [n, config.classes] for labels [n].

    Shapes are known without waiting for the device.
    """
    shape = (len(labels), config.classes)
    if isinstance(outputs, torch.Tensor) and outputs.shape == shape:
        return outputs
    kind = f"shape {list(outputs.shape)}" if isinstance(outputs, torch.Tensor) else f"a {type(outputs).__name__}"
    raise UserError(
        f"network {config.model} returns {kind} for {len(labels)} images; return one tensor of shape "
        f"{list(shape)}, in training as in evaluation"
    )
