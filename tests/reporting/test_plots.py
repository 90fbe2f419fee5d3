"""Plots that the report does not have: what they draw, and that they say what must be known."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import NUM_CLASSES
from caltech_exp.reporting.blocks import Prose
from caltech_exp.reporting.confusion_plot import draw_confusions
from caltech_exp.reporting.difference_data import DifferenceRow
from caltech_exp.reporting.difference_plot import draw_differences
from caltech_exp.reporting.images import save
from caltech_exp.reporting.page import open_gallery
from caltech_exp.reporting.scatter_data import ScatterPoint
from caltech_exp.reporting.scatter_plot import draw_scatter
from caltech_exp.reporting.sweep_blocks import sweep_blocks
from caltech_exp.reporting.sweep_data import SweepRow, sweep_row
from caltech_exp.reporting.sweep_plot import draw_sweep
from tests.reporting.conftest import Page, SampleStudy, make_diverged, make_result, row_config

ROWS = (
    SweepRow("1e-3", (0.09, 0.10), 0.095, 0.06, 0.092, 0.001, 0),
    SweepRow("$5e-2$ <b>", (), None, None, 0.446, 0.016, 3),
)


def bars(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Line colour -> (place, mean) of every error bar."""
    found: dict[str, list[tuple[float, float]]] = {}
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line = container.lines[0]
        assert line is not None
        place = np.asarray(line.get_xydata(), dtype=np.float64)
        found.setdefault(str(line.get_color()), []).append((float(place[0, 0]), float(place[0, 1])))
    return found


def test_measured_and_reported_stand_side_by_side() -> None:
    (axes,) = draw_sweep("1.1. Changing learning rate", "Learning rate", ROWS, "").axes
    measured, reported = bars(axes).values()
    assert measured == [(-0.12, 0.095)]
    assert reported == [(0.12, 0.092), (1.12, 0.446)]
    assert axes.get_ylabel() == "validation accuracy"


def test_diverged_rows_say_so_and_labels_are_no_formulas() -> None:
    (axes,) = draw_sweep("t", "Learning rate", ROWS, "").axes
    assert [text.get_text() for text in axes.texts] == ["✕ 3 diverged"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1e-3", "$5e-2$ <b>"]
    assert not any(label.get_parse_math() for label in axes.get_xticklabels())


def test_nothing_reported_is_no_legend_entry() -> None:
    row = SweepRow("none", (0.8,), 0.8, None, None, None, 0)
    (axes,) = draw_sweep("t", "Augmentation", [row, row], "").axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["measured mean", "each run"]


MANY = tuple(SweepRow(f"row {n}, 5e-2", (n / 20,), n / 20, 0.01, n / 20, 0.02, 3 * (n == 2)) for n in range(12))


def test_many_rows_lie_below_each_other_and_each_has_its_room() -> None:
    figure = draw_sweep("t", "Learning rate", MANY, "")
    (axes,) = figure.axes
    measured, reported = bars(axes).values()
    assert np.array(measured) == pytest.approx(np.array([(n / 20, n - 0.12) for n in range(12)]))
    assert np.array(reported) == pytest.approx(np.array([(n / 20, n + 0.12) for n in range(12)]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("validation accuracy", "learning rate")
    assert axes.get_ylim() == pytest.approx((11.6, -0.6))  # the first row on top
    assert [text.get_text() for text in axes.texts] == ["✕ 3 diverged"]
    twice = draw_sweep("t", "Learning rate", [*MANY, *MANY], "")
    rows = axes.get_position().height * figure.get_figheight()
    assert twice.axes[0].get_position().height * twice.get_figheight() == pytest.approx(2 * rows)
    assert (figure.get_figwidth(), twice.get_figwidth()) == (7, 7)


def test_long_labels_lie_too() -> None:
    long = SweepRow("a label of many words " * 4, (0.5,), 0.5, None, None, None, 0)
    (axes,) = draw_sweep("t", "Row", [long, long], "").axes
    assert axes.get_xlabel() == "validation accuracy"


def test_too_many_rows_have_no_plot_and_the_page_says_so(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start()
    folder.add(make_result(row_config("scratch.lr", "5e-2"), 0))
    ((section, asked),) = THE_REPORT.select(tables=["scratch.lr"])
    collected = folder.collect()
    rows = collected.of(section, asked)
    (only,) = sweep_blocks(section, asked, rows * 13, collected, open_gallery(tmp_path))  # 65 rows
    assert only == Prose("*There is no plot of 65 rows; up to 60 are drawn.*")


@pytest.mark.parametrize("title", [r"$\frac$", "$x", r"a $\nosuch{$ b"])
def test_titles_are_no_formulas(title: str, tmp_path: Path) -> None:
    for figure in (
        draw_sweep(title, title, ROWS, title),
        draw_sweep(title, title, MANY, title),
        draw_scatter([ScatterPoint(title, 0.5, 0.01, 0.5, 0.01)], title),
    ):
        save(figure, tmp_path, "plot")  # where matplotlib would fail
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_title_is_one_line_within_the_picture() -> None:
    figure = draw_sweep("long " * 100, "Row", ROWS, "")
    figure.canvas.draw()
    assert figure.get_suptitle().endswith("…")
    box = next(text for text in figure.texts if text.get_text().startswith("long")).get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_what_a_row_shows(folder: SampleStudy) -> None:
    config = row_config("scratch.lr", "5e-2")
    folder.add(make_result(config, 0, 0.4), make_result(config, 1, 0.5), make_diverged(config, 2))
    row = next(row for row in folder.collect().rows["scratch", "lr"] if row.row.label == "5e-2")
    shown = sweep_row(row)
    assert (shown.single, shown.mean, shown.diverged) == ((0.4, 0.5), 0.45, 1)
    assert (shown.reported, shown.reported_std) == (0.446, 0.016)


def test_every_table_of_several_rows_has_a_plot_once_it_has_a_result(folder: SampleStudy, page: Page) -> None:
    folder.start()
    assert "](figures/plot-" not in page(folder)
    folder.add(make_result(row_config("augmentation.augment", "none"), 0))
    text = page(folder)
    assert "](figures/plot-augmentation.augment.png)" in text
    assert "](figures/plot-scratch.lr.png)" not in text


def test_differences_stand_below_each_other_by_whether_they_agree(tmp_path: Path) -> None:
    rows = [
        DifferenceRow("scratch.lr=1e-3", 0.01, 0.02, "agrees", runs=3, diverged=0),
        DifferenceRow("$scratch.lr=1e-2$", -0.1, 0.03, "differs", runs=1, diverged=0),
        DifferenceRow("scratch.lr=5e-2", None, None, "differs", runs=0, diverged=3),
        DifferenceRow("scratch.lr=6e-2", 0.1, 0.4, "cannot tell", runs=2, diverged=0),
    ]
    figure = draw_differences(rows, "$caution$")
    (axes,) = figure.axes
    assert list(bars(axes).values()) == [[(0.01, 0.0)], [(-0.1, 1.0)], [(0.1, 3.0)]]
    assert [text.get_text() for text in axes.texts] == ["✕ 3 diverged"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["agrees", "differs", "cannot tell", "one run"]
    save(figure, tmp_path, "plot")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_captions_say_what_is_drawn(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(row_config("augmentation.augment", "none"), 0))
    assert "Shown: each finished run and their mean.*" in page(folder)
    folder.add(make_result(row_config("scratch.lr", "5e-2"), 0), make_result(row_config("scratch.lr", "5e-2"), 1))
    folder.add(make_diverged(row_config("scratch.lr", "5e-2"), 2))
    assert (
        "Shown: each finished run and their mean with its 95 % confidence interval, the report's mean with its "
        "standard deviation and how many runs diverged (✕).*" in page(folder)
    )


def test_points_differ_by_section_in_colour_and_marker() -> None:
    points = [ScatterPoint(f"{n}. section", n / 5, 0.01, n / 5, 0.01) for n in (1, 2, 4)]
    (axes,) = draw_scatter(points, "").axes
    assert list(bars(axes).values()) == [[(n / 5, n / 5)] for n in (1, 2, 4)]
    assert len({container.lines[0].get_marker() for container in axes.containers}) == 3  # type: ignore[attr-defined]


def test_every_section_is_drawn_and_none_looks_like_another() -> None:
    points = [ScatterPoint(f"_{n}. section", n / 20, 0.01, n / 20, 0.01) for n in range(18)]
    (axes,) = draw_scatter(points, "").axes
    assert sum(map(len, bars(axes).values())) == 18
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["agreement", *(p.section for p in points)]
    lines = [container.lines[0] for container in axes.containers]  # type: ignore[attr-defined]
    looks = {(line.get_marker(), line.get_fillstyle(), line.get_markerfacecolor() == "white") for line in lines}
    assert len(looks) == 18


@pytest.mark.parametrize("count", [1, 3, 4])
def test_confusions_are_ordered_by_size_of_class(count: int) -> None:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    matrix[3, 3], matrix[3, 8], matrix[8, 8] = 1, 1, 6
    images = matrix.sum(axis=1).tolist()
    names = [f"class {label}" for label in range(NUM_CLASSES)]
    figure = draw_confusions(["AlexNet"] * count, [matrix] * count, names, images, "Simulated")
    axes = figure.axes[0]
    assert len(figure.axes) == count + 1
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["class 8 (6)", "class 3 (2)"]
    assert "Simulated" in [text.get_text() for text in figure.texts]
