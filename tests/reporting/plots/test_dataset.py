"""Pictures of the data set and of confusion matrices: every class in its place, and unreadable images named."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caltech_exp.config import NUM_CLASSES
from caltech_exp.data.splits import IMAGES, read_data_set
from caltech_exp.reporting.plots.data import AverageImages, ClassCounts, Confusion, ConfusionPlot
from caltech_exp.reporting.plots.dataset import (
    TILE,
    class_averages,
    draw_averages,
    draw_class_counts,
    draw_confusions,
)
from caltech_exp.reporting.plots.style import DARK, save


def test_averages_are_those_of_the_images(tmp_path: Path) -> None:
    for name, left in (("dark_left", 0), ("dark_right", 255)):
        (tmp_path / IMAGES / name).mkdir(parents=True)
        pixels = np.full((60, 80, 3), left, dtype=np.uint8)
        pixels[:, 40:] = 255 - left
        for number in (1, 2):
            Image.fromarray(pixels).save(tmp_path / IMAGES / name / f"{number}.png")
    for split, number in (("train", 1), ("test", 2)):
        (tmp_path / f"{split}.txt").write_text(f"dark_left/{number}.png\ndark_right/{number}.png\n")
    averages = class_averages(read_data_set(tmp_path), 60)
    left_tile, right_tile = averages.tiles
    assert left_tile is not None
    assert right_tile is not None
    assert left_tile.shape == (*TILE, 3)
    assert left_tile[:, 5].mean() == pytest.approx(0, abs=0.01)
    assert left_tile[:, -5].mean() == pytest.approx(1, abs=0.01)
    assert right_tile[:, 5].mean() == pytest.approx(1, abs=0.01)


def test_every_class_has_an_average_image_with_its_name(stand_in: Path, tmp_path: Path) -> None:
    data = read_data_set(stand_in)
    drawing = draw_averages(AverageImages("t", data.fingerprint, data.classes, data))
    assert [text.get_text() for text in drawing.figure.axes[0].texts] == [
        name if len(name) <= 16 else f"{name[:15]}…" for name in data.classes
    ]
    assert drawing.words == ()
    save(drawing.figure, tmp_path, "plot")
    svg = (tmp_path / "plot.svg").read_text()
    assert "data:image/jpeg;base64," in svg or "data:image/png;base64," in svg
    assert f"fill: {DARK['#ffffff']} !important" in svg  # the paper between the images


def test_unreadable_images_are_left_out_and_named(stand_in: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(stand_in, broken)
    for image in (broken / IMAGES / "wrench").iterdir():
        image.write_text("no image")
    data = read_data_set(broken)
    drawing = draw_averages(AverageImages("t", data.fingerprint, data.classes, data))
    assert "wrench ?" in [text.get_text() for text in drawing.figure.axes[0].texts]
    assert any(line.startswith("wrench/image_0001.jpg: cannot identify image file") for line in drawing.words)


def counts(*pairs: tuple[int, int]) -> ClassCounts:
    train, test = zip(*pairs, strict=True)
    return ClassCounts("t", tuple("abcdef"[: len(pairs)]), train, test)


def test_both_splits_are_in_one_chart_sorted_by_size() -> None:
    (axes,) = draw_class_counts(counts((20, 10), (500, 250), (30, 15))).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["b", "c", "a"]
    train, test = axes.lines[:2]
    assert np.asarray(train.get_ydata()).tolist() == [500, 30, 20]
    assert np.asarray(test.get_ydata()).tolist() == [250, 15, 10]
    assert train.get_marker() != test.get_marker()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["training and validation, 550", "test, 275"]


def test_classes_without_images_are_gaps(tmp_path: Path) -> None:
    figure = draw_class_counts(counts((20, 0), (0, 0), (30, 15)))
    assert np.isnan(np.asarray(figure.axes[0].lines[1].get_ydata()).astype(float)).tolist() == [False, True, True]
    save(figure, tmp_path, "plot")
    save(draw_class_counts(counts((0, 0))), tmp_path, "empty")


def test_all_names_of_a_real_data_set_are_readable(stand_in: Path) -> None:
    data = read_data_set(stand_in)
    size = len(data.classes)
    figure = draw_class_counts(ClassCounts("t", data.classes, (2,) * size, (1,) * size))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == 101
    assert all(box.y0 >= 0 for box in boxes)
    assert all(left.x1 <= right.x0 + 1 for left, right in pairwise(boxes))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_confusions_are_ordered_by_size_of_class(count: int, tmp_path: Path) -> None:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    matrix[3, 3], matrix[3, 8], matrix[8, 8] = 1, 1, 6
    names = tuple(f"class $_{label}" for label in range(NUM_CLASSES))
    images = tuple(matrix.sum(axis=1).tolist())
    figure = draw_confusions(
        ConfusionPlot("t", (Confusion("AlexNet $", matrix),) * count, names, images, "Simulated")
    )
    axes, bar = figure.axes[0], figure.axes[-1]
    assert len(figure.axes) == count + 1
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class $_8 (6)", "class $_3 (2)"]
    assert axes.get_ylabel() == "true class (images)"
    assert axes.get_xlabel() == "predicted class, in the same order"
    assert bar.get_xlabel() == "share of the true class's images"
    assert "Simulated" in [text.get_text() for text in figure.texts]
    save(figure, tmp_path, "plot")
