"""The data set's figures on the page, or why they are not there."""

import os
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.catalog import DatasetFigure
from caltech_exp.errors import UserError
from caltech_exp.files import user_path
from caltech_exp.splits import DataSet, read_data_set
from reports.blocks import Block, Listing, Picture
from reports.collect import Collected
from reports.markup import code, escape

VARIABLE = "CALTECH101_ROOT"
WHAT_TO_SET = f"give `data=DIR`, or set `{VARIABLE}`, to the folder of Caltech-101"
NAMED = 10
"""Unreadable images named under Figure 1."""


@dataclass(frozen=True)
class Found:
    """The data set to draw, or None; `notes` (markdown) say why there is none, or what a reader must know."""

    data: DataSet | None
    notes: tuple[str, ...]


def find_data_set(option: str, collected: Collected) -> Found:
    """The folder of data=, else of CALTECH101_ROOT, else the study's own if it is there. Raises nothing."""
    of_study = collected.study.data.root if collected.study else ""
    root, source = next(
        ((path, name) for path, name in ((option, "data="), (os.environ.get(VARIABLE, ""), VARIABLE)) if path),
        (of_study, "the study"),
    )
    if not root:
        return Found(None, (f"Figures 1 to 3 show the data set, which is not known here: {WHAT_TO_SET}.",))
    try:
        data = read_data_set(user_path(root, source.rstrip("=")))
        found = data.fingerprint
    except (UserError, OSError) as error:
        reason = escape(f"{error} (folder named by {source})")
        return Found(None, (f"Figures 1 to 3 cannot be drawn: {reason}. Mend that, or {WHAT_TO_SET}.",))
    notes = []
    if data.stand_in:
        notes.append(
            f"**Figures 1 to 3 do not show Caltech-101** but the generated stand-in for it in {code(root)}."
        )
    if collected.fingerprint not in (None, found):
        notes.append(
            f"**Figures 1 to 3 do not show this study's data:** the folder {code(root)} has the fingerprint "
            f"{code(found)}, the study's results {code(collected.fingerprint)}."
        )
    return Found(data, tuple(notes))


def dataset_blocks(figure: DatasetFigure, data: DataSet, folder: Path) -> list[Block]:
    """Draw one of figures 1 to 3 into `folder` and return it with its notes. Raises OSError."""
    from reports.composite import MOST_IMAGES, class_averages
    from reports.dataset_figures import draw_averages, draw_distribution
    from reports.images import save, stem

    title = f"Figure {figure.number}"
    notes: list[Block] = []
    if figure.name == "averages":
        averages = class_averages(data)
        picture = draw_averages(title, data, averages)
        extra = f"At most {MOST_IMAGES} images of a class, squeezed to one size and stretched to full contrast."
        if averages.unread:
            named = [f"{escape(path)}: {escape(reason)}" for path, reason in averages.unread.items()]
            more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
            notes.append(Listing((*named[:NAMED], *more), "Images that cannot be read, left out:"))
    else:
        samples = data.train_val if figure.name == "train" else data.test
        picture = draw_distribution(title, figure.name, data, samples)
        extra = f"{len(samples):,} images of {len(data.classes)} classes."
    if data.stand_in:
        extra += " Generated stand-in, not Caltech-101."
    save(picture, folder, figure.number)
    path = f"{folder.name}/{stem(figure.number)}"
    caption = f"Figure {figure.number}. {figure.caption}."
    text = f"*{escape(caption)} {escape(extra)}*"
    return [Picture(figure.number, escape(caption), text, f"{path}.png", f"{path}.svg"), *notes]
