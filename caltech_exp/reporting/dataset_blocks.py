"""The data set's figures on the page, or why they are not there."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from caltech_exp.catalog import DatasetFigure
from caltech_exp.cli import UserError
from caltech_exp.data.splits import DataSet, Sample, read_data_set
from caltech_exp.files import user_path
from caltech_exp.reporting.blocks import Block, Listing, Picture
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.gallery import Drawing, Gallery, figure_name
from caltech_exp.reporting.markup import code, escape

VARIABLE = "CALTECH101_ROOT"
WHAT_TO_SET = f"give `data=DIR`, or set `{VARIABLE}`, to the folder of Caltech-101"
MOST_IMAGES = 60
"""Averaged of each class, evenly spaced; more change the picture no more, and take their time."""
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


def dataset_blocks(figure: DatasetFigure, data: DataSet, gallery: Gallery) -> list[Block]:
    """One of figures 1 to 3 with its notes. Raises OSError."""
    title, name = f"Figure {figure.number}", figure_name(figure.number)
    notes: list[Block] = []
    shows = [title, figure.name, data.fingerprint, data.stand_in, data.classes]
    if figure.name == "averages":
        unread = gallery.show(name, shows, partial(_averages, title, data))
        extra = f"At most {MOST_IMAGES} images of a class, squeezed to one size and stretched to full contrast."
        if unread:
            named = [escape(words) for words in unread]
            more = [f"and {len(named) - NAMED} more"] if len(named) > NAMED else []
            notes.append(Listing((*named[:NAMED], *more), "Images that cannot be read, left out:"))
    else:
        samples = data.train_val if figure.name == "train" else data.test
        gallery.show_later(name, shows, partial(_distribution, title, figure.name, data, samples))
        extra = f"{len(samples):,} images of {len(data.classes)} classes."
    if data.stand_in:
        extra += " Generated stand-in, not Caltech-101."
    caption = f"Figure {figure.number}. {figure.caption}."
    text = f"*{escape(caption)} {escape(extra)}*"
    png, svg = (gallery.path(name, kind) for kind in ("png", "svg"))
    return [Picture(figure.number, escape(caption), text, png, svg), *notes]


def _averages(title: str, data: DataSet) -> Drawing:
    """Figure 1; its words name every image that cannot be read, with the reason."""
    from caltech_exp.reporting.composite import class_averages
    from caltech_exp.reporting.dataset_figures import draw_averages

    averages = class_averages(data, MOST_IMAGES)
    unread = tuple(f"{path}: {reason}" for path, reason in averages.unread.items())
    return Drawing(draw_averages(title, data, averages), unread)


def _distribution(title: str, split: str, data: DataSet, samples: Sequence[Sample]) -> Drawing:
    from caltech_exp.reporting.dataset_figures import draw_distribution

    return Drawing(draw_distribution(title, split, data, samples))
