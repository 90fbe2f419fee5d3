"""Class by class: what accuracy hides in a data set as unbalanced as this one.

For the best row of each network and way of training. The question is the report's (Introduction): does a network
learn to take an image for one of the largest class?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from caltech_exp.reporting.banner import cautions
from caltech_exp.reporting.blocks import Block, Listing, Picture, Prose
from caltech_exp.reporting.class_accuracy import (
    Confusions,
    commonest_mistakes,
    favour,
    largest_class,
    most_predicted,
    read_confusions,
)
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.gallery import Drawing, Gallery
from caltech_exp.reporting.grid import Column, Grid, Value, grid_block
from caltech_exp.reporting.markup import escape
from caltech_exp.reporting.networks import Best, best_rows
from caltech_exp.reporting.recall import accuracy, balanced_accuracy, recalls
from caltech_exp.study.results import Matrix

NAME = "plot-confusion"
NOTE = (
    "The best row of each network and way of training, over its n first finished runs. Balanced accuracy is the "
    "mean of the classes' shares of recognised images: every class counts the same. The largest class is the one "
    "with most images, and the most predicted one that most images are taken for. How often a class is predicted "
    "is given as a multiple of how often it is there: a network that favours a class is above 1."
)
MUCH = 0.05
"""By how much a class that is not the largest must be predicted more often than it is there to be named: of a
hundred classes some are always predicted a little too often."""
NEARLY_ALL = 0.95
"""Share of predictions from which it is almost every image."""
MOST_RUNS = 10
"""Of a row, whose matrices are read: they are long, and say no more of more runs."""
MISTAKES = 5
"""Commonest mistakes named of each row."""
COLUMNS = (
    Column("network", "text"),
    Column("row", "text"),
    Column("n", "count"),
    Column("validation accuracy"),
    Column("balanced, validation"),
    Column("test accuracy"),
    Column("balanced, test"),
    Column("largest class", "text"),
    Column("share of images"),
    Column("share of predictions"),
    Column("most predicted class", "text"),
    Column("its share of images"),
    Column("its share of predictions"),
    Column("classes below half", "count"),
)


@dataclass(frozen=True)
class ClassStudy:
    """A best row with the sums of its runs' confusion matrices."""

    best: Best
    confusions: Confusions

    @property
    def title(self) -> str:
        return f"{self.best.way} ({self.best.key})"


def class_studies(collected: Collected) -> list[ClassStudy]:
    """Of the best rows whose runs recorded confusion matrices; reads those runs' results once more."""
    found = []
    for best in best_rows(collected):
        confusions = read_confusions(collected.folder, best.known.row.finished[:MOST_RUNS])
        if confusions:
            found.append(ClassStudy(best, confusions))
    return found


def class_names(collected: Collected, count: int) -> tuple[str, ...]:
    """Names by label, as far as the study tells them."""
    names = collected.study.data.classes if collected.study else ()
    return tuple(names[label] if label < len(names) else f"class {label}" for label in range(count))


def class_blocks(collected: Collected, studies: Sequence[ClassStudy], gallery: Gallery) -> list[Block]:
    """Table, sentences and matrices, or why there are none. Raises OSError."""
    if not studies:
        return [Prose("No best row has runs that recorded their confusion matrices yet.")]
    names = class_names(collected, len(studies[0].confusions.val))
    return [
        *(Prose(f"**{escape(favour_sentence(study, names))}**") for study in studies),
        grid_block(class_grid(studies, names)),
        Prose(f"*{escape(NOTE)}*"),
        *(_mistakes(study, names) for study in studies),
        _plot(collected, studies, names, gallery),
    ]


def class_grid(studies: Sequence[ClassStudy], names: Sequence[str]) -> Grid:
    """A line for every best row."""
    lines: list[tuple[Value, ...]] = []
    for study in studies:
        val, test = study.confusions.val, study.confusions.test
        label, taken = largest_class(val), most_predicted(val)
        lines.append(
            (
                str(study.best.way),
                study.best.key,
                study.confusions.runs,
                accuracy(val),
                balanced_accuracy(val),
                accuracy(test),
                balanced_accuracy(test),
                names[label],
                *(favour(val, label) or (None, None)),
                names[taken],
                *(favour(val, taken) or (None, None)),
                int(np.count_nonzero(recalls(val) < 0.5)),
            )
        )
    keys = tuple(study.best.key for study in studies)
    return Grid("classes", f"Class by class. {NOTE}", COLUMNS, tuple(lines), keys)


def per_class_grid(studies: Sequence[ClassStudy], names: Sequence[str]) -> Grid:
    """A line for every class: images, and recognised shares of validation and test for every best row."""
    first = studies[0].confusions
    columns = [Column("class", "text"), Column("validation images", "count"), Column("test images", "count")]
    parts = []
    for study in studies:
        columns += [Column(f"{study.best.way}, validation"), Column(f"{study.best.way}, test")]
        parts += [recalls(study.confusions.val), recalls(study.confusions.test)]
    val, test = (matrix.sum(axis=1) // first.runs for matrix in (first.val, first.test))
    lines: list[tuple[Value, ...]] = [
        (name, int(val[label]), int(test[label]), *(_known(part[label]) for part in parts))
        for label, name in enumerate(names)
        if val[label] or test[label]
    ]
    return Grid("per_class", "Share of each class's images that is recognised.", tuple(columns), tuple(lines))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def favour_sentence(study: ClassStudy, names: Sequence[str]) -> str:
    """Whether the row's networks favour the largest class, or another one, in plain text."""
    matrix = study.confusions.val
    label, other = largest_class(matrix), most_predicted(matrix)
    shares, others = favour(matrix, label), favour(matrix, other)
    plain, balanced = accuracy(matrix), balanced_accuracy(matrix)
    if shares is None or others is None or plain is None or balanced is None:
        return f"{study.title}: no validation images."
    if other != label and others[1] > others[0] + MUCH:
        said = (
            f"{_shares(others, names[other])}: the network {_favours(others)}. Of the largest class, "
            f"{names[label]}, there are {100 * shares[0]:.1f} %, and {100 * shares[1]:.1f} % are taken for it."
        )
    else:
        said = f"{_shares(shares, names[label])}: the network {_favours(shares)}."
    return f"{study.title}: {said} Its balanced accuracy is {balanced:.3f} where its accuracy is {plain:.3f}."


def _shares(shares: tuple[float, float], name: str) -> str:
    """`9.2 % of the validation images are airplanes and 13.4 % are taken for it`"""
    there, taken = shares
    return f"{100 * there:.1f} % of the validation images are {name} and {100 * taken:.1f} % are taken for it"


def _favours(shares: tuple[float, float]) -> str:
    there, taken = shares
    if taken > NEARLY_ALL:
        return "takes almost every image for it"
    if not there:  # of another class than the largest
        return "predicts it though there is none"
    return f"predicts it {taken / there:.2f} times as often as it is there"


def _mistakes(study: ClassStudy, names: Sequence[str]) -> Listing:
    per_run = study.confusions.runs
    items = tuple(
        f"{escape(names[true])} taken for {escape(names[taken])}: {count / per_run:.1f} images a run"
        for true, taken, count in commonest_mistakes(study.confusions.val, MISTAKES)
    )
    return Listing(items, f"Commonest mistakes of {escape(study.title)} on the validation images:")


def _plot(collected: Collected, studies: Sequence[ClassStudy], names: Sequence[str], gallery: Gallery) -> Picture:
    caution = "\n".join(caution.picture for caution in cautions(collected))
    titles = [study.title for study in studies]
    matrices = [study.confusions.val for study in studies]
    images: list[int] = (matrices[0].sum(axis=1) // studies[0].confusions.runs).tolist()
    draw = partial(_draw, titles, matrices, names, images, caution)
    gallery.show_later(NAME, [titles, *matrices, names, images, caution], draw)
    what = "Confusion matrices of the best rows on the validation images: true class down, predicted class across."
    note = (
        "Each line is the share of a class's images. Classes are ordered by their number of images (some are "
        "named), so that a network that favours large classes shows dark columns on the left."
    )
    paths = (gallery.path(NAME, kind) for kind in ("png", "svg"))
    return Picture(0, what, f"*{what} {note}*", *paths)


def _draw(
    titles: Sequence[str], matrices: Sequence[Matrix], names: Sequence[str], images: Sequence[int], caution: str
) -> Drawing:
    from caltech_exp.reporting.confusion_plot import draw_confusions

    return Drawing(draw_confusions(titles, matrices, names, images, caution))
