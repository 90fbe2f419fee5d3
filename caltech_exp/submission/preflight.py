"""Everything that can be found wrong before anything is queued."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from caltech_exp.cli import UserError
from caltech_exp.config import NUM_CLASSES, PIN, RunConfig
from caltech_exp.data.splits import DataSet, evenly, read_data_set
from caltech_exp.executors.executor import Executor
from caltech_exp.files import user_path
from caltech_exp.models.custom import CustomNetwork
from caltech_exp.models.weights import fetch_imagenet, imagenet_problem
from caltech_exp.profiles.paths import expand_path
from caltech_exp.profiles.profile import Profile
from caltech_exp.study.study import StudyData, StudySettings, weights_files


def data_folder(given: str, profile: Profile) -> Path:
    """The folder of data=, of $CALTECH101_ROOT or of the profile, in this order. Raises UserError."""
    if given:
        return user_path(given, "data")
    environment = os.environ.get("CALTECH101_ROOT")
    if environment:
        return user_path(environment, "CALTECH101_ROOT")
    if profile.data:
        return expand_path(profile.data, "data")
    raise UserError(
        "no data set: set data=DIR or CALTECH101_ROOT to the folder of Caltech-101; "
        "python jobs/prepare.py data=DIR fetches it"
    )


def find_data(given: str, profile: Profile) -> DataSet:
    """The data set in that folder. Raises UserError."""
    return read_data_set(data_folder(given, profile))


def describe_data(data: DataSet) -> StudyData:
    """What a study records of its data set."""
    return StudyData(
        root=str(data.root.resolve()),
        fingerprint=data.fingerprint,
        stand_in=data.stand_in,
        classes=data.classes,
        train_val_images=len(data.train_val),
        test_images=len(data.test),
    )


def check_splits(data: DataSet) -> None:
    """Raises UserError if the split files leave no validation image: every other one of train.txt."""
    if not data.val:
        raise UserError(f"{data.root / 'train.txt'} leaves no validation image; name two images or more there")


def check_data(configs: Iterable[RunConfig], data: DataSet, settings: StudySettings) -> None:
    """Raises UserError if the data cannot be trained on: too many classes, or no whole batch of images."""
    if len(data.classes) > NUM_CLASSES:
        raise UserError(
            f"{data.root / 'train.txt'} names {len(data.classes)} classes and the networks have {NUM_CLASSES} "
            "outputs; name fewer"
        )
    check_splits(data)
    for config in configs:
        images = _training_images(data, config)
        if config.batch_size > images and config.last_batch == "drop":
            whose = "" if "batch_size" in settings.overrides else " of a row of the report"
            raise UserError(
                f"batch_size={config.batch_size}{whose} is larger than the training set of {images:,} images: "
                f"no step would run; set batch_size={images} or less, more images, or last_batch=keep"
            )


def _training_images(data: DataSet, config: RunConfig) -> int:
    """How many images of the training set a run trains on."""
    chosen = evenly(data.train, config.max_images)
    if config.max_per_class == 0:
        return len(chosen)
    classes = Counter(sample.label for sample in chosen)
    return sum(min(count, config.max_per_class) for count in classes.values())


def check_weights(configs: Iterable[RunConfig], *, fetch: bool) -> None:
    """Raises UserError if ImageNet weights are missing or damaged; with `fetch` they are downloaded first.

    Without `fetch` only their presence is checked, which takes no time.
    """
    for model in sorted({config.model for config in configs if config.weights == "imagenet"}):
        if fetch:
            try:
                fetch_imagenet(model)
            except UserError as error:
                raise UserError(f"weights=imagenet: {error}") from None
        elif problem := imagenet_problem(model, read=False):
            raise UserError(
                f"weights=imagenet: {problem}; where there is a network it will be fetched, or "
                "python jobs/prepare.py fetches it"
            )


def check_weights_files(configs: Iterable[RunConfig], networks: Iterable[CustomNetwork]) -> list[str]:
    """A line on every weights file of which not all is used. Imports torch if there is a weights file.

    networks  those of the user's own that the study may not keep yet

    Raises UserError if a file is not a state dict of its network.
    """
    given = {(c.model, c.weights): c for c in configs if c.weights not in ("none", "imagenet")}
    if not given:
        return []
    from caltech_exp.models.networks import check_weights_fit

    contents = {network.model: network.content for network in networks}
    try:
        notes = [check_weights_fit(config, contents.get(config.model)).note for config in given.values()]
    except OSError as error:
        raise UserError(f"weights cannot be read now ({error.strerror or error}); submit again later") from None
    return list(dict.fromkeys(filter(None, notes)))


def unpinned(configs: Iterable[RunConfig]) -> list[str]:
    """A line on weights files whose content nobody watches: of a study file, in a study of an earlier version."""
    files = [file for file in weights_files(configs) if PIN not in file]
    if not files:
        return []
    return [
        f"weights {', '.join(files)}: this study began before weights were pinned, and its runs keep their ids; "
        "do not change the file, or start the study again with another runs= folder"
    ]


def slow_arithmetic(configs: Iterable[RunConfig], executor: Executor) -> list[str]:
    """A line of advice where runs are to compute in bf16 on this machine's CPU and it has none."""
    if not executor.emulates_bf16():
        return []
    if not any(config.engine == "fast" and config.precision == "bf16" for config in configs):
        return []
    return [
        "this machine's CPU emulates bf16, slowly: add precision=fp32 (such runs are other runs, by their ids)"
    ]
