"""The settings of a run, each with its default and range, and the run's id."""

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from caltech_exp.cli import suggestion

NUM_CLASSES = 102
"""Outputs of the networks' last layer: 101 classes and an unused one, as in the report (Figure 4)."""
MAX_CLASSES = 2000
"""Of a data set of the user's own; a confusion matrix takes the square of it."""

PIN = "@sha256:"
"""Separates a file's path from the hash of its content: `/path/net.pth@sha256:<64 hex digits>`."""
JOIN = "+"
"""Joins the names, and the hashes, of weights files in one folder that are one network's together."""
ABSENT = "0" * 32
"""The hash of a file begins with it if the file was missing when other rows of its study were submitted."""

NETWORK_NAMES = ("alexnet", "resnet18")

CUSTOM_NETWORK = re.compile(
    r"(?P<path>[^\x00-\x1f\x7f]+\.py):(?P<function>[A-Za-z_]\w*)(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
"""A custom network: a function in a Python file, perhaps pinned to the file's content."""

RESIZE = 256
"""Pixels of the shorter side before the crop, in the report's runs."""

DEFAULTS_ADDED_LATER = {
    "sampling": "shuffle",
    "max_per_class": 0,
    "resize": RESIZE,
    "normalization": "weights",
    "last_batch": "drop",
    "optimizer": "sgd",
    "schedule": "step",
    "warmup_epochs": 0,
    "label_smoothing": 0.0,
    "classes": NUM_CLASSES,
    "data_set": "",
    "frozen_batchnorm": "train",
}
"""Settings added by later versions, with the value that computes what earlier versions computed. Run ids leave
a setting with this value out, so that old ids stay."""

SAME_RESULT_SETTINGS = ("workers", "engine", "precision")
"""Settings that say how a run is computed, not what it trains: reported values hold whatever they are."""

UNUSED_WITH = {
    ("optimizer", "adamw"): ("momentum",),
    ("schedule", "cosine"): ("step_size", "gamma"),
    ("schedule", "constant"): ("step_size", "gamma"),
    ("model", "alexnet"): ("frozen_batchnorm",),
    ("engine", "fast"): ("workers",),
    ("engine", "reference"): ("precision",),
}
"""Setting and value -> the settings that have no effect with it, and so do not count in a run's id."""

DATA_SETTINGS = ("classes", "data_set")
"""Settings that a data set of the user's own gives to every run (DataSet.settings); nobody types them."""

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


def _known_network(name: str) -> str:
    if name not in NETWORK_NAMES and not CUSTOM_NETWORK.fullmatch(name):
        raise ValueError(f"there is no such network{suggestion(name, NETWORK_NAMES)}")
    return name


class RunConfig(BaseModel):
    """Every setting that can change a run's result, except the seed and Caltech-101.

    The defaults are the course template's (the report's Figure 4): AlexNet from scratch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, AfterValidator(_known_network)] = Field(
        "alexnet", description="the network: alexnet, resnet18, or a function in a file, as in nets.py:tiny"
    )
    weights: Annotated[str, StringConstraints(min_length=1)] = Field(
        "none",
        description="initial weights: none, imagenet, or the path of a state dict, or of several, a.pth+b.pth",
        examples=["imagenet"],
    )
    freeze: Literal["none", "conv", "fc"] = Field(
        "none", description="layers that are not trained: none, conv (all but the classifier) or fc"
    )
    frozen_batchnorm: Literal["train", "eval"] = Field(
        "train",
        description="batch normalisation of frozen layers: train (by the batch, updating its statistics, as the "
        "template) or eval (keeps its statistics)",
    )
    augment: Literal["none", "crop", "perspective", "combined"] = Field(
        "none",
        description="random transforms of the training images: none, crop (with flip and grayscale), perspective "
        "(with rotation and vertical flip) or combined (all but the vertical flip)",
    )
    lr: FiniteFloat = Field(
        1e-3, gt=0, le=1e38, description="initial learning rate, a number above 0", examples=["5e-2"]
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum, or AdamW")
    momentum: FiniteFloat = Field(0.9, ge=0, lt=1, description="SGD momentum, from 0 to below 1")
    weight_decay: FiniteFloat = Field(
        5e-5, ge=0, le=1e38, description="L2 penalty of SGD, decoupled decay of AdamW, at least 0"
    )
    batch_size: int = Field(256, ge=1, lt=2**31, description="images per step, a whole number from 1")
    epochs: int = Field(30, ge=1, le=1_000_000, description="passes over the training set, a whole number from 1")
    schedule: Literal["step", "cosine", "constant"] = Field(
        "step",
        description="learning rate over the epochs: step (down by gamma every step_size epochs), cosine (towards "
        "0 after the last epoch) or constant",
    )
    step_size: int = Field(
        20, ge=1, lt=2**31, description="epochs between two step-downs of the learning rate, from 1"
    )
    gamma: FiniteFloat = Field(0.1, gt=0, le=1, description="factor of each step-down, above 0, at most 1")
    warmup_epochs: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="epochs in which the learning rate rises to lr, before the schedule starts",
    )
    label_smoothing: FiniteFloat = Field(
        0.0, ge=0, lt=1, description="label smoothing of the training loss, from 0 to below 1"
    )
    max_images: int = Field(
        0, ge=0, lt=2**31, description="images used of each of the training, validation and test sets; 0 = all"
    )
    max_per_class: int = Field(
        0, ge=0, lt=2**31, description="most training images per class, by under-sampling larger classes; 0 = all"
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle",
        description="shuffle: every image once per epoch; balanced: every class equally often",
    )
    last_batch: Literal["drop", "keep"] = Field(
        "drop", description="an incomplete last batch of an epoch: drop or keep it"
    )
    resize: int = Field(
        RESIZE,
        ge=0,
        le=1024,
        description="resize the shorter side to this many pixels before the 224 x 224 crop "
        "(up to 1024; 0 = no resize)",
    )
    normalization: Literal["weights", "half", "imagenet", "data"] = Field(
        "weights",
        description="mean and std of the inputs: half (0.5), imagenet, data (of the training images), or weights "
        "(those that the weights expect)",
    )
    workers: int = Field(
        4,
        ge=0,
        le=64,
        description="data loading processes of engine=reference, 0 to 64; each has its own random numbers",
    )
    engine: Literal["fast", "reference"] = Field(
        "fast", description="fast, or reference: the course template's own training loop"
    )
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="arithmetic of engine=fast: bf16 (autocast) or fp32; reference always has fp32"
    )
    classes: int = Field(NUM_CLASSES, ge=2, le=MAX_CLASSES)
    data_set: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16})?$")] = ""

    @model_validator(mode="after")
    def _imagenet_has_the_reports_networks(self) -> "RunConfig":
        if self.weights == "imagenet" and self.model not in NETWORK_NAMES:
            raise ValueError("ImageNet weights exist for alexnet and resnet18 only; give weights=none or a file")
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
        """The configuration with some settings changed; a new engine has its own precision unless one is given."""
        has_new_engine = changes.get("engine", self.engine) != self.engine
        settings = self.model_dump(exclude={"precision"} if has_new_engine else None)
        return RunConfig.model_validate({**settings, **changes})

    @property
    def pretrained(self) -> bool:
        """Whether training starts from ImageNet's or a file's weights."""
        return self.weights != "none"

    @property
    def input_statistics(self) -> str:
        """Whose mean and std normalise the inputs: `half` or `imagenet`."""
        if self.normalization != "weights":
            return self.normalization
        return "imagenet" if self.pretrained else "half"

    @cached_property
    def unused(self) -> dict[str, str]:
        """The settings that have no effect -> the setting that is why: `precision` -> `engine=reference`."""
        unused = {
            name: f"{cause}={value}"
            for (cause, value), names in UNUSED_WITH.items()
            if getattr(self, cause) == value
            for name in names
        }
        if self.freeze != "conv" and self.model in NETWORK_NAMES:  # a custom network may freeze layers itself
            unused.setdefault("frozen_batchnorm", f"freeze={self.freeze}")
        return unused

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that have an effect."""
        return self.model_dump(exclude=set(self.unused))

    @cached_property
    def id(self) -> str:
        """10 hex digits that name this configuration: a hash of all settings that can change the result.

        Pinned files (weights, a custom network) count by their content, not their path.
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


def short_digests(digest: str) -> str:
    """The first 12 digits of a pinned hash, or of each of several."""
    return JOIN.join(part[:12] for part in digest.split(JOIN))


RUN_SETTINGS = {name: field for name, field in RunConfig.model_fields.items() if name not in DATA_SETTINGS}
"""The settings that a command line or a study file may change."""


def choices(setting: str) -> tuple[str, ...]:
    """The names that a setting takes; of `model`, the report's networks."""
    if setting == "model":
        return NETWORK_NAMES
    return get_args(RunConfig.model_fields[setting].annotation)


def run_id(config: RunConfig, seed: int) -> str:
    """The run's name on disk and in manifests: `<configuration id>-s<seed>`."""
    return f"{config.id}-s{seed}"


def split_run_id(name: str) -> tuple[str, int]:
    """The inverse of `run_id`: the configuration's id and the seed."""
    config, _, seed = name.rpartition("-s")
    return config, int(seed)
