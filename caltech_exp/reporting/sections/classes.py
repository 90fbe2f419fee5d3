"""Class by class: what accuracy hides in a data set with classes as unequal as these.

For the best row of each network, from scratch and pretrained. The question is the report's (Introduction): does a
network learn to predict the largest class?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from caltech_exp.reporting.comparison import TableRow
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.data import Confusion, ConfusionPlot
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Details,
    Listing,
    Picture,
    Prose,
    Table,
    Value,
    code,
    escape,
)
from caltech_exp.reporting.sections.summary import best_rows
from caltech_exp.reporting.stats import balanced_accuracy, class_recalls
from caltech_exp.reporting.wording import picture_caution, start_words
from caltech_exp.study.results import Matrix, Result, decode, read_result

PAIR_COLUMNS = (
    Column("network", "text"),
    Column("true class", "text"),
    Column("predicted class", "text"),
    Column("images per run", "whole"),
    Column("share of the class"),
)
MAX_RUNS = 10
"""Runs of a row whose matrices are read: reading takes time, and ten runs say enough."""
CONFUSED_PAIRS = 5
"""Most confused pairs of classes that are listed for each row."""
NOTABLE = 0.05
"""By how much a class that is not the largest must be predicted too often to be named: of a hundred classes some
always are, a little."""
NEARLY_ALL = 0.95
"""Share of predictions from which it is almost every image."""
NOTE = (
    "The best row of each network, over its first finished runs (n). Recall is the share of a class's images that "
    "is recognised. Balanced accuracy is the mean recall of all classes, so every class counts the same. The "
    "largest class has most validation images; the most predicted class has most predictions."
)
COLUMNS = (
    Column("network", "text"),
    Column("row", "text", is_detail=True),
    Column("accuracy", file_heading="validation accuracy"),
    Column("balanced accuracy", file_heading="balanced accuracy, validation"),
    Column("classes with recall below 0.5", "count"),
    Column("n", "count", is_detail=True),
    Column("test accuracy", is_detail=True),
    Column("balanced, test", file_heading="balanced accuracy, test", is_detail=True),
    Column("largest class", "text", is_detail=True),
    Column("share of images", file_heading="largest class, share of images", is_detail=True),
    Column("share of predictions", file_heading="largest class, share of predictions", is_detail=True),
    Column("most predicted class", "text", is_detail=True),
    Column("its share of images", file_heading="most predicted class, share of images", is_detail=True),
    Column("its share of predictions", file_heading="most predicted class, share of predictions", is_detail=True),
)

ClassShare: TypeAlias = tuple[str, float, float]
"""The name of a class, its share of images, its share of predictions."""


@dataclass(frozen=True)
class ClassResults:
    """A best row with confusion matrices summed over `runs` runs, each [classes, classes], true by predicted."""

    row: TableRow
    network: str
    runs: int
    val: Matrix
    test: Matrix


def read_class_results(study: StudyFrames) -> list[ClassResults]:
    """The best rows whose runs recorded confusion matrices; reads the result files of these runs again."""
    results = []
    for start, row in best_rows(study).items():
        records = [read_result(study.folder / run_id) for run_id in row.finished["run_id"].head(MAX_RUNS)]
        matrices = [
            tuple(decode(text, record.config.classes) for text in (record.val_confusion, record.test_confusion))
            for record in records
            if isinstance(record, Result) and record.val_confusion and record.test_confusion
        ]
        if matrices:
            val, test = (np.sum(split, axis=0) for split in zip(*matrices, strict=True))
            results.append(ClassResults(row, start_words(study, start), len(matrices), val, test))
    return results


def class_names(study: StudyFrames, count: int) -> tuple[str, ...]:
    """Names by label; `class 5` where the study does not name them."""
    names = study.study.data.classes if study.study else ()
    return tuple(names[label] if label < len(names) else f"class {label}" for label in range(count))


def class_blocks(study: StudyFrames, figures: FigureCache) -> list[Block]:
    """Sentences, the tables and the confusion matrices, or why there are none."""
    results = read_class_results(study)
    if not results:
        return [Prose("No best row has a run with a confusion matrix yet.")]
    names = class_names(study, len(results[0].val))

    def item(result: ClassResults) -> str:
        return f"**{escape(result.network)}** ({code(result.row.key)}): {escape(class_sentence(result, names))}"

    return [
        Listing(tuple(map(item, results))),
        class_table(results, names),
        Prose(NOTE, is_quiet=True),
        confused_table(results, names),
        _confusion_picture(study, figures, results, names),
        Details("Recall of every class", (per_class_table(results, names),)),
    ]


def class_sentence(result: ClassResults, names: Sequence[str]) -> str:
    """How often the row's networks predict the largest class, or another one that they prefer, in plain text."""
    largest, favourite = class_shares(result.val, names)
    _, images, predictions = favourite
    if favourite == largest or predictions <= images + NOTABLE:
        return _share_sentence(*largest)
    return f"{_share_sentence(*favourite)} {_share_sentence(f'the largest class, {largest[0]},', *largest[1:])}"


def _share_sentence(name: str, images: float, predictions: float) -> str:
    """`Airplanes make up 9.2 % of validation images but 11.0 % of predictions (1.19 times too many).`"""
    is_plural = name.endswith("s") and not name.endswith(("ss", "us"))
    subject = f"{name[:1].upper()}{name[1:]} {'make' if is_plural else 'makes'} up"
    head = f"{subject} {_percent(images)} of validation images"
    if _percent(images) == _percent(predictions):
        return f"{head} and of predictions."
    if predictions > NEARLY_ALL:
        comment = " (almost every image)"
    elif not images or not predictions or f"{predictions / images:.2f}" == "1.00":
        comment = ""
    else:
        comment = f" ({predictions / images:.2f} times {'too' if predictions > images else 'as'} many)"
    return f"{head} but {_percent(predictions)} of predictions{comment}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def class_shares(matrix: Matrix, names: Sequence[str]) -> tuple[ClassShare, ClassShare]:
    """The largest class and the most predicted one, each with its share of images and of predictions."""
    images, predictions = matrix.sum(axis=1) / matrix.sum(), matrix.sum(axis=0) / matrix.sum()
    largest, favourite = (
        (names[label], float(images[label]), float(predictions[label]))
        for label in (int(images.argmax()), int(predictions.argmax()))
    )
    return largest, favourite


def accuracy(matrix: Matrix) -> float:
    """The share of all images that is recognised."""
    return float(np.trace(matrix) / matrix.sum())


def confused_pairs(matrix: Matrix, most: int) -> list[tuple[int, int, int]]:
    """Pairs (true, predicted, images) off the diagonal, most images first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(matrix)) for place in order]
    return [(true, predicted, int(wrong[true, predicted])) for true, predicted in pairs if wrong[true, predicted]]


def class_table(results: Sequence[ClassResults], names: Sequence[str]) -> Table:
    """A line for every best row."""
    lines: list[tuple[Value, ...]] = []
    for result in results:
        largest, favourite = class_shares(result.val, names)
        lines.append(
            (
                result.network,
                result.row.key,
                accuracy(result.val),
                balanced_accuracy(result.val),
                int(np.count_nonzero(class_recalls(result.val) < 0.5)),
                result.runs,
                accuracy(result.test),
                balanced_accuracy(result.test),
                *largest,
                *favourite,
            )
        )
    keys = tuple(result.row.key for result in results)
    return Table("classes", "Accuracy by class of each network's best row.", COLUMNS, tuple(lines), keys)


def confused_table(results: Sequence[ClassResults], names: Sequence[str]) -> Table:
    """The most confused pairs of each best row."""
    lines: list[tuple[Value, ...]] = [
        (
            result.network,
            names[true],
            names[predicted],
            images / result.runs,
            images / int(result.val[true].sum()),
        )
        for result in results
        for true, predicted, images in confused_pairs(result.val, CONFUSED_PAIRS)
    ]
    caption = "Most confused pairs of classes of each network's best row, validation images."
    return Table("confused_pairs", caption, PAIR_COLUMNS, tuple(lines))


def per_class_table(results: Sequence[ClassResults], names: Sequence[str]) -> Table:
    """A line for every class: its images, and its recall in both splits for every best row."""
    columns = [
        Column("class", "text"),
        Column("validation images", "count"),
        Column("test images", "count", is_detail=True),
    ]
    recalls = []
    for result in results:
        columns += [
            Column(result.network, file_heading=f"{result.network}, validation"),
            Column(f"{result.network}, test", is_detail=True),
        ]
        recalls += [class_recalls(result.val), class_recalls(result.test)]
    val, test = (split.sum(axis=1) // results[0].runs for split in (results[0].val, results[0].test))
    lines = tuple(
        (
            name,
            int(val[label]),
            int(test[label]),
            *(None if np.isnan(recall[label]) else float(recall[label]) for recall in recalls),
        )
        for label, name in enumerate(names)
        if val[label] or test[label]
    )
    return Table("per_class", "Recall of each class in each network's best row.", tuple(columns), lines)


def _confusion_picture(
    study: StudyFrames, figures: FigureCache, results: Sequence[ClassResults], names: Sequence[str]
) -> Picture:
    images = results[0].val.sum(axis=1) // results[0].runs
    plot = ConfusionPlot(
        title="Confusion matrices of the best rows, validation images",
        matrices=tuple(Confusion(result.network, result.val) for result in results),
        classes=tuple(names),
        images=tuple(images.tolist()),
        caution=picture_caution(study, [result.row.config for result in results]),
    )
    return figures.add(
        "plot-confusion",
        "dataset:draw_confusions",
        plot,
        alternative="Confusion matrices of the best rows on the validation images",
        caption="Each line is the share of a true class's images. Classes are ordered by their number of images: "
        "a network that prefers large classes has dark columns on the left.",
    )
