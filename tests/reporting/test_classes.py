"""Class by class: recalls, balanced accuracy, and whether a network favours the largest class."""

import numpy as np
import pytest

from caltech_exp.config import NUM_CLASSES
from caltech_exp.reporting.class_accuracy import commonest_mistakes, favour
from caltech_exp.reporting.class_blocks import class_grid, class_studies, favour_sentence, per_class_grid
from caltech_exp.reporting.recall import accuracy, balanced_accuracy, recalls
from caltech_exp.study.results import Matrix, encode
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import CLASSES, Page, SampleStudy, make_result, row_config

CONFIG = row_config("scratch.lr", "5e-2")


def matrix(*entries: tuple[int, int, int]) -> Matrix:
    """(true, predicted, images) ..."""
    made = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for true, predicted, images in entries:
        made[true, predicted] = images
    return made


LARGE_WINS = matrix((5, 5, 90), (7, 5, 8), (7, 7, 2))
FAIR = matrix((5, 5, 80), (5, 7, 10), (7, 5, 1), (7, 7, 9))


def test_balanced_accuracy_counts_every_class_the_same() -> None:
    assert accuracy(LARGE_WINS) == 0.92
    assert balanced_accuracy(LARGE_WINS) == pytest.approx((1.0 + 0.2) / 2)
    assert accuracy(FAIR) == 0.89
    assert balanced_accuracy(FAIR) == pytest.approx((80 / 90 + 0.9) / 2)


def test_classes_without_images_have_no_recall() -> None:
    found = recalls(LARGE_WINS)
    assert (found[5], found[7]) == (1.0, 0.2)
    assert np.isnan(found).sum() == NUM_CLASSES - 2
    assert balanced_accuracy(matrix()) is None
    assert accuracy(matrix()) is None


def test_images_of_a_class_and_images_taken_for_it() -> None:
    assert favour(LARGE_WINS, 5) == (0.9, 0.98)
    assert favour(matrix(), 5) is None


def test_commonest_mistakes_leave_out_what_is_right() -> None:
    assert commonest_mistakes(FAIR, 5) == [(5, 7, 10), (7, 5, 1)]


def with_matrices(folder: SampleStudy, *matrices: Matrix) -> None:
    for seed, one in enumerate(matrices):
        text = encode(one)
        folder.add(make_result(CONFIG, seed, 0.9, val_confusion=text, test_confusion=text))


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (LARGE_WINS, "takes almost every image for it"),
        (FAIR, "predicts it 0.90 times as often as it is there"),
        (matrix((5, 5, 60), (7, 5, 20), (7, 7, 20)), "predicts it 1.33 times as often as it is there"),
    ],
)
def test_whether_the_largest_class_is_favoured(folder: SampleStudy, one: Matrix, verdict: str) -> None:
    folder.start()
    with_matrices(folder, one)
    (study,) = class_studies(folder.collect())
    text = favour_sentence(study, CLASSES)
    assert "are class 5 and" in text
    assert verdict in text


def test_a_network_that_comes_to_another_class_than_the_largest(folder: SampleStudy) -> None:
    folder.start()
    with_matrices(folder, matrix((5, 7, 51), (7, 7, 49)))
    (study,) = class_studies(folder.collect())
    assert favour_sentence(study, CLASSES).endswith(
        ": 49.0 % of the validation images are class 7 and 100.0 % are taken for it: the network takes almost "
        "every image for it. Of the largest class, class 5, there are 51.0 %, and 0.0 % are taken for it. Its "
        "balanced accuracy is 0.500 where its accuracy is 0.490."
    )
    grid = class_grid([study], CLASSES)
    shown = dict(zip((column.heading for column in grid.columns), grid.rows[0], strict=True))
    assert [shown[name] for name in ("largest class", "share of images", "share of predictions")] == [
        "class 5",
        0.51,
        0.0,
    ]
    assert [
        shown[name] for name in ("most predicted class", "its share of images", "its share of predictions")
    ] == ["class 7", 0.49, 1.0]


def test_a_class_without_an_image_may_be_the_one_that_is_predicted(folder: SampleStudy) -> None:
    folder.start()
    with_matrices(folder, matrix((5, 7, 60), (7, 7, 0), (5, 5, 40)))
    (study,) = class_studies(folder.collect())
    assert (
        "0.0 % of the validation images are class 7 and 60.0 % are taken for it: the network predicts it though "
        "there is none. Of the largest class, class 5," in favour_sentence(study, CLASSES)
    )


def test_a_class_that_is_predicted_a_little_too_often_is_not_named(folder: SampleStudy) -> None:
    folder.start()
    with_matrices(folder, matrix((5, 5, 48), (5, 7, 3), (7, 7, 49)))
    (study,) = class_studies(folder.collect())
    assert "51.0 % of the validation images are class 5 and 48.0 % are taken for it" in favour_sentence(
        study, CLASSES
    )
    assert "class 7" not in favour_sentence(study, CLASSES)


def test_matrices_of_a_rows_runs_are_added_up(folder: SampleStudy) -> None:
    folder.start()
    with_matrices(folder, LARGE_WINS, FAIR)
    studies = class_studies(folder.collect())
    assert studies[0].confusions.runs == 2
    assert studies[0].confusions.val.tolist() == (LARGE_WINS + FAIR).tolist()
    grid = per_class_grid(studies, CLASSES)
    assert grid.rows == (("class 5", 90, 90, 170 / 180, 170 / 180), ("class 7", 10, 10, 11 / 20, 11 / 20))


def test_results_without_matrices_are_left_out(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0))
    assert class_studies(folder.collect()) == []
    assert "No best row has runs that recorded their confusion matrices yet." in page(folder)


def test_names_of_classes_are_escaped(folder: SampleStudy, page: Page) -> None:
    folder.start(classes=tuple(f"<b>{label}|$x$" for label in range(101)))
    with_matrices(folder, FAIR)
    text = page(folder)
    assert r"\<b\>5\|\$x\$ taken for \<b\>7\|\$x\$: 10.0 images a run" in text


def test_rows_that_sample_classes_otherwise_show_balanced_accuracy(folder: SampleStudy, page: Page) -> None:
    assert "mean balanced accuracy" not in page(folder)
    folder = SampleStudy(folder.path, StudySettings(overrides={"sampling": "balanced"}))
    folder.start()
    config = folder.settings.apply(CONFIG)
    for seed, confusion in enumerate((LARGE_WINS, FAIR)):
        folder.add(make_result(config, seed, 0.9, val_confusion=encode(confusion), test_confusion=encode(FAIR)))
    balanced = ((1.0 + 0.2) / 2 + (80 / 90 + 9 / 10) / 2) / 2
    text = page(folder)
    assert "mean balanced accuracy" in text
    line = next(line for line in text.splitlines() if line.startswith("| 5e-2 "))
    assert f"| {balanced:.3f} |" in " ".join(line.split())
