"""Which packs of decoded images a submission's runs would have to make first."""

from collections.abc import Iterable
from pathlib import Path

from caltech_exp.config import RunConfig
from caltech_exp.pack_index import ALL_PACKS, Layout, index_file, split_contents
from caltech_exp.splits import DataSet

PackItem = tuple[str, int, Layout]
"""Split, at most how many images of it (0 for all), layout."""


def missing_packs(configs: Iterable[RunConfig], data: DataSet, folder: Path) -> tuple[PackItem, ...]:
    """The packs that runs of these configurations use and that are not in `folder`.

    Whether one that is there is sound is checked when it is opened. Raises UserError for an image that is gone.
    """
    asked = {(config.max_images, config.augment != "none") for config in configs if config.engine == "fast"}
    items = dict.fromkeys(
        (split, most, layout)
        for most, augmented in sorted(asked)
        for split, layout in ALL_PACKS
        if augmented or layout != "resized"  # which is for random crops
    )
    return tuple(item for item in items if not _is_there(item, data, folder))


def _is_there(item: PackItem, data: DataSet, folder: Path) -> bool:
    split, most, layout = item
    return index_file(folder, split_contents(data, split, most, layout).name).exists()
