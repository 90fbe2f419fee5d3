"""The figures of the data set, drawn from the data set's own files, or the line that says what they need."""

import os
from collections.abc import Sequence

import numpy as np

from caltech_exp.catalog import Section
from caltech_exp.cli import UserError
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.files import user_path
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.data import AverageImages, ClassCounts
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Block, Listing, Picture, Prose, code, escape
from caltech_exp.reporting.wording import shorten

VARIABLE = "CALTECH101_ROOT"
THE_FIGURES = "The figures of the data set"
STAND_IN = "Not Caltech-101: generated stand-in data"
ALIKE = 0.1
"""Largest spread of the classes' shares in the test split that is called alike."""
MAX_NAMED = 10
"""Unreadable images named under Figure 1."""


def data_set_blocks(study: StudyFrames, section: Section, data_option: str, figures: FigureCache) -> list[Block]:
    """The figures of the data set that the section has, or why they cannot be drawn.

    data_option  the data set's folder; empty: that of CALTECH101_ROOT, else the study's. A data set of the user's
                 own is never that of CALTECH101_ROOT.
    """
    if not section.dataset_figures:
        return []
    what_to_set = "give `data=DIR`, the folder of the study's data set"
    if not study.has_own_data:
        what_to_set = f"give `data=DIR`, or set `{VARIABLE}`, to the folder of Caltech-101"
    root, source = _folder(study, data_option)
    if not root:
        return [Prose(f"{THE_FIGURES} need its folder, which is unknown; {what_to_set}.")]
    try:
        data = read_data_set(user_path(root, source.rstrip("=")), study.study.data.split if study.study else None)
        fingerprint = data.fingerprint
    except (UserError, OSError) as error:
        reason = escape(f"{error} (folder named by {source})")
        return [Prose(f"{THE_FIGURES} cannot be drawn: {reason}. Correct that, or {what_to_set}.")]
    notes = []
    if data.stand_in:
        notes.append(
            f"**{THE_FIGURES} do not show Caltech-101** but the generated stand-in for it in {code(root)}."
        )
    if study.fingerprint not in (None, fingerprint):
        notes.append(
            f"**{THE_FIGURES} do not show this study's data:** the folder {code(root)} has the fingerprint "
            f"{code(fingerprint)}, the study's results have {code(study.fingerprint)}."
        )
    captions = {figure.name: (figure.number, figure.caption) for figure in section.dataset_figures}
    blocks: list[Block] = [Prose(note) for note in notes]
    if "averages" in captions:
        blocks += _averages(*captions["averages"], data, fingerprint, figures)
    splits = [captions[name] for name in ("train", "test") if name in captions]
    if splits:
        blocks.append(_class_counts(splits, data, figures))
    return blocks


def _folder(study: StudyFrames, option: str) -> tuple[str, str]:
    """The data set's folder and what named it; both empty if nothing does."""
    of_study = study.study.data.root if study.study else ""
    candidates = [(option, "data="), (os.environ.get(VARIABLE, ""), VARIABLE), (of_study, "the study")]
    if study.has_own_data:
        candidates = [candidates[0], candidates[2]]
    return next((candidate for candidate in candidates if candidate[0]), ("", ""))


def _averages(number: int, caption: str, data: DataSet, fingerprint: str, figures: FigureCache) -> list[Block]:
    name, words = f"figure-{number:02d}", f"Figure {number}. {caption}."
    title = f"What the images of each of {len(data.classes)} classes have in common: their average"
    picture = figures.add(
        name,
        "dataset:draw_averages",
        AverageImages(title, fingerprint, data.classes, data, STAND_IN if data.stand_in else ""),
        alternative=escape(words),
        caption=escape(
            f"{words} At most 60 images of a class, squeezed to one size and stretched to full contrast."
        ),
        number=number,
    )
    unread = shorten([escape(line) for line in figures.words(name)], MAX_NAMED)
    return [picture, *([Listing(unread, "Images that cannot be read and are left out:")] if unread else [])]


def _class_counts(splits: Sequence[tuple[int, str]], data: DataSet, figures: FigureCache) -> Picture:
    train, test = (
        tuple(np.bincount([sample.label for sample in samples], minlength=len(data.classes)).tolist())
        for samples in (data.train_val, data.test)
    )
    numbers = " and ".join(str(number) for number, _ in splits)
    words = f"Figure{'s' if len(splits) > 1 else ''} {numbers}. {'; '.join(caption for _, caption in splits)}."
    return figures.add(
        f"figure-{splits[0][0]:02d}",
        "dataset:draw_class_counts",
        ClassCounts(_shares_title(train, test), data.classes, train, test, STAND_IN if data.stand_in else ""),
        alternative=escape(words),
        caption=escape(
            f"{words} {len(data.train_val):,} and {len(data.test):,} images of {len(data.classes)} classes, the "
            "largest first. On the logarithmic axis splits that are distributed alike keep their distance."
        ),
        number=splits[0][0],
    )


def _shares_title(train: Sequence[int], test: Sequence[int]) -> str:
    """`Both splits are distributed alike: the test split holds 32 to 35 % of every class`"""
    shares = [own / (own + other) for other, own in zip(train, test, strict=True) if own + other]
    if not shares:
        return "No images"
    low, high = f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}"
    holds = f"the test split holds {low if low == high else f'{low} to {high}'} % of every class"
    alike = "Both splits are distributed alike" if max(shares) - min(shares) <= ALIKE else "The splits differ"
    return f"{alike}: {holds}"
