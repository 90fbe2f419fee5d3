"""Settings, states, commands and cautions in the report's words: LR = 5e-2, BATCH_SIZE = 256, NUM_EPOCHS = 30."""

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from caltech_exp.catalog import SPLIT_IMAGES, Table
from caltech_exp.config import (
    CUSTOM_NETWORK,
    DATA_SETTINGS,
    DEFAULTS_ADDED_LATER,
    NUM_CLASSES,
    PIN,
    RUN_SETTINGS,
    SAME_RESULT_SETTINGS,
    RunConfig,
    short_digests,
)
from caltech_exp.provenance import CHECKOUT
from caltech_exp.reporting.comparison import (
    NetworkStart,
    TableRow,
    has_report_images,
    has_reported_data,
    image_counts,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import code, escape, join_words, printable
from caltech_exp.study.results import WEIGHTS
from caltech_exp.study.study import RUN_FOLDER

PARAMETERS = {
    "batch_size": "BATCH_SIZE",
    "lr": "LR",
    "momentum": "MOMENTUM",
    "weight_decay": "WEIGHT_DECAY",
    "epochs": "NUM_EPOCHS",
    "step_size": "STEP_SIZE",
    "gamma": "GAMMA",
    "warmup_epochs": "WARMUP_EPOCHS",
    "label_smoothing": "LABEL_SMOOTHING",
}
WORDS: dict[str, dict[Any, str]] = {
    "model": {"alexnet": "AlexNet", "resnet18": "ResNet-18"},
    "weights": {"none": "from scratch", "imagenet": "pretrained on ImageNet"},
    "freeze": {
        "none": "all layers trained",
        "conv": "only the fully connected layers trained",
        "fc": "only the convolutional layers trained",
    },
    "frozen_batchnorm": {
        "train": "batch normalisation of frozen layers by the batch",
        "eval": "batch normalisation of frozen layers kept fixed",
    },
    "augment": {
        "none": "no augmentation",
        "crop": "RandomCrop, horizontal flip and grayscale",
        "perspective": "RandomPerspective, rotation and vertical flip",
        "combined": "all augmentations but the vertical flip",
    },
    "optimizer": {"sgd": "SGD", "adamw": "AdamW"},
    "schedule": {
        "step": "the learning rate stepped down",
        "cosine": "cosine schedule",
        "constant": "constant learning rate",
    },
    "max_images": {0: "all images"},
    "max_per_class": {0: "all images of each class"},
    "last_batch": {"drop": "the last incomplete batch dropped", "keep": "the last incomplete batch kept"},
    "resize": {0: "images not resized before the crop"},
    "normalization": {
        "weights": "inputs normalised as the weights expect",
        "half": "inputs normalised with 0.5 and 0.5",
        "imagenet": "inputs normalised with ImageNet's mean and std",
        "data": "inputs normalised with the training images' mean and std",
    },
    "sampling": {"shuffle": "every image once per epoch", "balanced": "every class equally often"},
}
STATES = {
    "finished": "finished",
    "diverged": "diverged",
    "failed": "failed",
    "damaged": "damaged",
    "newer": "written by a newer version",
    "lost": "lost",
    "cancelled": "cancelled",
    "running": "running",
    "queued": "queued",
    "not counted": "not counted",
    "pending": "not submitted",
}
"""State -> its words, most advanced first."""

OTHER_WEIGHTS = "other ImageNet weights"
MAX_LISTED = 20
"""Items that are listed one by one."""


def setting(name: str, value: Any) -> str:
    """One setting, as plain text: `LR = 5e-2`, `from scratch`."""
    if name in PARAMETERS:
        return f"{PARAMETERS[name]} = {number(name, value)}"
    if value in WORDS.get(name, {}):
        return WORDS[name][value]
    match name:
        case "model":
            return network_name(value)
        case "weights":
            return f"starting from {weights_name(value)}"
        case "resize":
            return f"images resized to {value} pixels before the crop"
        case "max_per_class":
            return f"at most {value} training images of each class"
        case "max_images":
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
    name, run = PurePath(path).name, PurePath(path).parent.name
    name = f"run {run}" if name == WEIGHTS and RUN_FOLDER.fullmatch(run) else name
    return f"{name} (sha256 {short_digests(digest)})" if pinned else name


def network_name(model: str) -> str:
    """`AlexNet`; a custom network is `tiny of nets.py (sha256 0123456789ab)`."""
    custom = CUSTOM_NETWORK.fullmatch(model)
    if custom is None:
        return WORDS["model"][model]
    digest = f" (sha256 {custom['digest'][:12]})" if custom["digest"] else ""
    return f"{custom['function']} of {PurePath(custom['path']).name}{digest}"


def start_words(study: StudyFrames, start: NetworkStart) -> str:
    """`AlexNet from scratch`, `ResNet-18 pretrained`; a study file may give a network another title."""
    titles = {architecture.name: architecture.title for architecture in study.catalog.architectures}
    name = titles.get(start.model) or network_name(start.model)
    if start.has_other_weights:
        return f"{name} with {OTHER_WEIGHTS}"
    return f"{name} {'pretrained' if start.is_pretrained else 'from scratch'}"


def row_words(row: TableRow) -> str:
    """A row where its table is not named: `learning rate 5e-2`; a table with one row gives its title."""
    if len(row.table.rows) == 1 and not row.table.is_part:
        return row.table.title
    headings, parts = heading_words(row.table).split(", "), row.label.split(", ")
    if len(headings) != len(parts):
        return f"{heading_words(row.table)} {row.label}"
    return ", ".join(f"{heading} {part}" for heading, part in zip(headings, parts, strict=True))


def heading_words(table: Table) -> str:
    """What the rows of a table are, inside a sentence: `learning rate`, `LR, batch size`."""
    parts = table.heading.split(", ")
    return ", ".join(part if part[1:2].isupper() else part[:1].lower() + part[1:] for part in parts)


def as_typed(overrides: Mapping[str, Any]) -> str:
    """`lr=0.05 epochs=1`; a file is given by its name and hash."""
    return " ".join(f"{name}={_typed(name, value)}" for name, value in overrides.items())


def _typed(name: str, value: Any) -> Any:
    if name == "weights":
        return weights_name(value)
    return network_name(value) if name == "model" and value not in WORDS["model"] else value


def shared_settings(configs: Sequence[RunConfig], classes: int = NUM_CLASSES) -> str:
    """The settings that all configurations have in common: what is trained, then the parameters."""
    order = [*WORDS, *PARAMETERS]
    order += [name for name in RUN_SETTINGS if name not in (*order, *SAME_RESULT_SETTINGS)]
    values = [config.settings for config in configs]
    shared = [
        setting(name, values[0][name])
        for name in order
        if all(name in config and config[name] == values[0][name] for config in values)
        and DEFAULTS_ADDED_LATER.get(name) != values[0][name]  # named only where a study makes use of it
    ]
    return ", ".join([*shared, f"NUM_CLASSES = {classes}"])


def changed_settings(reported: RunConfig, measured: RunConfig) -> list[str]:
    """The settings in which a row of this study differs from the report's row, with the study's values."""
    before, after = reported.model_dump(), measured.settings
    return [
        setting(name, value)
        for name, value in after.items()
        if value != before[name] and name not in (*SAME_RESULT_SETTINGS, *DATA_SETTINGS)
    ]


def computed_with(configs: Iterable[RunConfig]) -> str:
    """`the fast engine in fp32`: how runs are computed, which the report's settings do not include."""
    return join_words(sorted({_engine(config) for config in configs}))


def _engine(config: RunConfig) -> str:
    workers = f" with {config.workers} workers" if config.engine == "reference" else ""
    return f"the {config.engine} engine in {config.precision}{workers}"


def display_path(folder: Path) -> str:
    """A folder of the checkout relative to it, `reports/reproduction/runs`; any other in full."""
    return str(folder.relative_to(CHECKOUT) if folder.is_relative_to(CHECKOUT) else folder)


def count_line(states: Iterable[str]) -> str:
    """How many runs are in each state: `27 of 120 runs finished; 1 failed, 92 not submitted`."""
    counts = Counter(states)
    head = f"{counts['finished']:,} of {counts.total():,} runs finished"
    others = [
        f"{counts[state]:,} {words}" for state, words in STATES.items() if counts[state] and state != "finished"
    ]
    return f"{head}; {', '.join(others)}" if others else head


def shorten(items: Sequence[str], most: int = MAX_LISTED, where: str = "") -> tuple[str, ...]:
    """The first items, and how many more there are; a single one more is listed too."""
    more = len(items) - most
    return (*items[:most], f"and {more:,} more{where}") if more > 1 else tuple(items)


def submit_command(study: StudyFrames, selection: str, seeds: int | None = None) -> str:
    """The command that submits a selection (`table=scratch.lr=6e-2`) into this study, as a user types it.

    seeds  how many seeds the selection gets; None: the study's
    """
    words = [selection]
    if os.path.realpath(study.folder) != os.path.realpath("runs"):
        words.append(f"runs={display_path(study.folder)}")
    if seeds is not None:
        words.append(f"seeds={seeds}")
    if study.study and study.study.data.root:
        words.append(f"data={study.study.data.root}")
    overrides = {name: value for name, value in study.settings.overrides.items() if name in RUN_SETTINGS}
    words += [f"{name}={str(value).partition(PIN)[0]}" for name, value in overrides.items()]
    files = (PurePath(file.partition(PIN)[0]) for file in study.settings.imagenet_weights.values())
    folders = sorted({str(file.parent) if file.is_absolute() else "FOLDER" for file in files})  # not if published
    words += [f"imagenet_weights={folder}" for folder in folders[:1]]
    return printable(shlex.join(["python", "jobs/submit.py", *words]))


def how_to_get(study: StudyFrames, rows: Iterable[TableRow], selection: str) -> str:
    """The command that gets results of rows without any, and before it what they lack, as inline Markdown."""
    command = f"To get them: {code(submit_command(study, selection))}"
    models = sorted({row.config.model for row in rows if lacks_weights(study, row)})
    if not models:
        return command
    files = join_words([f"{model}.pth" for model in models])
    names = join_words([network_name(model) for model in models])
    return f"No ImageNet weights of {names} were given; put {files} into the folder of the others. {command}"


def lacks_weights(study: StudyFrames, row: TableRow) -> bool:
    """Whether the study replaces ImageNet weights, but not those that the row starts from."""
    return bool(study.settings.imagenet_weights) and row.config.weights == "imagenet"


@dataclass(frozen=True)
class Caution:
    """One thing that a reader has to know before comparing numbers.

    page     one sentence, as inline Markdown
    picture  a few plain words
    weights  where only runs that start from these files are concerned
    """

    page: str
    picture: str
    weights: tuple[str, ...] = ()


def cautions(study: StudyFrames) -> list[Caution]:
    """Everything that keeps measured and reported numbers from being compared; empty for the real thing."""
    items = []
    if study.is_simulated:
        page = "**Simulated:** these numbers were drawn at random around the reported values; nothing was trained."
        picture = "Simulated: drawn at random around the reported values, nothing was trained"
        items.append(Caution(page, picture))
    if study.is_stand_in:
        page = "**Not Caltech-101:** these numbers were measured on a generated stand-in for the data set."
        items.append(Caution(page, "Not Caltech-101: generated stand-in data"))
    elif (
        study.study
        and not has_reported_data(study)
        and (study.rows["reported_mean"].notna() | study.rows["reported_diverges"]).any()
    ):
        data, reported_data = study.study.data, study.catalog.reported_data
        counts = f"{len(data.classes)} classes, {data.train_val_images + data.test_images:,} images"
        page = f"**Another data set:** {counts}. The reported values are of {escape(reported_data)} and not shown."
        items.append(Caution(page, f"Not {reported_data}: {counts}"))
    elif not has_report_images(study):
        images, reported = (
            f"{train:,} + {test:,}" for train, test in (image_counts(study) or (0, 0), SPLIT_IMAGES)
        )
        page = f"**Another selection of images:** {images} (training and validation + test), not {reported}."
        items.append(Caution(page, f"Other images than the report: {images}, not {reported}"))
    overrides = study.settings.overrides
    changes = as_typed(
        {name: overrides[name] for name in overrides if name in RUN_SETTINGS and name not in SAME_RESULT_SETTINGS}
    )
    if changes:
        page = f"**Overridden in every run:** {code(changes)}. Rows that this changes have no reported value."
        items.append(Caution(page, f"Overridden: {changes}"))
    if replaced := study.settings.imagenet_weights:
        files = ", ".join(f"{network}: {weights_name(file)}" for network, file in replaced.items())
        page = (
            f"**With {OTHER_WEIGHTS}** than the report's: {code(files)}, not torchvision's. Rows that start from "
            "these have headings of their own, and a difference may come from the weights."
        )
        items.append(Caution(page, f"With {OTHER_WEIGHTS} than the report's: {files}", tuple(replaced.values())))
    return items


def picture_caution(study: StudyFrames, configs: Iterable[RunConfig] = ()) -> str:
    """The lines to write into a picture of runs of these configurations; empty where there is nothing to say."""
    starts = {config.weights for config in configs}
    return "\n".join(
        caution.picture
        for caution in cautions(study)
        if not caution.weights or starts.intersection(caution.weights)
    )
