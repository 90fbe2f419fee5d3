"""Frozen layers save gradients, and the features of a whole run."""

import pytest
import torch

from caltech_exp.config import RunConfig
from caltech_exp.models.networks import (
    build,
    can_cache_features,
    freeze_all_but,
    split_backbone,
    trained_parameters,
)


@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_backbone_and_classifier_together_are_the_network(model: str) -> None:
    config = RunConfig.model_validate({"model": model})
    net = build(config).eval()
    trunk, classifier = split_backbone(net, config)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(classifier(trunk(images)), net(images))


@pytest.mark.parametrize("freeze", ["conv", "fc", "none"])
def test_gradients_are_computed_for_trained_parameters_only(freeze: str) -> None:
    config = RunConfig.model_validate({"model": "resnet18", "freeze": freeze})
    net = build(config)
    trained = {id(parameter) for parameter in trained_parameters(net, config)}
    freeze_all_but(net, trained_parameters(net, config))
    net(torch.randn(2, 3, 224, 224)).sum().backward()
    for parameter in net.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)


@pytest.mark.parametrize(
    ("model", "freeze", "batchnorm", "augment", "fixed"),
    [
        ("alexnet", "conv", "train", "none", True),
        ("alexnet", "conv", "train", "crop", False),
        ("alexnet", "conv", "train", "perspective", False),
        ("alexnet", "conv", "train", "combined", False),
        ("alexnet", "none", "train", "none", False),
        ("alexnet", "fc", "train", "none", False),
        ("resnet18", "conv", "train", "none", False),  # batch normalisation goes by the batch
        ("resnet18", "conv", "eval", "none", True),
        ("resnet18", "conv", "eval", "crop", False),
        ("resnet18", "none", "eval", "none", False),
        ("resnet18", "fc", "eval", "none", False),
    ],
)
def test_features_are_cached_where_nothing_before_them_changes(
    model: str, freeze: str, batchnorm: str, augment: str, fixed: bool
) -> None:
    words = {"model": model, "freeze": freeze, "frozen_batchnorm": batchnorm, "augment": augment}
    config = RunConfig.model_validate(words)
    trunk, _ = split_backbone(build(config), config)
    assert can_cache_features(trunk, config) == fixed
