"""Run settings in the report's words: LR = 5e-2, BATCH_SIZE = 256, NUM_EPOCHS = 30."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from caltech_exp.config import (
    CUSTOM_NETWORK,
    DEFAULTS_ADDED_LATER,
    NUM_CLASSES,
    PIN,
    SAME_RESULT_SETTINGS,
    RunConfig,
)
from caltech_exp.reporting.markup import listing

PARAMETERS = {
    "batch_size": "BATCH_SIZE",
    "lr": "LR",
    "momentum": "MOMENTUM",
    "weight_decay": "WEIGHT_DECAY",
    "epochs": "NUM_EPOCHS",
    "step_size": "STEP_SIZE",
    "gamma": "GAMMA",
}
WORDS: dict[str, dict[Any, str]] = {
    "model": {"alexnet": "AlexNet", "resnet18": "ResNet-18"},
    "weights": {"none": "from scratch", "imagenet": "pretrained on ImageNet"},
    "freeze": {
        "none": "all layers trained",
        "conv": "only the fully connected layers trained",
        "fc": "only the convolutional layers trained",
    },
    "augment": {
        "none": "no augmentation",
        "crop": "RandomCrop, horizontal flip and grayscale",
        "perspective": "RandomPerspective, rotation and vertical flip",
        "combined": "all augmentations but the vertical flip",
    },
    "max_images": {0: "all images"},
    "max_per_class": {0: "all images of each class"},
    "last_batch": {"drop": "the last incomplete batch dropped", "keep": "the last incomplete batch kept"},
    "resize": {0: "images not resized before the crop"},
    "normalization": {
        "weights": "inputs normalised as the weights were trained",
        "half": "inputs normalised with 0.5 and 0.5",
        "imagenet": "inputs normalised with ImageNet's mean and std",
    },
    "sampling": {"shuffle": "each image once an epoch", "balanced": "all classes equally often"},
}
HOW_NOT_WHAT = SAME_RESULT_SETTINGS


def setting(name: str, value: Any) -> str:
    """One setting, as plain text."""
    if name in PARAMETERS:
        return f"{PARAMETERS[name]} = {number(name, value)}"
    if value in WORDS.get(name, {}):
        return WORDS[name][value]
    if name == "model":
        return network_name(value)
    if name == "max_per_class":
        return f"at most {value} training images of each class"
    if name == "resize":
        return f"images resized to {value} pixels before the crop"
    if name == "weights":
        return f"starting from {weights_name(value)}"
    if name == "max_images":
        return f"at most {value} images of each split"
    return f"{name} = {value}"


def number(name: str, value: float) -> str:
    """Learning rate and weight decay as the report writes them, 5e-2; other numbers as short as they go."""
    if name not in ("lr", "weight_decay") or value == 0:
        return f"{value:g}" if isinstance(value, float) else str(value)
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def weights_name(weights: str) -> str:
    """`/path/net.pth@sha256:<64 hex>` -> `net.pth (sha256 0123456789ab)`"""
    path, pinned, digest = weights.partition(PIN)
    name = PurePath(path).name
    return f"{name} (sha256 {digest[:12]})" if pinned else name


def network_name(model: str) -> str:
    """`AlexNet`; of a network of the user's own `tiny of nets.py (sha256 0123456789ab)`"""
    own = CUSTOM_NETWORK.fullmatch(model)
    if own is None:
        return WORDS["model"][model]
    digest = f" (sha256 {own['digest'][:12]})" if own["digest"] else ""
    return f"{own['function']} of {PurePath(own['path']).name}{digest}"


def as_typed(overrides: Mapping[str, Any]) -> str:
    """`lr=0.05 epochs=1`, a weights file by its name and hash."""
    return " ".join(f"{name}={_typed(name, value)}" for name, value in overrides.items())


def _typed(name: str, value: Any) -> Any:
    if name == "weights":
        return weights_name(value)
    return network_name(value) if name == "model" and value not in WORDS["model"] else value


def shared_settings(configs: Sequence[RunConfig]) -> str:
    """All settings that the configurations have in common, first what is trained, then the parameters; not how it
    is computed."""
    order = [*WORDS, *PARAMETERS]
    order += [name for name in RunConfig.model_fields if name not in (*order, *HOW_NOT_WHAT)]
    values = [config.settings for config in configs]
    shared = [
        setting(name, values[0][name])
        for name in order
        if all(name in config and config[name] == values[0][name] for config in values)
        and DEFAULTS_ADDED_LATER.get(name) != values[0][name]  # said only where a study makes use of it
    ]
    return ", ".join([*shared, f"NUM_CLASSES = {NUM_CLASSES}"])


def changed_settings(reported: RunConfig, measured: RunConfig) -> list[str]:
    """The settings in which what a row of this study trains differs from the report's, with the study's values."""
    before, after = reported.model_dump(), measured.settings
    return [
        setting(name, after[name]) for name in after if after[name] != before[name] and name not in HOW_NOT_WHAT
    ]


def computed_with(configs: Sequence[RunConfig]) -> str:
    """`the fast engine in fp32`: how runs are computed, which the report's settings say nothing of."""
    return listing(sorted({_engine(config) for config in configs}))


def _engine(config: RunConfig) -> str:
    workers = f" with {config.workers} workers" if config.engine == "reference" else ""
    return f"the {config.engine} engine in {config.precision}{workers}"
