"""Which packs of decoded images a submission's runs would have to make first."""

from collections.abc import Iterable
from pathlib import Path

from caltech_exp.config import RunConfig
from caltech_exp.pack_index import ALL_PACKS, Layout, index_file, split_contents
from caltech_exp.splits import DataSet

PackItem = tuple[str, int, Layout, int]
"""What pack_index.split_contents takes: split, at most how many images (0 for all), layout, resize."""


def missing_packs(configs: Iterable[RunConfig], data: DataSet, folder: Path) -> dict[PackItem, Path]:
    """The packs that runs of these configurations use and that are not in `folder`, each with its index file.

    Whether one that is there is sound is checked when it is opened. Raises UserError for an image that is gone.
    """
    asked = {(c.max_images, c.resize, c.augment != "none") for c in configs if c.engine == "fast"}
    items = dict.fromkeys(
        (split, most, layout, resize)
        for most, resize, augmented in sorted(asked)
        for split, layout in ALL_PACKS
        if augmented or layout != "resized"  # which is for random crops
    )
    files = {item: index_file(folder, split_contents(data, *item).name) for item in items}
    return {item: file for item, file in files.items() if not file.exists()}
