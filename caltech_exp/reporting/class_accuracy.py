"""How well each class is recognised, from the confusion matrices of a row's runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caltech_exp.reporting.outcome import Outcome
from caltech_exp.study.results import Matrix, Result, decode, read_result


@dataclass(frozen=True)
class Confusions:
    """Sums over `runs` runs of their matrices, each [NUM_CLASSES, NUM_CLASSES], true class by predicted class."""

    val: Matrix
    test: Matrix
    runs: int


def read_confusions(folder: Path, outcomes: Iterable[Outcome]) -> Confusions | None:
    """From the result files in `folder`, of the runs that recorded both matrices; None if none did."""
    val: list[Matrix] = []
    test: list[Matrix] = []
    for one in outcomes:
        result = read_result(folder / one.run_id)
        if isinstance(result, Result) and result.val_confusion and result.test_confusion:
            val.append(decode(result.val_confusion))
            test.append(decode(result.test_confusion))
    return Confusions(sum(val[1:], val[0]), sum(test[1:], test[0]), len(val)) if val else None


def favour(matrix: Matrix, label: int) -> tuple[float, float] | None:
    """The share of images that are of the class, and the share that are taken for it; None without images."""
    total = int(matrix.sum())
    return (float(matrix[label].sum()) / total, float(matrix[:, label].sum()) / total) if total else None


def largest_class(matrix: Matrix) -> int:
    """The label of the class with most images, the first of several."""
    return int(matrix.sum(axis=1).argmax())


def most_predicted(matrix: Matrix) -> int:
    """The label of the class that most images are taken for, the first of several."""
    return int(matrix.sum(axis=0).argmax())


def commonest_mistakes(matrix: Matrix, most: int) -> list[tuple[int, int, int]]:
    """Pairs (true, predicted, images) off the diagonal, most images first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(place) // len(matrix), int(place) % len(matrix)) for place in order]
    return [(true, taken, int(wrong[true, taken])) for true, taken in pairs if wrong[true, taken]]
