"""Rows over epochs: what is drawn of finished and of diverged runs, how rows are told apart, and the axes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from caltech_exp.reporting.plots.curves import draw_curves
from caltech_exp.reporting.plots.data import Array, Band, Curve, CurvePlot, SingleRun
from caltech_exp.reporting.plots.style import MARKERS, SERIES, save


def band(values: Array, spread: float = 0.0) -> Band:
    return Band(values, values - spread, values + spread)


def curve(label: str = "5e-2", final: float = 0.46, epochs: int = 30, runs: int = 3, **changes: object) -> Curve:
    """A row whose loss falls from 4.6 and whose accuracy rises to `final`."""
    x = np.arange(1, epochs + 1)
    fields: dict[str, object] = {
        "label": label,
        "runs": runs,
        "measured": final,
        "train_loss": band(4.6 / x, 0.01),
        "val_loss": band(4.7 / x, 0.01),
        "val_accuracy": band(final * x / epochs, 0.01 if runs > 1 else 0.0),
    }
    return Curve(**(fields | changes))  # type: ignore[arg-type]


def diverged(seed: int = 0, epochs: int = 3) -> SingleRun:
    losses = 4.6 / np.arange(1, epochs + 1)
    losses[-1] = np.nan
    return SingleRun(seed, losses, losses, np.linspace(0.01, 0.02, epochs))


def draw(*curves: Curve) -> tuple[Figure, Axes, Axes]:
    figure = draw_curves(CurvePlot("5e-2 ends highest, 0.460", curves))
    loss, accuracy = figure.axes
    return figure, loss, accuracy


def series(axes: Axes) -> list[Line2D]:
    """The lines over epochs, without marks at single epochs and leaders of labels."""
    return [line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) > 2]


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def legend(axes: Axes) -> list[str]:
    entries = axes.get_legend()
    return [text.get_text() for text in entries.get_texts()] if entries else []


def test_rows_have_two_losses_and_an_accuracy() -> None:
    _, loss, accuracy = draw(curve("1e-2", 0.3), curve("5e-2", 0.46))
    assert len(series(loss)) == 4
    assert len(series(accuracy)) == 2
    assert np.asarray(series(accuracy)[1].get_ydata())[-1] == pytest.approx(0.46)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "validation accuracy")
    assert legend(loss) == ["training", "validation"]


def test_losses_differ_without_colour() -> None:
    _, loss, _ = draw(curve())
    assert len({line.get_linestyle() for line in series(loss)}) == 2


def test_rows_differ_in_colour_marker_and_label() -> None:
    _, _, accuracy = draw(*(curve(f"row {number}", 0.1 * number) for number in range(1, 9)))
    assert [line.get_color() for line in series(accuracy)] == list(SERIES)
    assert [line.get_marker() for line in series(accuracy)] == list(MARKERS)
    assert texts(accuracy) == [f"row {number}: {number / 10:.3f}" for number in range(1, 9)]


def test_labels_do_not_overlap() -> None:
    names = [f"row {number}, with a long name" for number in range(7)]
    rows = [curve(name, 0.46 + number / 1000) for number, name in enumerate(names)]
    figure, _, accuracy = draw(*rows, curve("last", 0.461, diverged=(diverged(),)))
    figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in accuracy.texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
    assert all(box.y0 >= 0 and box.y1 <= figure.bbox.height and box.x1 <= figure.bbox.width for box in boxes)


def test_long_labels_are_wrapped_within_the_picture() -> None:
    figure, _, accuracy = draw(curve("perspective, rotation, vertical flip"), curve("a label of many words " * 9))
    figure.canvas.draw()
    assert texts(accuracy)[0] == "perspective,\nrotation,\nvertical flip:\n0.460"
    assert texts(accuracy)[1].replace("\n", " ").endswith("…: 0.460")
    assert all(text.get_window_extent().x1 <= figure.bbox.width for text in accuracy.texts)


def test_band_shows_the_spread_of_several_runs_only() -> None:
    _, loss, accuracy = draw(curve(), curve("single", runs=1))
    assert (len(loss.collections), len(accuracy.collections)) == (0, 1)
    _, loss, accuracy = draw(curve())
    assert (len(loss.collections), len(accuracy.collections)) == (2, 1)


def test_accuracy_axis_uses_the_panel() -> None:
    late = curve("1e-2", 0.86, val_accuracy=band(np.concatenate([[0.3, 0.5, 0.7], np.full(27, 0.86)])))
    _, _, accuracy = draw(late)
    low, high = accuracy.get_ylim()
    assert 0.7 < low < 0.86 < high < 0.95  # the first epochs leave the axis
    _, _, accuracy = draw(curve())
    low, high = accuracy.get_ylim()
    assert -0.02 <= low < 0.05
    assert 0.46 < high < 0.55


def test_accuracy_axis_does_not_magnify_noise() -> None:
    _, _, accuracy = draw(curve(final=0.092, val_accuracy=band(np.full(30, 0.092))))
    low, high = accuracy.get_ylim()
    assert high - low == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 3, 4, 5]), (60, [0, 20, 40, 60])]
)
def test_epochs_are_whole_numbers(epochs: int, expected: list[int]) -> None:
    _, loss, _ = draw(curve(epochs=epochs))
    low, high = loss.get_xlim()
    ticks = [tick for tick in loss.get_xticks().tolist() if low <= tick <= high]
    assert [tick for tick in ticks if tick] == [tick for tick in expected if tick]


def test_single_epoch_is_visible() -> None:
    _, loss, accuracy = draw(curve(epochs=1))
    assert all(line.get_marker() != "None" for axes in (loss, accuracy) for line in axes.lines[:1])


def test_small_losses_are_told_apart_on_a_logarithmic_axis() -> None:
    _, loss, _ = draw(curve(train_loss=band(np.geomspace(4.6, 0.02, 30))))
    assert loss.get_yscale() == "log"
    figure, loss, _ = draw(curve(train_loss=band(np.linspace(4.6, 2, 30)), val_loss=band(np.linspace(4.6, 3, 30))))
    assert loss.get_yscale() == "linear"
    figure.canvas.draw()
    assert not any("10^" in label.get_text() for label in loss.get_yticklabels())


def test_a_loss_that_explodes_is_drawn_logarithmically() -> None:
    run = diverged()
    exploded = SingleRun(1, np.array([4.6, 1e12, np.nan]), run.val_loss, run.val_accuracy)
    _, loss, _ = draw(curve(diverged=(exploded,)))
    assert loss.get_yscale() == "log"


def test_diverged_runs_end_in_a_cross_and_are_counted() -> None:
    _, loss, accuracy = draw(curve(runs=2, diverged=(diverged(1, 3),)))
    crosses = [line for line in accuracy.lines if line.get_marker() == "x"]
    assert [np.asarray(line.get_xdata()).tolist() for line in crosses] == [[3]]
    crosses = [line for line in loss.lines if line.get_marker() == "x"]
    assert {np.asarray(line.get_xdata()).tolist()[0] for line in crosses} == {2}  # the last finite loss
    assert texts(accuracy) == ["5e-2: 0.460\n✕ 1 of 3 diverged"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_rows_of_diverged_runs_alone_are_drawn(epochs: int) -> None:
    row = Curve("LR = 5e-2", 0, diverged=tuple(diverged(seed, epochs) for seed in range(7)))
    _, _, accuracy = draw(row)
    assert texts(accuracy) == ["LR = 5e-2\n✕ 7 of 7 diverged"]


def test_reported_value_is_a_mark_after_the_last_epoch() -> None:
    _, _, accuracy = draw(curve(reported=0.446))
    marks = [line for line in accuracy.lines if line.get_marker() == "D" and line.get_markersize() == 5]
    assert [float(np.asarray(line.get_ydata()).flat[0]) for line in marks] == [0.446]
    assert legend(accuracy) == ["reported"]


def test_learning_rate_steps_are_marked_on_the_rows_own_curve() -> None:
    _, _, accuracy = draw(curve("10", lr_steps=(10, 20)), curve("30", lr_steps=(30,)))
    marks = [np.asarray(line.get_xdata()).tolist() for line in accuracy.lines if line.get_marker() == "|"]
    assert marks == [[10.5, 20.5]]  # a step after the last epoch is none
    assert legend(accuracy) == ["LR steps down"]


def test_rows_of_different_lengths_keep_theirs() -> None:
    _, _, accuracy = draw(curve("20", epochs=20), curve("60", epochs=60))
    assert [len(np.asarray(line.get_xdata())) for line in series(accuracy)] == [20, 60]


def test_names_are_no_formulas(tmp_path: Path) -> None:
    figure, _, _ = draw(curve(r"$\frac$ <b>&"))
    save(figure, tmp_path, "plot")
    assert (tmp_path / "plot.svg").stat().st_size > 1000
