"""The pictures of a table: which there are, what they show, and what their titles and captions say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig, run_id
from caltech_exp.records import write_record
from caltech_exp.reporting.comparison import find_row
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.page import build_report
from caltech_exp.reporting.plots.data import CurvePlot, HeatMap, RowPlot
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Block, Picture, Prose, Table, shown
from caltech_exp.reporting.render.curve_data import curve_json
from caltech_exp.reporting.render.markdown import to_markdown
from caltech_exp.reporting.sections.figures import (
    TablePictures,
    as_quoted,
    network_curves,
    row_curve,
    row_point,
    table_pictures,
)
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import Lease, acquire
from caltech_exp.study.results import PROGRESS, CurvePoint, Progress, Result
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, SampleStudy, make_diverged, make_result, row_config

FIVE = row_config("scratch.lr", "5e-2")


class Shelf(FigureCache):
    """Keeps what the pictures show, and draws them as well."""

    def __init__(self, out: Path) -> None:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        super().__init__(out / "figures", out / "index.json")
        self.data: dict[str, object] = {}

    def add(self, name: str, draw: str, data: object, **words: object) -> Picture:
        self.data[name] = data
        return super().add(name, draw, data, **words)  # type: ignore[arg-type]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "out")


def pictures_of(sample: SampleStudy, table: str, shelf: Shelf) -> TablePictures:
    study = read_study(sample.path)
    ((section, catalog_table),) = study.catalog.select(tables=[table])
    return table_pictures(study, section, catalog_table, shelf)


def names(blocks: tuple[Block, ...]) -> list[str]:
    return [block.name for block in blocks if isinstance(block, Picture)]


def fill(sample: SampleStudy, table: str, values: dict[str, float], seeds: int = 3) -> None:
    for label, value in values.items():
        config = sample.settings.apply(row_config(table, label))
        sample.add(*(make_result(config, seed, value + 0.002 * (seed - 1)) for seed in range(seeds)))


LR = {"1e-3": 0.092, "1e-2": 0.299, "5e-2": 0.46, "6e-2": 0.36, "1e-1": 0.18}


def train(sample: SampleStudy, label: str, seed: int, epochs: int) -> Lease:
    """A run of scratch.lr that has had so many epochs."""
    config = row_config("scratch.lr", label)
    name = run_id(config, seed)
    lease = acquire(sample.path / name, "1_0")
    assert lease is not None
    curve = tuple(CurvePoint(number, 4.0 / number, None, 0.01 * number) for number in range(2, epochs + 1, 2))
    progress = Progress(
        run_id=name, epoch=epochs, epochs=config.epochs, images_per_second=1.0, submission="first", job="1_0",
        host="gpu1", when="2026-01-01T00:00:00Z", curve=curve,
    )  # fmt: skip
    write_record(sample.path / name, PROGRESS, progress)
    sample.submit(name)
    return lease


def test_runs_in_training_are_drawn_and_marked(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    fill(folder, "scratch.lr", {"5e-2": 0.46, "1e-2": 0.3}, seeds=2)
    lease = train(folder, "5e-2", 2, 12)
    other = train(folder, "1e-1", 0, 8)
    pictures = pictures_of(folder, "scratch.lr", shelf)
    curves = shelf.data["curves-scratch.lr"]
    assert isinstance(curves, CurvePlot)
    by_label = {curve.label: curve for curve in curves.curves}
    assert by_label.keys() == {"5e-2", "1e-2", "1e-1"}
    (run,) = by_label["5e-2"].running
    assert (run.seed, len(run.val_accuracy)) == (2, 12)
    assert np.isnan(run.val_accuracy[0])  # its record holds every second epoch
    assert run.val_accuracy[11] == 0.12
    assert (by_label["1e-1"].runs, by_label["1e-1"].epochs) == (0, 8)
    (shown_picture,) = [block for block in pictures.shown if isinstance(block, Picture)]
    assert "Runs in training end in an arrow." in shown_picture.caption
    (figure,) = [block for block in pictures.details if isinstance(block, Picture) and block.number == 6]
    assert "Still in training, ending in an arrow: seed 2 (epoch 12)." in figure.caption
    study = read_study(folder.path)
    assert set(study.running["run_id"]) == {run_id(FIVE, 2), run_id(row_config("scratch.lr", "1e-1"), 0)}
    live = json.loads(curve_json(study))
    assert live["runs"][run_id(FIVE, 2)]["state"] == "running"
    assert live["runs"][run_id(FIVE, 2)]["val_accuracy"][1::2] == [0.02, 0.04, 0.06, 0.08, 0.1, 0.12]
    assert live["configs"][FIVE.id]["n"] == 2
    assert "scratch.lr=1e-1" in live["rows"]
    lease.release()
    other.release()
    assert read_study(folder.path).running.empty  # they are lost, or queued again


def test_table_of_runs_in_training_alone_has_a_picture(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    lease = train(folder, "5e-2", 0, 6)
    pictures_of(folder, "scratch.lr", shelf)
    curves = shelf.data["curves-scratch.lr"]
    assert isinstance(curves, CurvePlot)
    assert curves.title == "In training"
    text = to_markdown(build_report(read_study(folder.path), folder.path.parent / "out").blocks)
    assert "(figures/curves-scratch.lr.png)" in text
    lease.release()


def test_curves_of_all_rows_stand_open_and_the_rest_is_folded(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    fill(folder, "scratch.lr", LR)
    pictures = pictures_of(folder, "scratch.lr", shelf)
    assert names(pictures.shown) == ["curves-scratch.lr"]
    assert names(pictures.details) == ["sweep-scratch.lr", "figure-06"]
    curves = shelf.data["curves-scratch.lr"]
    assert isinstance(curves, CurvePlot)
    assert [curve.label for curve in curves.curves] == list(LR)
    assert [curve.reported for curve in curves.curves] == [0.092, 0.298, 0.446, 0.344, 0.16]
    assert (curves.title, curves.caution) == ("5e-2 ends highest, 0.460", "")
    (picture,) = pictures.shown
    assert isinstance(picture, Picture)
    assert picture.keys == tuple(f"scratch.lr={label}" for label in LR)
    assert picture.caption == "Means of 3 runs; bands are their range."
    assert "5e-2 ends highest, 0.460" in picture.alternative
    assert sorted(path.name for path in shelf.folder.iterdir()) == [
        f"{name}.{kind}"
        for name in ("curves-scratch.lr", "figure-06", "sweep-scratch.lr")
        for kind in ("png", "svg")
    ]


def test_best_rows_of_the_networks_are_drawn_together(folder: SampleStudy, shelf: Shelf) -> None:
    weights = {"resnet18": f"/weights/resnet18.pth@sha256:{'c' * 64}"}
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights=weights))
    sample.start()
    fill(sample, "scratch.lr", LR)
    assert network_curves(read_study(sample.path), shelf) == []
    fill(sample, "resnet.scratch", {"1e-3": 0.44, "5e-2": 0.62})
    fill(sample, "resnet.transfer", {"1e-2": 0.93})
    (picture,) = network_curves(read_study(sample.path), shelf)
    plot = shelf.data["curves-networks"]
    assert isinstance(plot, CurvePlot)
    assert picture.alternative.endswith(f"{plot.title}.")
    assert [curve.label for curve in plot.curves][:2] == ["AlexNet from scratch", "ResNet-18 from scratch"]
    assert plot.curves[2].reported is None  # these are not the report's weights
    assert plot.title == f"{plot.curves[2].label} ends highest, 0.930"
    assert "resnet18.pth" in plot.caution


def test_curve_is_mean_lowest_and_highest_run(folder: SampleStudy) -> None:
    config = RunConfig(epochs=5, step_size=2)
    folder = SampleStudy(folder.path, StudySettings(overrides={"epochs": 5, "step_size": 2}))
    folder.start()
    config = folder.settings.apply(FIVE)
    finals = (0.2, 0.3, 0.46)
    folder.add(*(make_result(config, seed, final) for seed, final in enumerate(finals)))
    study = read_study(folder.path)
    curve = row_curve(study, find_row(study, "scratch.lr=5e-2"))
    assert curve.val_accuracy is not None
    assert curve.runs == 3
    assert curve.measured == pytest.approx(0.32)
    assert curve.val_accuracy.mean[-1] == pytest.approx(0.32)
    assert (curve.val_accuracy.low[-1], curve.val_accuracy.high[-1]) == pytest.approx((0.2, 0.46))
    assert curve.val_accuracy.mean.shape == (5,)
    assert curve.lr_steps == (2, 4)
    assert curve.reported is None  # of a study with overrides


def test_losses_that_are_not_finite_are_gaps(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(FIVE, 0), make_diverged(FIVE, 1, epochs=3))
    study = read_study(folder.path)
    curve = row_curve(study, find_row(study, "scratch.lr=5e-2"))
    assert curve.runs == 1
    (run,) = curve.diverged
    assert np.isnan(run.train_loss).tolist() == [False, False, True]
    assert (run.seed, len(run.val_accuracy)) == (1, 3)


def test_runs_of_different_lengths_count_while_they_last(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(FIVE, 0, 0.3), make_result(FIVE, 1, 0.6))
    study = read_study(folder.path)
    is_lost = (study.epochs["seed"] == 0) & (study.epochs["epoch"] > 2)
    curve = row_curve(replace(study, epochs=study.epochs[~is_lost]), find_row(study, "scratch.lr=5e-2"))
    assert curve.val_accuracy is not None
    assert curve.val_accuracy.mean[:4] == pytest.approx([(0.01 + 0.02) / 2, (0.02 + 0.04) / 2, 0.06, 0.08])


def test_single_row_of_a_figure_is_shown_once(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    fill(folder, "scratch.template", {"template": 0.092})
    pictures = pictures_of(folder, "scratch.template", shelf)
    assert names(pictures.shown) == ["figure-05"]
    assert [type(block) for block in pictures.details] == [Table]
    (picture,) = pictures.shown
    assert isinstance(picture, Picture)
    assert (picture.number, picture.keys) == (5, ("scratch.template=template",))


def test_figure_says_what_it_shows_beside_the_quoted_numbers(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    folder.add(*(make_result(FIVE, seed, 0.4 + seed / 10) for seed in range(3)))
    details = pictures_of(folder, "scratch.lr", shelf).details
    picture = next(b for b in details if isinstance(b, Picture) and b.number == 6)
    assert picture.caption.startswith("Figure 6. Loss and validation accuracy with parameters: LR = 5e-2, ")
    assert picture.caption.endswith(
        "Mean of 3 runs (seeds 0, 1 and 2); the band goes from the smallest to the largest value."
    )
    plot = shelf.data["figure-06"]
    assert isinstance(plot, CurvePlot)
    assert plot.title == "Figure 6: ends at 0.500; reported 0.446"
    table = next(b for b in details if isinstance(b, Table))
    cells = [
        [shown(column, value) for column, value in zip(table.columns, row, strict=True)][1:] for row in table.rows
    ]
    assert cells == [["4.62", "4.620"], ["0.09", "0.017"], ["0.71", "0.153"], ["0.446", "0.500"]]
    assert [column.heading for column in table.columns] == ["Figure 6", "reported", "measured, n = 3"]


def test_figure_without_results_names_runs_and_command(folder: SampleStudy, shelf: Shelf) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"epochs": 4}))
    folder.start(root="/the data")
    config = folder.settings.apply(row_config("scratch.step_size", "50"))
    first, second, third = (run_id(config, seed) for seed in (0, 7, 8))
    folder.submit(first, second, seeds=(0, 7, 8))
    folder.fail(first, "OSError: no space")
    (line,) = pictures_of(folder, "scratch.step_size", shelf).details
    assert isinstance(line, Prose)
    assert line.text.startswith(
        f"**Figure 8: no results yet.** It waits for `{first}` (failed), `{second}` (queued) and `{third}` "
        "(not submitted); to get them: "
    )
    assert (
        f"`python jobs/submit.py table=scratch.step_size=50 runs={folder.path} 'data=/the data' epochs=4`"
        in line.text
    )


def test_rows_without_runs_have_no_picture(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    pictures = pictures_of(folder, "transfer.step_size", shelf)
    assert (pictures.shown, pictures.details) == ((), ())
    fill(folder, "scratch.lr", {"1e-2": 0.3, "5e-2": 0.46})
    pictures = pictures_of(folder, "scratch.lr", shelf)
    assert [curve.label for curve in shelf.data["curves-scratch.lr"].curves] == ["1e-2", "5e-2"]  # type: ignore[attr-defined]
    assert "sweep-scratch.lr" not in names(pictures.details)  # a plot of two points


@pytest.mark.parametrize("epochs", [1, 2])
def test_few_epochs_are_no_curve(folder: SampleStudy, shelf: Shelf, epochs: int) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"epochs": epochs}))
    folder.start()
    fill(folder, "scratch.lr", {"1e-2": 0.3, "5e-2": 0.46, "6e-2": 0.4})
    pictures = pictures_of(folder, "scratch.lr", shelf)
    assert not pictures.shown
    assert names(pictures.details) == ["sweep-scratch.lr"]
    assert isinstance(pictures.details[-1], Prose)
    assert pictures.details[-1].text.startswith("Figure 6: no curve")


def test_diverged_runs_are_named_with_their_epochs(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    folder.add(make_result(FIVE, 0, 0.4), make_diverged(FIVE, 1, epochs=4), make_diverged(FIVE, 2, epochs=5))
    details = pictures_of(folder, "scratch.lr", shelf).details
    picture = next(b for b in details if isinstance(b, Picture))
    assert "One run (seed 0). Diverged, and drawn until they stop: seed 1 in epoch 4 and seed 2 in epoch 5." in (
        picture.caption
    )
    plot = shelf.data["figure-06"]
    assert isinstance(plot, CurvePlot)
    assert plot.title == "Figure 6: ends at 0.400; reported 0.446; 2 of 3 runs diverged"


def test_row_that_diverges_everywhere_is_a_picture(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    config = row_config("transfer.diverging", "LR = 5e-2")
    folder.add(*(make_diverged(config, seed, epochs=4) for seed in range(3)))
    assert names(pictures_of(folder, "transfer.diverging", shelf).shown) == ["curves-transfer.diverging"]
    assert shelf.data["curves-transfer.diverging"].title == "All 3 runs diverge"  # type: ignore[attr-defined]


def test_sweep_shows_runs_means_and_reported_values(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    fill(folder, "scratch.lr", LR)
    config = row_config("scratch.lr", "1e-1")
    folder.add(make_diverged(config, 3))
    pictures = pictures_of(folder, "scratch.lr", shelf)
    plot = shelf.data["sweep-scratch.lr"]
    assert isinstance(plot, RowPlot)
    five = plot.rows[2]
    assert five.accuracies == pytest.approx((0.458, 0.46, 0.462))
    assert five.mean == pytest.approx(0.46)
    assert (five.reported, five.reported_std) == (0.446, 0.016)
    assert five.half_width == pytest.approx(4.3027 * 0.002 / 3**0.5, rel=1e-3)
    assert [row.diverged for row in plot.rows] == [0, 0, 0, 0, 1]
    assert plot.title == "5e-2 is best, as reported"
    picture = next(b for b in pictures.details if isinstance(b, Picture))
    assert picture.caption == "Changing learning rate: validation accuracy after the last epoch."


def test_titles_do_not_contradict_the_sentence_under_the_table(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    values = {"20": 0.857, "30": 0.8574, "40": 0.8571, "50": 0.858}
    for label, value in values.items():
        config = row_config("transfer.step_size", label)
        folder.add(*(make_result(config, seed, value + 0.003 * (seed - 1)) for seed in range(3)))
        folder.add(make_result(config, 3, 0.8575))
    pictures_of(folder, "transfer.step_size", shelf)
    titles = {data.title for data in shelf.data.values()}  # type: ignore[attr-defined]
    assert titles == {"No step size stands out (0.857 to 0.858), as reported"}


def test_simulated_numbers_say_so_in_every_picture(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start(simulated=True)
    fill(folder, "scratch.lr", LR)
    pictures_of(folder, "scratch.lr", shelf)
    assert len(shelf.data) == 3
    assert all(data.caution.startswith("Simulated") for data in shelf.data.values())  # type: ignore[attr-defined]
    assert "Simulated" in (shelf.folder / "figure-06.svg").read_text()


def own_study(path: Path, table: str) -> SampleStudy:
    """The study of a study file whose only table is `a.b`."""
    file = StudyFile(name="mine", text=f"sections: {{a: {{tables: {{b: {table}}}}}}}")
    StudyFolder(path).write_study(
        Study(settings=StudySettings(), file=file, data=DATA, created="2026-01-01T12:00:00Z", code=CODE)
    )
    return SampleStudy(path)


def results(sample: SampleStudy, *finals: float) -> list[Result]:
    """One run for each row of a study file's table, in its order."""
    rows = read_study(sample.path).catalog.tables[0][1].rows
    return [make_result(row.config, 0, final) for row, final in zip(rows, finals, strict=False)]


def test_two_settings_together_make_a_heat_map(tmp_path: Path, shelf: Shelf) -> None:
    sample = own_study(tmp_path / "runs", "{sweep: {lr: [1.0e-3, 1.0e-2], batch_size: [64, 128]}}")
    sample.add(*results(sample, 0.1, 0.2, 0.45, 0.4))
    pictures = pictures_of(sample, "a.b", shelf)
    assert names(pictures.shown) == ["map-a.b"]
    assert names(pictures.details)[:2] == ["curves-a.b", "sweep-a.b"]
    plot = shelf.data["map-a.b"]
    assert isinstance(plot, HeatMap)
    assert plot.means.tolist() == [[0.1, 0.2], [0.45, 0.4]]
    assert (len(plot.x_labels), len(plot.y_labels)) == (2, 2)
    assert plot.title.startswith("Best: ")


def test_of_many_rows_the_best_and_the_worst_are_drawn(tmp_path: Path, shelf: Shelf) -> None:
    rates = ", ".join(f"{number}.0e-3" for number in range(1, 13))
    sample = own_study(tmp_path / "runs", f"{{sweep: {{lr: [{rates}]}}}}")
    sample.add(*results(sample, *(0.1 + number / 50 for number in range(12))))
    pictures = pictures_of(sample, "a.b", shelf)
    plot = shelf.data["curves-a.b"]
    assert isinstance(plot, CurvePlot)
    assert [curve.measured for curve in plot.curves] == pytest.approx([0.1, 0.12, 0.26, 0.28, 0.3, 0.32])
    (picture,) = pictures.shown
    assert isinstance(picture, Picture)
    assert picture.caption.endswith("Of 12 rows the 4 best and the 2 worst.")


def test_too_many_rows_have_no_sweep_and_a_line_says_so(tmp_path: Path, shelf: Shelf) -> None:
    rates = ", ".join(f"{number}.0e-4" for number in range(1, 66))
    sample = own_study(tmp_path / "runs", f"{{sweep: {{lr: [{rates}]}}}}")
    sample.add(*results(sample, *[0.3] * 65))
    lines = [block.text for block in pictures_of(sample, "a.b", shelf).details if isinstance(block, Prose)]
    assert lines == ["There is no plot of 65 rows side by side; up to 60 are drawn."]


def test_row_point_of_a_diverged_row_has_no_difference(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(FIVE, 0, 0.4), make_diverged(FIVE, 1))
    study = read_study(folder.path)
    point = row_point(find_row(study, "scratch.lr=5e-2"), "learning rate 5e-2")
    assert (point.label, point.group) == ("learning rate 5e-2", "1. Training from scratch")
    assert (point.difference, point.verdict, point.diverged) == (None, "differs", 1)


def test_quoted_numbers_keep_their_digits() -> None:
    assert [as_quoted(value) for value in (0.09, 0.446, 0.5, 4.62)] == ["0.09", "0.446", "0.50", "4.62"]


def test_every_figure_of_the_report_is_drawn_once_its_row_has_a_run(folder: SampleStudy, shelf: Shelf) -> None:
    folder.start()
    for section, table in THE_REPORT.tables:
        for figure in table.figures:
            folder.add(make_result(row_config(f"{section.name}.{table.name}", figure.row), 0, 0.5))
    study = read_study(folder.path)
    numbers = []
    for section, table in study.catalog.tables:
        pictures = table_pictures(study, section, table, shelf)
        numbers += [b.number for b in (*pictures.shown, *pictures.details) if isinstance(b, Picture) and b.number]
    assert sorted(numbers) == [5, 6, 7, 8, *range(10, 21)]
