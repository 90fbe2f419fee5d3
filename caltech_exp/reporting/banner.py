"""What a reader has to know before comparing numbers: said at the top, in every section, in every picture."""

from dataclasses import dataclass

from caltech_exp.catalog import SPLIT_IMAGES
from caltech_exp.config import RunConfig
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.markup import code, escape
from caltech_exp.reporting.vocabulary import HOW_NOT_WHAT, as_typed, setting, weights_name

STAND_IN_PICTURE = "Not Caltech-101: generated stand-in data"
SIMULATED_PICTURE = "Simulated: drawn at random around the reported values, nothing was trained"


@dataclass(frozen=True)
class Caution:
    """One caution, in markdown for the page and in a few plain words for a picture."""

    page: str
    picture: str


def cautions(collected: Collected) -> list[Caution]:
    """Everything that keeps measured and reported numbers from being compared; empty for the real thing."""
    found = [_simulated(collected), _data(collected), _overrides(collected), _weights(collected)]
    return [caution for caution in found if caution]


def picture_caution(collected: Collected, config: RunConfig) -> str:
    """The lines to write into a figure of a run of `config`; empty where there is nothing to warn of."""
    found = [_simulated(collected), _data(collected), _overrides(collected)]
    if config.weights in collected.settings.imagenet_weights.values():
        found.append(_weights(collected))
    return "\n".join(caution.picture for caution in found if caution)


def _simulated(collected: Collected) -> Caution | None:
    if not collected.simulated:
        return None
    return Caution(
        "**These numbers are simulated:** nothing was trained. `tests/tools/simulate.py` drew them at random "
        "around the reported values, to show what this report looks like; they confirm nothing.",
        SIMULATED_PICTURE,
    )


def _data(collected: Collected) -> Caution | None:
    if collected.stand_in:
        return Caution(
            "**These numbers are not Caltech-101:** they were measured on a generated stand-in for the data "
            "set and say nothing about the report's.",
            STAND_IN_PICTURE,
        )
    counts = _image_counts(collected) if collected.catalog.is_report else None
    if counts in (None, SPLIT_IMAGES):
        return None
    images, of_report = (f"{train:,} + {test:,}" for train, test in (counts or (0, 0), SPLIT_IMAGES))
    return Caution(
        f"**Another selection of images:** this study's splits hold {images} images (training and validation "
        f"+ test), the report's {of_report}. Measured and reported numbers are not of the same data.",
        f"Other images than the report: {images}, not {of_report}",
    )


def _image_counts(collected: Collected) -> tuple[int, int] | None:
    if collected.study:
        return collected.study.data.train_val_images, collected.study.data.test_images
    whole = (r.data for r in collected.results() if r.config.max_images == 0)
    return next(((data.train_images + data.val_images, data.test_images) for data in whole), None)


def _overrides(collected: Collected) -> Caution | None:
    overrides = collected.settings.overrides
    if not overrides:
        return None
    named = as_typed(overrides)
    if not collected.catalog.is_report:
        return Caution(f"**Settings overridden in every run: {code(named)}.**", f"Overridden: {named}")
    if set(overrides) <= set(HOW_NOT_WHAT):
        return None  # every table says how its runs are computed
    meaning = "; ".join(
        escape(setting(name, value)) for name, value in overrides.items() if name not in HOW_NOT_WHAT
    )
    return Caution(
        f"**Settings overridden in every run: {code(named)}** ({meaning}). For that reason measured and "
        "reported numbers are not comparable.",
        f"Overridden: {named}; not comparable with the report",
    )


def _weights(collected: Collected) -> Caution | None:
    replaced = collected.settings.imagenet_weights
    if not replaced:
        return None
    named = ", ".join(f"{network}: {weights_name(file)}" for network, file in replaced.items())
    return Caution(
        "**Other initial weights:** rows that the report trains from ImageNet weights start from other weights "
        f"here, {code(named)}. For that reason their measured and reported numbers are not comparable.",
        f"Not from ImageNet weights: {named}",
    )
