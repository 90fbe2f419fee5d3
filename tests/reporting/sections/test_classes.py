"""Class by class: balanced accuracy, whether a network prefers the largest class, what it confuses."""

from pathlib import Path

import numpy as np
import pytest

from caltech_exp.config import NUM_CLASSES
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Details, Listing, Picture, Prose, Table, Value
from caltech_exp.reporting.sections.classes import (
    MAX_RUNS,
    ClassResults,
    accuracy,
    class_blocks,
    class_names,
    class_sentence,
    class_table,
    confused_pairs,
    confused_table,
    per_class_table,
    read_class_results,
)
from caltech_exp.study.results import Matrix, encode
from tests.reporting.conftest import CLASSES, SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "5e-2")


def matrix(*entries: tuple[int, int, int]) -> Matrix:
    """(true, predicted, images) ..."""
    made = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for true, predicted, images in entries:
        made[true, predicted] = images
    return made


LARGE_WINS = matrix((5, 5, 90), (7, 5, 8), (7, 7, 2))
FAIR = matrix((5, 5, 80), (5, 7, 10), (7, 5, 1), (7, 7, 9))


@pytest.fixture
def figures(tmp_path: Path) -> FigureCache:
    (tmp_path / "figures").mkdir()
    return FigureCache(tmp_path / "figures", tmp_path / "index.json")


def results(folder: SampleStudy, *matrices: Matrix) -> list[ClassResults]:
    """Of a study with runs of one row that have these matrices, for both splits."""
    folder.start()
    for seed, confusion in enumerate(matrices):
        text = encode(confusion)
        folder.add(make_result(CONFIG, seed, 0.9, val_confusion=text, test_confusion=text))
    return read_class_results(read_study(folder.path))


def cells(table: Table) -> dict[str, Value]:
    """The first row by the headings of the file."""
    headings = (column.file_heading or column.heading for column in table.columns)
    return dict(zip(headings, table.rows[0], strict=True))


@pytest.mark.parametrize(
    ("confusion", "sentence"),
    [
        (
            LARGE_WINS,
            "Class 5 makes up 90.0 % of validation images but 98.0 % of predictions (almost every image).",
        ),
        (FAIR, "Class 5 makes up 90.0 % of validation images but 81.0 % of predictions (0.90 times as many)."),
        (
            matrix((5, 5, 60), (7, 5, 20), (7, 7, 20)),
            "Class 5 makes up 60.0 % of validation images but 80.0 % of predictions (1.33 times too many).",
        ),
        (
            matrix((5, 5, 6004), (7, 5, 2), (7, 7, 3994)),
            "Class 5 makes up 60.0 % of validation images but 60.1 % of predictions.",
        ),
        (matrix((5, 5, 60), (7, 7, 40)), "Class 5 makes up 60.0 % of validation images and of predictions."),
    ],
)
def test_sentence_says_how_often_the_largest_class_is_predicted(
    folder: SampleStudy, confusion: Matrix, sentence: str
) -> None:
    (result,) = results(folder, confusion)
    assert class_sentence(result, CLASSES) == sentence


def test_classes_in_the_plural_make_up(folder: SampleStudy) -> None:
    (result,) = results(folder, FAIR)
    for name, words in (
        ("airplanes", "Airplanes make"),
        ("octopus", "Octopus makes"),
        ("car_side", "Car_side makes"),
    ):
        assert class_sentence(result, [name] * NUM_CLASSES).startswith(words)


def test_another_class_than_the_largest_may_be_preferred(folder: SampleStudy) -> None:
    (result,) = results(folder, matrix((5, 7, 51), (7, 7, 49)))
    assert class_sentence(result, CLASSES) == (
        "Class 7 makes up 49.0 % of validation images but 100.0 % of predictions (almost every image). The "
        "largest class, class 5, makes up 51.0 % of validation images but 0.0 % of predictions."
    )
    found = cells(class_table([result], CLASSES))
    names = ("", ", share of images", ", share of predictions")
    assert [found[f"largest class{name}"] for name in names] == ["class 5", 0.51, 0.0]
    assert [found[f"most predicted class{name}"] for name in names] == ["class 7", 0.49, 1.0]


def test_class_without_an_image_may_be_predicted(folder: SampleStudy) -> None:
    (result,) = results(folder, matrix((5, 7, 60), (5, 5, 40)))
    assert class_sentence(result, CLASSES).startswith(
        "Class 7 makes up 0.0 % of validation images but 60.0 % of predictions. The largest class, class 5,"
    )


def test_class_that_is_predicted_a_little_too_often_is_not_named(folder: SampleStudy) -> None:
    (result,) = results(folder, matrix((5, 5, 48), (5, 7, 3), (7, 7, 49)))
    sentence = class_sentence(result, CLASSES)
    assert "Class 5 makes up 51.0 % of validation images but 48.0 % of predictions" in sentence
    assert "lass 7" not in sentence


def test_matrices_of_a_rows_runs_are_added_up(folder: SampleStudy) -> None:
    found = results(folder, LARGE_WINS, FAIR)
    (result,) = found
    assert (result.runs, result.network, result.row.key) == (2, "AlexNet from scratch", "scratch.lr=5e-2")
    assert result.val.tolist() == (LARGE_WINS + FAIR).tolist()
    assert per_class_table(found, CLASSES).rows == (
        ("class 5", 90, 90, 170 / 180, 170 / 180),
        ("class 7", 10, 10, 11 / 20, 11 / 20),
    )
    line = cells(class_table(found, CLASSES))
    assert (line["validation accuracy"], line["test accuracy"]) == pytest.approx((0.905, 0.905))
    assert line["balanced accuracy, validation"] == pytest.approx((170 / 180 + 11 / 20) / 2)
    assert (line["n"], line["classes with recall below 0.5"]) == (2, 0)


def test_no_more_than_a_few_runs_are_read(folder: SampleStudy) -> None:
    (result,) = results(folder, *[FAIR] * (MAX_RUNS + 1))
    assert result.runs == MAX_RUNS


def test_classes_below_half_are_counted(folder: SampleStudy) -> None:
    found = results(folder, LARGE_WINS)
    assert cells(class_table(found, CLASSES))["classes with recall below 0.5"] == 1
    assert accuracy(LARGE_WINS) == 0.92


def test_most_confused_pairs_leave_out_what_is_right(folder: SampleStudy) -> None:
    assert confused_pairs(FAIR, 5) == [(5, 7, 10), (7, 5, 1)]
    assert confused_pairs(FAIR, 1) == [(5, 7, 10)]
    assert confused_table(results(folder, FAIR, FAIR), CLASSES).rows == (
        ("AlexNet from scratch", "class 5", "class 7", 10.0, 20 / 180),
        ("AlexNet from scratch", "class 7", "class 5", 1.0, 2 / 20),
    )


def test_results_without_matrices_are_left_out(folder: SampleStudy, figures: FigureCache) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0))
    assert class_blocks(read_study(folder.path), figures) == [
        Prose("No best row has a run with a confusion matrix yet.")
    ]


def test_best_row_of_each_network_and_start_is_shown(folder: SampleStudy, figures: FigureCache) -> None:
    folder.start()
    rows = {("scratch.lr", "1e-2"): 0.3, ("scratch.step_size", "50"): 0.5, ("resnet.transfer", "5e-2"): 0.9}
    text = encode(FAIR)
    for (table, label), value in rows.items():
        folder.add(make_result(row_config(table, label), 0, value, val_confusion=text, test_confusion=text))
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))
    study = read_study(folder.path)
    assert {result.network: result.row.key for result in read_class_results(study)} == {
        "AlexNet from scratch": "scratch.step_size=50",
        "ResNet-18 pretrained": "resnet.transfer=5e-2",
    }
    blocks = class_blocks(study, figures)
    assert [type(block) for block in blocks] == [Listing, Table, Prose, Table, Picture, Details]
    figures.finish()
    assert (figures.folder / "plot-confusion.png").is_file()


def test_unnamed_classes_go_by_their_label(folder: SampleStudy) -> None:
    folder.start(classes=("accordion",))
    assert class_names(read_study(folder.path), 3) == ("accordion", "class 1", "class 2")


def test_names_of_classes_are_escaped(folder: SampleStudy, figures: FigureCache) -> None:
    folder.start(classes=tuple(f"<b>{label}|$x$" for label in range(101)))
    text = encode(FAIR)
    folder.add(make_result(CONFIG, 0, 0.9, val_confusion=text, test_confusion=text))
    head = class_blocks(read_study(folder.path), figures)[0]
    assert isinstance(head, Listing)
    assert r"\<b\>5\|\$x\$ makes up 90.0 %" in head.items[0]
