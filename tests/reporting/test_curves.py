"""Curves over epochs: means and ranges, step-downs, runs of different lengths, runs that diverge."""

import shutil
import statistics
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from caltech_exp.config import RunConfig, run_id
from caltech_exp.reporting.curve_data import band, step_downs
from caltech_exp.reporting.curves import draw_curves
from caltech_exp.reporting.outcome import Outcome, outcome_of
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import Page, SampleStudy, make_diverged, make_epochs, make_result, row_config

CONFIG = RunConfig(epochs=5, step_size=2)


def outcome(config: RunConfig, seed: int, accuracy: float = 0.5, **changes: Any) -> Outcome:
    return outcome_of(make_result(config, seed, accuracy, **changes))


def diverged(config: RunConfig, seed: int, epochs: int = 3) -> Outcome:
    return outcome_of(make_diverged(config, seed, epochs))


def test_band_over_seeds() -> None:
    finals = (0.2, 0.3, 0.46)
    over = band([outcome(CONFIG, seed, final) for seed, final in enumerate(finals)], "val_accuracy")
    assert over.runs == 3
    assert over.mean[-1] == pytest.approx(statistics.fmean(finals))
    assert (over.low[-1], over.high[-1]) == pytest.approx((0.2, 0.46))
    assert over.mean.shape == over.low.shape == over.high.shape == (5,)


def test_band_over_runs_of_different_lengths() -> None:
    two = CONFIG.but(epochs=2)
    short = outcome(two, 0, 0.3, epochs=make_epochs(two, 0.3))
    over = band([short, outcome(CONFIG, 1, 0.5)], "val_accuracy")
    assert over.mean == pytest.approx([(0.15 + 0.1) / 2, (0.3 + 0.2) / 2, 0.3, 0.4, 0.5])


def test_losses_that_are_not_finite_are_gaps() -> None:
    over = band([diverged(CONFIG, 0, epochs=3)], "train_loss")
    assert np.isnan(over.mean).tolist() == [False, False, True]


def test_step_downs_lie_between_epochs() -> None:
    assert step_downs([outcome(CONFIG, 0)]) == [2.5, 4.5]


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_panels_have_whole_epochs_and_accuracies_from_0_to_1(epochs: int) -> None:
    config = RunConfig(epochs=epochs)
    figure = draw_curves("Figure 6", [outcome(config, seed) for seed in range(3)], [], 0.446)
    loss, accuracy = figure.axes
    assert accuracy.get_ylim() == (0, 1)
    low, high = loss.get_xlim()
    ticks = [tick for tick in loss.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) for tick in ticks)
    assert figure.get_suptitle() == "Figure 6"


def test_a_single_epoch_is_visible() -> None:
    loss, accuracy = draw_curves("Figure 5", [outcome(RunConfig(epochs=1), 0)], []).axes
    assert all(line.get_marker() in ("o", "s") for axes in (loss, accuracy) for line in axes.lines)


def test_curves_differ_without_colour() -> None:
    loss, _ = draw_curves("Figure 5", [outcome(CONFIG, 0)], []).axes
    assert len({line.get_linestyle() for line in loss.lines[:2]}) == 2


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_diverged_runs_are_drawn_up_to_where_they_stop() -> None:
    figure = draw_curves("Figure 8", [outcome(CONFIG, 0)], [diverged(CONFIG, 1, epochs=3)])
    loss, accuracy = figure.axes
    assert "diverged (seed 1)" in labels(loss)
    crosses = [line for line in accuracy.lines if line.get_marker() == "X"]
    assert [list(line.get_xdata()) for line in crosses] == [[3]]  # type: ignore[arg-type]


@pytest.mark.parametrize("epochs", [1, 3])
def test_only_diverged_runs(epochs: int) -> None:
    figure = draw_curves("Figure 8", [], [diverged(CONFIG, seed, epochs) for seed in range(7)])
    assert "7 runs diverged" in labels(figure.axes[0])


def test_a_loss_that_explodes_is_drawn_logarithmically() -> None:
    huge = make_epochs(CONFIG, 0.1)[0].model_copy(update={"train_loss": 1e12})
    exploded = outcome(CONFIG, 1, epochs=(huge,), status="diverged")
    figure = draw_curves("Figure 8", [outcome(CONFIG, 0)], [exploded])
    assert figure.axes[0].get_yscale() == "log"


def test_a_figure_on_the_page(folder: SampleStudy, page: Page) -> None:
    config = row_config("scratch.lr", "5e-2")
    folder.start()
    folder.add(*(make_result(config, seed, 0.4 + seed / 10) for seed in range(3)))
    text = page(folder)
    assert "](figures/figure-06.png)" in text
    assert "Mean of 3 runs (seeds 0, 1 and 2); the band goes from the smallest to the largest value." in text
    lines = text.partition("| Figure 6")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]
    assert cells == [["4.62", "4.620"], ["0.09", "0.017"], ["0.71", "0.153"], ["0.446", "0.500"]]
    out = folder.path.parent / "out" / "figures"
    assert (out / "figure-06.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "figure-06.svg").read_text()


def test_a_figure_without_results_names_runs_and_command(folder: SampleStudy, page: Page) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"epochs": 1}))
    folder.start(root="/the data")
    config = folder.settings.apply(row_config("scratch.epochs", "60"))
    first, second, third = (run_id(config, seed) for seed in (0, 7, 8))
    folder.submit(first, second, seeds=(0, 7, 8))
    folder.fail(first, "OSError: no space")
    text = page(folder).partition("**Figure 7: no results yet.**")[2].partition("\n")[0]
    assert f"It waits for `{first}` (failed), `{second}` (queued) and `{third}` (not submitted)" in text
    assert (
        f"`python jobs/submit.py table=scratch.epochs runs={folder.path} seeds=0,7,8 'data=/the data' epochs=1`"
        in text
    )


def test_the_same_results_give_the_same_pictures(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(RunConfig(), 0))
    out = folder.path.parent / "out" / "figures"
    pictures = []
    for _ in range(2):
        page(folder)
        pictures.append({path.name: path.read_bytes() for path in out.iterdir()})
        for path in out.iterdir():
            path.unlink()
    assert pictures[0] == pictures[1]
    names = ("figure-05", "plot-agreement", "plot-differences", "plot-scratch.lr")
    assert sorted(pictures[0]) == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]


def test_figures_of_an_earlier_report_are_deleted(folder: SampleStudy, page: Page) -> None:
    out = folder.path.parent / "out" / "figures"
    folder.start()
    folder.add(make_result(row_config("scratch.lr", "5e-2"), 0))
    page(folder)
    assert (out / "figure-06.png").exists()
    (out / "mine.png").write_text("kept")
    shutil.rmtree(folder.path)
    page(folder)
    assert [path.name for path in out.iterdir()] == ["mine.png"]
