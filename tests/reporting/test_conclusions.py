"""The conclusions as pairs of rows, agreement over all tables, and what the runs cost."""

from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT, row_key
from caltech_exp.config import RunConfig
from caltech_exp.reporting.agreement import agreement_blocks, agreement_grid, agreement_sentence, chance_sentence
from caltech_exp.reporting.conclusions import FIXED, comparison_grid, network_grid
from caltech_exp.reporting.costs import cost_grids
from caltech_exp.reporting.difference_data import difference_rows
from caltech_exp.reporting.grid import Grid, Value
from caltech_exp.reporting.page import open_gallery
from caltech_exp.reporting.scatter_data import ScatterPoint, scatter_points
from caltech_exp.reporting.verdicts import verdicts
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Device
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, Page, SampleStudy, make_diverged, make_result, row_config


def line(grid: Grid, first: str, second: str | None = None) -> dict[str, Value]:
    """The row whose first cells are these, by heading."""
    headings = [column.heading for column in grid.columns]
    row = next(row for row in grid.rows if row[0] == first and second in (None, row[1]))
    return dict(zip(headings, row, strict=True))


def add(folder: SampleStudy, table: str, label: str, *values: float) -> None:
    config = folder.settings.apply(row_config(table, label))
    folder.add(*(make_result(config, seed, value) for seed, value in enumerate(values)))


def test_every_comparison_names_rows_of_the_catalog() -> None:
    keys = {row_key(s.name, t.name, row.label) for s in THE_REPORT.sections for t in s.tables for row in t.rows}
    assert {key for one in FIXED for key in (one.first, one.second)} <= keys


def test_a_comparison_beyond_the_spread(folder: SampleStudy) -> None:
    add(folder, "transfer.batch_size", "256", 0.857, 0.858, 0.859)
    add(folder, "transfer.batch_size", "64", 0.830, 0.831, 0.832)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert found["difference"] == pytest.approx(-0.027)
    assert found["reported difference"] == pytest.approx(0.831 - 0.858)
    assert found["95 % CI"] == pytest.approx(2.776445 * (2 * 0.001**2 / 3) ** 0.5)
    assert found["verdict"] == "worse, beyond the spread"


def test_a_difference_within_the_spread_is_no_verdict(folder: SampleStudy) -> None:
    add(folder, "transfer.batch_size", "256", 0.80, 0.85, 0.90)
    add(folder, "transfer.batch_size", "64", 0.79, 0.84, 0.89)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert found["verdict"] == "within the spread"


def test_what_cannot_be_compared_says_so(folder: SampleStudy, page: Page) -> None:
    grid = comparison_grid(folder.collect())
    assert {line(grid, one.question)["verdict"] for one in FIXED} == {"not measured"}
    assert "No pair of rows has runs that ended yet." in page(folder)
    add(folder, "transfer.batch_size", "256", 0.85)
    add(folder, "transfer.batch_size", "64", 0.83)
    grid = comparison_grid(folder.collect())
    assert line(grid, "A batch of 64 for one of 256")["verdict"] == "worse, no spread known"


def test_a_row_that_diverged_is_not_one_that_was_not_measured(folder: SampleStudy, page: Page) -> None:
    folder.start()
    add(folder, "transfer.batch_size", "256", 0.857, 0.858, 0.859)
    folder.add(*(make_diverged(row_config("transfer.batch_size", "64"), seed) for seed in range(2)))
    question = "A batch of 64 for one of 256"
    assert line(comparison_grid(folder.collect()), question)["verdict"] == "second diverged (2 of 2)"
    assert "second diverged (2 of 2)" in page(folder)
    folder.add(make_result(row_config("transfer.batch_size", "64"), 2, 0.83))
    partly = line(comparison_grid(folder.collect()), question)["verdict"]
    assert partly == "worse, no spread known; second diverged (2 of 3)"


def test_rows_that_overrides_make_one_run_are_no_comparison(folder: SampleStudy) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"batch_size": 8}))
    folder.start()
    add(folder, "transfer.batch_size", "64", 0.83, 0.84)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert found["verdict"] == "one and the same run here"


def test_runs_that_are_all_alike_are_no_spread_to_judge_by(folder: SampleStudy) -> None:
    add(folder, "transfer.batch_size", "256", 0.85, 0.85)
    add(folder, "transfer.batch_size", "64", 0.8503, 0.8503)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert (found["verdict"], found["95 % CI"]) == ("better, no spread to judge by", None)


def test_networks_with_parameters_and_cost(folder: SampleStudy) -> None:
    add(folder, "resnet.transfer", "5e-2", 0.93, 0.94)
    found = line(network_grid(folder.collect()), "ResNet-18 pretrained")
    assert (found["parameters"], found["minutes per run"]) == (11_228_838, 30)


def test_agreement_over_a_table(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-2", 0.298, 0.308)
    add(folder, "scratch.lr", "6e-2", 0.45)
    folder.add(make_diverged(row_config("scratch.lr", "1e-1"), 0))
    found = line(agreement_grid(folder.collect()), "scratch.lr")
    assert (found["rows"], found["of"], found["agree"], found["at row"]) == (3, 5, 1, "6e-2")  # 1e-1 diverged
    assert found["cannot tell"] == 1  # one run beside 0.344 ± 0.058
    assert found["largest difference"] == pytest.approx(0.106)
    assert (found["pairs alike"], found["of pairs"], found["Kendall's tau-b"]) == (1, 1, 1.0)
    assert found["test - validation"] == pytest.approx(-0.01)


def test_the_median_is_between_the_middle_two() -> None:
    points = [ScatterPoint("1. a", 0.5 + gap, None, 0.5, 0.0) for gap in (0.01, 0.03, -0.07, 0.2)]
    assert "the median difference is 0.050, the largest 0.200." in agreement_sentence(points)


def test_a_diverged_row_agrees_only_where_the_reports_diverges(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))
    grid = agreement_grid(folder.collect())
    assert line(grid, "transfer.diverging") | {"test - validation": None} == {
        **dict.fromkeys(column.heading for column in grid.columns),
        **{"table": "transfer.diverging", "rows": 1, "of": 1, "agree": 1, "cannot tell": 0},
    }
    folder.add(make_diverged(row_config("scratch.lr", "1e-2"), 0))
    assert [line(agreement_grid(folder.collect()), "all")[name] for name in ("rows", "agree")] == [2, 1]
    text = page(folder)
    assert "1 of 2 rows agrees with the report." in text
    assert "Not so where runs diverged and the report's did not: 1." in text


def test_a_row_whose_runs_diverged_in_part_does_not_agree(folder: SampleStudy, page: Page) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", 0.298)
    assert line(agreement_grid(folder.collect()), "all")["agree"] == 1
    folder.add(*(make_diverged(row_config("scratch.lr", "1e-2"), seed) for seed in (1, 2)))
    assert line(agreement_grid(folder.collect()), "all")["agree"] == 0
    text = page(folder)
    assert "1e-2 differs from the report (2 of 3 runs diverged; in the report none does)." in text
    assert "0.298 (one run, 2 diverged)" in text
    (row,) = difference_rows(folder.collect())
    assert (row.value, row.half) == (None, None)  # they would be the lucky one's
    assert scatter_points(folder.collect()) == []
    assert (row.key, row.finding, row.runs, row.diverged) == ("scratch.lr=1e-2", "differs", 1, 2)


def test_differences_are_those_that_decide(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "5e-2", 0.44, 0.45)
    add(folder, "scratch.lr", "1e-2", 0.35)
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))  # there is no difference to draw
    near, far = sorted(difference_rows(folder.collect()), key=lambda row: row.finding)
    assert (near.key, near.finding) == ("scratch.lr=5e-2", "agrees")
    assert near.value == pytest.approx(-0.001)
    assert near.half is not None
    assert near.half > 0.001
    assert (far.key, far.finding) == ("scratch.lr=1e-2", "differs")
    assert far.value == pytest.approx(0.052)


def test_a_configuration_with_two_reported_values_counts_with_the_first(folder: SampleStudy) -> None:
    assert row_config("transfer.step_size", "30") == row_config("transfer.batch_size", "256")
    add(folder, "transfer.step_size", "30", 0.859)
    grid = agreement_grid(folder.collect())
    gaps = [line(grid, name)["mean difference"] for name in ("transfer.step_size", "transfer.batch_size", "all")]
    assert gaps == pytest.approx([0.0, 0.001, 0.0])
    (point,) = scatter_points(folder.collect())
    assert point.reported == 0.859


def test_another_reported_deviation_draws_the_plot_anew(tmp_path: Path) -> None:
    shows = []
    for std in ("0.01", "0.02"):
        text = f"sections: {{a: {{tables: {{b: {{rows: {{x: {{reported: 0.5 ± {std}}}}}}}}}}}}}"
        folder, file = SampleStudy(tmp_path / std), StudyFile(name="mine", text=text)
        StudyFolder(folder.path).write_study(
            Study(settings=StudySettings(), file=file, data=DATA, created="2026-01-01", code=CODE)
        )
        folder.add(make_result(RunConfig(), 0, 0.5))
        gallery = open_gallery(tmp_path)
        gallery.folder.mkdir(exist_ok=True)
        agreement_blocks(folder.collect(), gallery)
        shows.append(gallery.shown["plot-agreement"].shows)
    assert shows[0] != shows[1]


def test_chance_and_single_runs_are_told(folder: SampleStudy) -> None:
    for label, value in {"1e-3": 0.092, "1e-2": 0.298, "6e-2": 0.35}.items():
        add(folder, "scratch.lr", label, value)
    add(folder, "scratch.lr", "5e-2", 0.44, 0.45)
    assert chance_sentence(verdicts(folder.collect().all_rows())) == (
        "3 of 4 rows agree with the report. 1 cannot tell: its interval holds zero, and is ±0.1 or wider. "
        "Even where the report holds, up to about one row in twenty differs by "
        "chance at 95 %, here 0.2 of 4. 3 rows have one finished run (n = 1): their intervals rest on the "
        "report's deviation alone."
    )


def test_a_run_of_two_tables_counts_once_in_all(folder: SampleStudy) -> None:
    add(folder, "scratch.epochs", "30", 0.44)
    grid = agreement_grid(folder.collect())
    assert [row[:2] for row in grid.rows] == [("scratch.lr", 1), ("scratch.epochs", 1), ("all", 1)]
    assert line(grid, "all")["at row"] == "scratch.lr=5e-2"
    assert agreement_sentence(scatter_points(folder.collect())).startswith("Of 1 row with a measured")


def test_cost_by_row_by_table_and_in_all(folder: SampleStudy) -> None:
    config = row_config("scratch.epochs", "30")
    folder.add(make_result(config, 0, energy_joules=3.6e6), make_diverged(config, 1, wall_seconds=3600.0))
    folder.add(make_result(row_config("scratch.lr", "1e-2"), 0, device=Device(type="cpu", name="EPYC")))
    by_table, by_row = cost_grids(folder.collect())
    row = line(by_row, "scratch.lr", "5e-2")
    assert (row["runs"], row["hours"], row["energy, kWh"], row["runs with energy"]) == (2, 1.5, 1.0, 1)
    assert line(by_table, "scratch.lr")["device"] == "EPYC (CPU) and H200 (GPU)"
    assert (line(by_table, "scratch.epochs")["hours"], line(by_table, "all")["hours"]) == (1.5, 2.0)
    assert line(by_table, "resnet.scratch")["hours"] is None
