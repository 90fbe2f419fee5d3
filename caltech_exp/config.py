"""What one run is: its settings, each with its default and range once, and its identity."""

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from caltech_exp.cli import did_you_mean

NUM_CLASSES = 102
"""Outputs of the networks' last layer: 101 classes and one unused, as in the report (Figure 4)."""

PIN = "@sha256:"
"""Separates a weights file's path from the hash of its content: `/path/net.pth@sha256:<64 hex>`."""

NETWORK_NAMES = ("alexnet", "resnet18")
"""The report's networks."""

CUSTOM_NETWORK = re.compile(
    r"(?P<path>[^\x00-\x1f\x7f]+\.py):(?P<function>[A-Za-z_]\w*)(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
"""A network of the user's own: a function in a Python file, pinned to the file's content like a weights file."""

RESIZE = 256
"""Pixels of the shorter side before the crop, in the report's runs (design, The report's protocol)."""

DEFAULTS_ADDED_LATER = {
    "sampling": "shuffle",
    "max_per_class": 0,
    "resize": RESIZE,
    "normalization": "weights",
    "last_batch": "drop",
}
"""Settings of later versions, each with the value that computes what was computed before it: ids leave it out."""

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


def _a_network(name: str) -> str:
    if name not in NETWORK_NAMES and not CUSTOM_NETWORK.fullmatch(name):
        raise ValueError(f"there is no such network{did_you_mean(name, NETWORK_NAMES)}")
    return name


class RunConfig(BaseModel):
    """Every setting that can change a run's result, but for the seed and the data set.

    The defaults are the course template's (the report's Figure 4): AlexNet from scratch.
    Raises pydantic.ValidationError for a wrong type, an unknown name or a value out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, AfterValidator(_a_network)] = Field(
        "alexnet", description="the network: alexnet, resnet18, or a function in a file, as in nets.py:tiny"
    )
    weights: Annotated[str, StringConstraints(min_length=1)] = Field(
        "none", description="initial weights: none, imagenet, or the path of a state dict"
    )
    freeze: Literal["none", "conv", "fc"] = Field(
        "none", description="layers left out of training: none, conv (all but the classifier) or fc"
    )
    augment: Literal["none", "crop", "perspective", "combined"] = Field(
        "none",
        description="random transforms of the training images: none, crop (with flip and grayscale), perspective "
        "(with rotation and vertical flip) or combined (all but the vertical flip)",
    )
    lr: FiniteFloat = Field(1e-3, gt=0, description="initial learning rate, a number above 0")
    momentum: FiniteFloat = Field(0.9, ge=0, lt=1, description="SGD momentum, from 0 to below 1")
    weight_decay: FiniteFloat = Field(5e-5, ge=0, description="L2 penalty, a number from 0")
    batch_size: int = Field(256, ge=1, description="images per step, a whole number from 1")
    epochs: int = Field(30, ge=1, description="passes over the training set, a whole number from 1")
    step_size: int = Field(20, ge=1, description="epochs between two step-downs of the learning rate, from 1")
    gamma: FiniteFloat = Field(0.1, gt=0, le=1, description="factor of each step-down, above 0, at most 1")
    max_images: int = Field(
        0, ge=0, description="images used of each of training, validation and test set; 0 for all"
    )
    max_per_class: int = Field(
        0, ge=0, description="training images used of each class, the largest under-sampled; 0 for all"
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="training images of an epoch: shuffle, each once; balanced, all classes alike often"
    )
    last_batch: Literal["drop", "keep"] = Field(
        "drop", description="the last batch of an epoch where it is incomplete: drop, or keep"
    )
    resize: int = Field(
        RESIZE,
        ge=0,
        le=1024,
        description="pixels of the shorter side before the 224 x 224 crop, to 1024; 0: as it is",
    )
    normalization: Literal["weights", "half", "imagenet"] = Field(
        "weights",
        description="mean and std of inputs: half (0.5), imagenet, or weights, by what they started from",
    )
    workers: int = Field(
        4, ge=0, le=64, description="data loading processes of engine=reference, 0 to 64 (each draws its own)"
    )
    engine: Literal["fast", "reference"] = Field(
        "fast", description="how a run trains: fast, or reference, the course template's loop to the letter"
    )
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="arithmetic of engine=fast: bf16 (autocast) or fp32; reference has fp32 only"
    )

    @model_validator(mode="after")
    def _imagenet_has_the_reports_networks(self) -> "RunConfig":
        if self.weights == "imagenet" and self.model not in NETWORK_NAMES:
            raise ValueError(
                "there are ImageNet weights for alexnet and resnet18 only; give weights=none or a file"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _reference_has_one_precision(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("engine") == "reference":
            if values.get("precision", "fp32") == "bf16":
                raise ValueError("engine=reference computes in fp32; leave precision out, or use engine=fast")
            return {**values, "precision": "fp32"}
        return values

    def but(self, **changes: Any) -> "RunConfig":
        """The same configuration with some settings changed, validated anew.

        Another engine than before brings its own precision along, unless one is given.
        """
        other_engine = changes.get("engine", self.engine) != self.engine
        kept = self.model_dump(exclude={"precision"} if other_engine else None)
        return RunConfig.model_validate({**kept, **changes})

    @property
    def pretrained(self) -> bool:
        """Whether training starts from given weights, imagenet or a file."""
        return self.weights != "none"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that this configuration's engine knows: the reference has no precision, fast no workers."""
        return self.model_dump(exclude={"precision" if self.engine == "reference" else "workers"})

    @cached_property
    def id(self) -> str:
        """10 hex digits that name this configuration whatever its seed.

        A hash of all settings that can change the result; pinned files (weights, an own network) count by their
        content, not their path. A setting added in a later version stands in DEFAULTS_ADDED_LATER.
        """
        identity = {
            name: value for name, value in self.settings.items() if DEFAULTS_ADDED_LATER.get(name) != value
        }
        if (own := CUSTOM_NETWORK.fullmatch(self.model)) and own["digest"]:
            identity["model"] = f"sha256:{own['digest']}:{own['function']}"
        _, pinned, digest = self.weights.partition(PIN)
        if pinned:
            identity["weights"] = f"sha256:{digest}"
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def choices(setting: str) -> tuple[str, ...]:
    """The values that a setting with a list of names takes, of the networks the report's."""
    if setting == "model":
        return NETWORK_NAMES
    return get_args(RunConfig.model_fields[setting].annotation)


def run_id(config: RunConfig, seed: int) -> str:
    """The run's name on disk and in the queue's manifests: `<configuration id>-s<seed>`."""
    return f"{config.id}-s{seed}"


def split_run_id(name: str) -> tuple[str, int]:
    """The configuration's id and the seed of a run that `run_id` has named."""
    config, _, seed = name.rpartition("-s")
    return config, int(seed)
