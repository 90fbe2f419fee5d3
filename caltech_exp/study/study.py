"""The record of a study: its settings, its study file and its data set."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, field_validator

from caltech_exp.catalog import THE_REPORT, Catalog, Section, Table, read_catalog, row_key
from caltech_exp.cli import UserError, explain
from caltech_exp.config import PIN, RunConfig, short_digests
from caltech_exp.data.splits import DataSet, Split
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import Count, StrictRecord, Time

STUDY = "study.json"
Tables = Iterable[tuple[Section, Table]]
RUN_FOLDER = re.compile(r"[0-9a-f]{10}-s[0-9]{1,10}")


class StudySettings(StrictRecord):
    """What a study changes in every row.

    overrides         run settings by name
    imagenet_weights  network -> pinned state dict that replaces torchvision's ImageNet weights
    """

    overrides: dict[str, int | float | str] = Field(default_factory=dict)
    imagenet_weights: dict[str, str] = Field(default_factory=dict)

    @field_validator("overrides")
    @classmethod
    def _valid_settings(cls, overrides: dict[str, int | float | str]) -> dict[str, int | float | str]:
        try:
            RunConfig.model_validate(overrides)
        except ValidationError as error:
            raise ValueError(str(explain(error, RunConfig.model_fields))) from None
        return overrides

    def apply(self, config: RunConfig, row: str = "a row") -> RunConfig:
        """A row's configuration with the overrides. Raises UserError that names the row if they do not fit."""
        try:
            config = config.but(**self.overrides) if self.overrides else config
        except ValidationError as error:
            raise explain(error, RunConfig.model_fields, f"{row} with {self}") from None
        if config.weights == "imagenet" and config.model in self.imagenet_weights:
            config = config.but(weights=self.imagenet_weights[config.model])
        return config

    def has_other_weights(self, config: RunConfig) -> bool:
        """Whether a run of the study starts from a file that replaces torchvision's ImageNet weights."""
        return config.weights in self.imagenet_weights.values()

    def joined(self, other: "StudySettings") -> "StudySettings":
        """These settings, with the other's ImageNet weights for further networks."""
        weights = {**other.imagenet_weights, **self.imagenet_weights}
        return self.model_copy(update={"imagenet_weights": weights})

    def extended(self, other: "StudySettings") -> "StudySettings":
        """These settings and the other's, which win. Whether they fit together is checked row by row."""
        return StudySettings.model_construct(
            overrides={**self.overrides, **other.overrides},
            imagenet_weights={**self.imagenet_weights, **other.imagenet_weights},
        )

    def require_fit(self, tables: Tables) -> None:
        """Raises UserError that names the first row that the overrides do not fit."""
        for section, table in tables:
            for row in table.rows:
                self.apply(row.config, row_key(section.name, table.name, row.label))

    def fitting(self, catalog: Catalog) -> Catalog:
        """The catalog without the rows that the overrides do not fit: no run of the study can be theirs."""
        misfits = set()
        for section, table in catalog.tables if self.overrides else ():
            for row in table.rows:
                try:
                    self.apply(row.config)
                except UserError:
                    misfits.add(row_key(section.name, table.name, row.label))
        return catalog.without(misfits) if misfits else catalog

    def difference(self, other: "StudySettings", tables: Tables) -> str:
        """`with epochs=1; this command says epochs=2`: a study's settings and the other's where they differ.

        Empty if both ask for the same runs, row by row.
        """
        both = self._both(other)
        own, others = (settings._words() for settings in both)
        names = [name for name in own | others if own.get(name) != others.get(name)]
        if not names or _are_same_runs(*both, tables):
            return ""
        changed, added = [name for name in names if name in own], [name for name in names if name not in own]
        started = [f"with {' '.join(own[name] for name in changed)}"] if changed else []
        started += [f"without {' and '.join(added)}"] if added else []
        others_words = [others[name] for name in names if name in others]
        absent = [name for name in changed if name not in others]
        others_words += [f"{'and ' if others_words else ''}nothing of {' and '.join(absent)}"] if absent else []
        return f"{' and '.join(started)}; this command says {' '.join(others_words)}"

    def _both(self, other: "StudySettings") -> tuple["StudySettings", "StudySettings"]:
        """These settings and the other's; if both replace weights, a network of one alone is no difference."""
        if self.imagenet_weights and other.imagenet_weights:
            return self.joined(other), other.joined(self)
        return self, other

    def _words(self) -> dict[str, str]:
        """By name each setting as it is typed."""
        weights = {f"imagenet_weights[{model}]": file for model, file in self.imagenet_weights.items()}
        return {name: f"{name}={_plain(value)}" for name, value in {**self.overrides, **weights}.items()}

    def __str__(self) -> str:
        return " ".join(self._words().values()) or "no overrides"


def _are_same_runs(first: StudySettings, second: StudySettings, tables: Tables) -> bool:
    configs = (row.config for _, table in tables for row in table.rows)
    try:
        return all(first.apply(config).id == second.apply(config).id for config in configs)
    except UserError:  # they do not fit a row
        return False


def _plain(value: object) -> str:
    """A value as a user would type it, with the hash of a pinned file shortened to 12 digits."""
    path, pinned, digest = str(value).partition(PIN)
    return f"{path}{PIN}{short_digests(digest)}" if pinned else path


class StudyData(StrictRecord):
    """The data set of a study: class names by label, images of the split files without the background class.

    split      how the images were split at random; None for split files
    simulated  whether the study's results were drawn at random (tests/tools/simulate.py) instead of trained
    """

    root: str
    fingerprint: str
    stand_in: bool
    simulated: bool = False
    classes: tuple[str, ...]
    train_val_images: Count
    test_images: Count
    split: Split | None = None

    @classmethod
    def of(cls, data: DataSet) -> "StudyData":
        """What a study records of its data set."""
        return cls(
            root=str(data.root.resolve()),
            fingerprint=data.fingerprint,
            stand_in=data.stand_in,
            classes=data.classes,
            train_val_images=len(data.train_val),
            test_images=len(data.test),
            split=data.split,
        )

    def __str__(self) -> str:
        kind = "generated stand-in" if self.stand_in else "data set"
        place = f" {self.root}" if self.root else ""
        return f"{kind}{place} ({self.train_val_images:,} + {self.test_images:,} images, {self.fingerprint})"


class StudyFile(StrictRecord):
    """A user's own study file, as it was at the last submission.

    name      the file's name without .yaml
    networks  name in the file -> `model` in the runs' settings (CustomNetwork.model)
    weights   the same for weights files (weights.pin); studies of older versions leave them unpinned
    """

    name: str = Field(min_length=1)
    text: str
    networks: dict[str, str] = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        return read_catalog(self.text, self.name, f"{self.name}.yaml", self.networks, self.weights)

    @property
    def weights_files(self) -> tuple[str, ...]:
        """The weights files of its rows, pinned or as they are written."""
        return weights_files(row.config for _, table in self.catalog.tables for row in table.rows)


def weights_files(configs: Iterable[RunConfig]) -> tuple[str, ...]:
    """The weights files that configurations start from, without duplicates."""
    return tuple(dict.fromkeys(config.weights for config in configs if config.weights not in ("none", "imagenet")))


class Study(StrictRecord):
    """`file` is None where the study is the report's.

    weights_origins  SHA-256 of a file of imagenet_weights -> what the README beside it said when it was submitted
    """

    schema_version: Literal[1] = 1
    settings: StudySettings
    file: StudyFile | None = None
    data: StudyData
    created: Time
    code: CodeVersion
    weights_origins: dict[str, Annotated[str, StringConstraints(max_length=2000)]] = Field(default_factory=dict)

    @property
    def catalog(self) -> Catalog:
        """The rows that the study may ask for."""
        report = THE_REPORT
        if classes := self.settings.overrides.get("classes"):
            report = replace(report, title=f"AlexNet and ResNet-18 on a data set of {classes} classes")
        return self.settings.fitting(self.file.catalog if self.file else report)
