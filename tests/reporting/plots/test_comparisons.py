"""Rows beside each other: places, intervals, verdicts, names and numbers."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle

from caltech_exp.reporting.plots.comparisons import draw_agreement, draw_differences, draw_heat_map, draw_sweep
from caltech_exp.reporting.plots.data import HeatMap, RowPlot, RowPoint
from caltech_exp.reporting.plots.style import VERDICTS, save

ROWS = (
    RowPoint("1e-3", "", (0.09, 0.10), 0.095, 0.06, 0.092, 0.001),
    RowPoint("$5e-2$ <b>", "", (), None, None, 0.446, 0.016, diverged=3),
)


def bars(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Line colour -> (x, y) of every error bar."""
    places: dict[str, list[tuple[float, float]]] = {}
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line = container.lines[0]
        assert line is not None
        place = np.asarray(line.get_xydata(), dtype=np.float64)
        places.setdefault(str(line.get_color()), []).append((float(place[0, 0]), float(place[0, 1])))
    return places


def legend(axes: Axes) -> list[str]:
    entries = axes.get_legend()
    return [text.get_text() for text in entries.get_texts()] if entries else []


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_measured_stands_above_reported() -> None:
    (axes,) = draw_sweep(RowPlot("1e-3 is best", ROWS, "Learning rate")).axes
    measured, reported = bars(axes).values()
    assert [x for x, _ in measured] == [0.095]
    assert [x for x, _ in reported] == [0.092, 0.446]
    first, second = axes.get_yticks().tolist()
    assert measured[0][1] < first < reported[0][1] < second < reported[1][1]
    assert axes.get_xlabel() == "validation accuracy"
    low, high = axes.get_xlim()
    assert low <= 0.035
    assert 0.462 <= high < 0.5  # no room that no row needs
    assert legend(axes) == ["measured mean, 95 % interval", "each run", "reported ± deviation"]


def test_diverged_rows_say_so_and_labels_are_no_formulas(tmp_path: Path) -> None:
    figure = draw_sweep(RowPlot("$t$", ROWS, "Learning rate", "$caution$"))
    assert texts(figure.axes[0]) == ["✕ 3 diverged"]
    assert labels(figure.axes[0]) == ["1e-3", "$5e-2$ <b>"]
    save(figure, tmp_path, "plot")


def test_nothing_reported_is_no_legend_entry() -> None:
    row = RowPoint("none", "", (0.8,), 0.8)
    (axes,) = draw_sweep(RowPlot("t", (row, row), "Augmentation")).axes
    assert legend(axes) == ["measured mean", "each run"]


def test_every_row_has_the_same_room() -> None:
    many = tuple(RowPoint(f"row {number}", "", (0.5,), 0.5) for number in range(12))
    figures = [draw_sweep(RowPlot("t", rows)) for rows in (many, many * 2)]
    rooms = [figure.axes[0].get_position().height * figure.get_figheight() for figure in figures]
    assert rooms[1] == pytest.approx(2 * rooms[0])
    low, high = figures[0].axes[0].get_ylim()
    assert low > high  # the first row on top


@pytest.mark.parametrize("draw", [draw_sweep, draw_differences])
def test_long_labels_stay_within_the_picture(draw: object) -> None:
    long = RowPoint("a label of many words " * 4, "", (0.5,), 0.5, difference=0.01, verdict="agrees")
    figure = draw(RowPlot("t", (long, long)))  # type: ignore[operator]
    figure.canvas.draw()
    assert all(label.get_window_extent().x0 >= 0 for label in figure.axes[0].get_yticklabels())


DIFFERENCES = (
    RowPoint("learning rate 1e-3", "1. Scratch", difference=0.01, difference_half_width=0.02, verdict="agrees"),
    RowPoint("$rate$ 1e-2", "1. Scratch", difference=-0.09, difference_half_width=0.03, verdict="differs"),
    RowPoint("learning rate 5e-2", "1. Scratch", verdict="differs", diverged=3),
    RowPoint("batch size 64", "2. Transfer", difference=0.05, difference_half_width=0.4, verdict="inconclusive"),
    RowPoint("batch size 128", "2. Transfer", difference=0.2, verdict="inconclusive"),
)


def test_differences_are_grouped_by_section_and_marked_by_verdict(tmp_path: Path) -> None:
    figure = draw_differences(RowPlot("1 of 5 rows agrees", DIFFERENCES, caution="$caution$"))
    (axes,) = figure.axes
    assert labels(axes) == [
        "1. Scratch",
        "learning rate 1e-3",
        "$rate$ 1e-2",
        "learning rate 5e-2",
        "2. Transfer",
        "batch size 64",
        "batch size 128",
    ]
    marks = {
        (str(line.get_color()), str(line.get_marker())): np.asarray(line.get_xdata()).tolist()
        for line in axes.lines
        if line.get_marker() in ("o", "s", "D")
    }
    assert marks == {VERDICTS["agrees"]: [0.01], VERDICTS["differs"]: [-0.09], VERDICTS["inconclusive"]: [0.05]}
    assert legend(axes) == ["agrees", "differs", "inconclusive", "beyond ±0.1"]
    save(figure, tmp_path, "plot")


def test_differences_beyond_a_tenth_are_arrows_with_their_number() -> None:
    (axes,) = draw_differences(RowPlot("t", DIFFERENCES)).axes
    low, high = axes.get_xlim()
    assert (low, high) == pytest.approx((-0.104, 0.104))
    arrows = [
        (str(line.get_marker()), value)
        for line in axes.lines
        if line.get_marker() in ("<", ">")
        for value in np.asarray(line.get_xdata()).tolist()
    ]
    assert sorted(arrows) == [("<", -0.1), ("<", -0.1), (">", 0.1), (">", 0.1)]
    assert texts(axes) == ["+0.010 ± 0.020", "−0.090 ± 0.030", "✕ 3 diverged", "+0.050 ± 0.400", "+0.200"]


def test_small_differences_fill_the_axis() -> None:
    row = RowPoint("1e-3", "", difference=0.001, difference_half_width=0.004, verdict="agrees")
    (axes,) = draw_differences(RowPlot("t", (row,))).axes
    assert axes.get_xlim()[1] == pytest.approx(0.01, abs=0.001)
    assert legend(axes) == ["agrees"]


def agreement_rows(count: int) -> tuple[RowPoint, ...]:
    verdicts = ("agrees", "differs", "inconclusive")
    return tuple(
        RowPoint(
            f"row {n}",
            mean=0.3 + n / 100,
            half_width=0.01,
            reported=0.31 + n / 100,
            reported_std=0.01,
            verdict=verdicts[n % 3],  # type: ignore[arg-type]
        )
        for n in range(count)
    )


def test_points_lie_at_reported_and_measured_and_differ_by_verdict() -> None:
    (axes,) = draw_agreement(RowPlot("2 of 6 rows agree", agreement_rows(6))).axes
    drawn = bars(axes)
    assert set(drawn) == {colour for colour, _ in VERDICTS.values()}
    assert np.array(drawn[VERDICTS["differs"][0]]) == pytest.approx(np.array([(0.32, 0.31), (0.35, 0.34)]))
    assert legend(axes) == ["agrees", "differs", "inconclusive", "measured = reported"]
    low, high = axes.get_xlim()
    assert (low > 0.28, high < 0.38) == (True, True)


def test_rows_that_do_not_agree_are_named() -> None:
    (axes,) = draw_agreement(RowPlot("t", agreement_rows(6))).axes
    assert sorted(texts(axes)) == ["row 1", "row 2", "row 4", "row 5"]
    figure = draw_agreement(RowPlot("t", agreement_rows(40)))
    assert len(texts(figure.axes[0])) == 5
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)


def heat_map(means: object) -> HeatMap:
    return HeatMap(
        "Best: 1e-2, 128", "Batch size", ("64", "128"), "Learning rate", ("1e-3", "1e-2"), np.array(means)
    )


def test_heat_map_prints_every_mean_and_frames_the_best_cell() -> None:
    axes, bar = draw_heat_map(heat_map([[0.81, 0.82], [np.nan, 0.8584]])).axes
    assert texts(axes) == ["0.810", "0.820", "–", "0.858"]
    (frame,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert frame.get_xy() == (1, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Batch size", "Learning rate")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "128"]
    assert bar.get_ylabel() == "validation\naccuracy"


def test_heat_map_without_a_mean_has_no_best_cell() -> None:
    (axes,) = draw_heat_map(heat_map([[np.nan, np.nan], [np.nan, np.nan]])).axes
    assert not axes.patches


def test_large_heat_maps_print_no_numbers() -> None:
    names = tuple(map(str, range(20)))
    plot = HeatMap("t", "x", names, "y", names, np.linspace(0, 1, 400).reshape(20, 20))
    assert not texts(draw_heat_map(plot).axes[0])
