"""The conclusions as pairs of rows, agreement over all tables, and what the runs cost."""

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.results import Device
from caltech_exp.study import StudySettings
from reports.agreement import agreement_grid, agreement_sentence
from reports.blocks import row_key
from reports.conclusions import FIXED, comparison_grid, network_grid
from reports.costs import cost_grids
from reports.grid import Grid, Value
from reports.scatter_data import scatter_points
from tests.reports.conftest import Page, StudyFolder, make_diverged, make_result, row_config


def line(grid: Grid, first: str, second: str | None = None) -> dict[str, Value]:
    """The row whose first cells are these, by heading."""
    headings = [column.heading for column in grid.columns]
    row = next(row for row in grid.rows if row[0] == first and second in (None, row[1]))
    return dict(zip(headings, row, strict=True))


def add(folder: StudyFolder, table: str, label: str, *values: float) -> None:
    config = folder.settings.apply(row_config(table, label))
    folder.add(*(make_result(config, seed, value) for seed, value in enumerate(values)))


def test_every_comparison_names_rows_of_the_catalog() -> None:
    keys = {row_key(s.name, t.name, row.label) for s in THE_REPORT.sections for t in s.tables for row in t.rows}
    assert {key for one in FIXED for key in (one.first, one.second)} <= keys


def test_a_comparison_beyond_the_spread(folder: StudyFolder) -> None:
    add(folder, "transfer.batch_size", "256", 0.857, 0.858, 0.859)
    add(folder, "transfer.batch_size", "64", 0.830, 0.831, 0.832)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert found["difference"] == pytest.approx(-0.027)
    assert found["reported difference"] == pytest.approx(0.831 - 0.858)
    assert found["95 % CI"] == pytest.approx(2.776445 * (2 * 0.001**2 / 3) ** 0.5)
    assert found["verdict"] == "worse, beyond the spread"


def test_a_difference_within_the_spread_is_no_verdict(folder: StudyFolder) -> None:
    add(folder, "transfer.batch_size", "256", 0.80, 0.85, 0.90)
    add(folder, "transfer.batch_size", "64", 0.79, 0.84, 0.89)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert found["verdict"] == "within the spread"


def test_what_cannot_be_compared_says_so(folder: StudyFolder, page: Page) -> None:
    grid = comparison_grid(folder.collect())
    assert {line(grid, one.question)["verdict"] for one in FIXED} == {"not measured"}
    assert "No pair of rows has finished runs yet." in page(folder)
    add(folder, "transfer.batch_size", "256", 0.85)
    add(folder, "transfer.batch_size", "64", 0.83)
    grid = comparison_grid(folder.collect())
    assert line(grid, "A batch of 64 for one of 256")["verdict"] == "worse, no spread known"


def test_rows_that_overrides_make_one_run_are_no_comparison(folder: StudyFolder) -> None:
    folder = StudyFolder(folder.path, StudySettings(overrides={"batch_size": 8}))
    folder.start()
    add(folder, "transfer.batch_size", "64", 0.83, 0.84)
    found = line(comparison_grid(folder.collect()), "A batch of 64 for one of 256")
    assert found["verdict"] == "one and the same run here"


def test_networks_with_parameters_and_cost(folder: StudyFolder) -> None:
    add(folder, "resnet.transfer", "5e-2", 0.93, 0.94)
    found = line(network_grid(folder.collect()), "ResNet-18 pretrained")
    assert (found["parameters"], found["minutes per run"]) == (11_228_838, 30)


def test_agreement_over_a_table(folder: StudyFolder) -> None:
    add(folder, "scratch.lr", "1e-2", 0.298, 0.308)
    add(folder, "scratch.lr", "6e-2", 0.45)
    folder.add(make_diverged(row_config("scratch.lr", "1e-1"), 0))
    found = line(agreement_grid(folder.collect()), "scratch.lr")
    assert (found["rows"], found["of"], found["agree"], found["at row"]) == (2, 5, 2, "6e-2")
    assert found["largest difference"] == pytest.approx(0.106)
    assert (found["pairs alike"], found["of pairs"], found["Kendall's tau-b"]) == (1, 1, 1.0)
    assert found["test - validation"] == pytest.approx(-0.01)


def test_a_run_of_two_tables_counts_once_in_all(folder: StudyFolder) -> None:
    add(folder, "scratch.epochs", "30", 0.44)
    grid = agreement_grid(folder.collect())
    assert [row[:2] for row in grid.rows] == [("scratch.lr", 1), ("scratch.epochs", 1), ("all", 1)]
    assert line(grid, "all")["at row"] == "scratch.lr=5e-2"
    assert agreement_sentence(scatter_points(folder.collect())).startswith("Of 1 row with a measured")


def test_cost_by_row_by_table_and_in_all(folder: StudyFolder) -> None:
    config = row_config("scratch.epochs", "30")
    folder.add(make_result(config, 0, energy_joules=3.6e6), make_diverged(config, 1, wall_seconds=3600.0))
    folder.add(make_result(row_config("scratch.lr", "1e-2"), 0, device=Device(type="cpu", name="EPYC")))
    by_table, by_row = cost_grids(folder.collect())
    row = line(by_row, "scratch.lr", "5e-2")
    assert (row["runs"], row["hours"], row["energy, kWh"], row["runs with energy"]) == (2, 1.5, 1.0, 1)
    assert line(by_table, "scratch.lr")["device"] == "EPYC (CPU) and H200 (GPU)"
    assert (line(by_table, "scratch.epochs")["hours"], line(by_table, "all")["hours"]) == (1.5, 2.0)
    assert line(by_table, "resnet.scratch")["hours"] is None
