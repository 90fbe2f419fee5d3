"""Last or best epoch, validation or test set, population or sample: each row by each reading."""

import pytest

from caltech_exp.reporting.page import report_grids
from caltech_exp.reporting.readings import readings, readings_blocks, readings_grid, readings_sentence
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config


def add(folder: SampleStudy, table: str, label: str, *values: float, best: float) -> None:
    config = row_config(table, label)
    folder.add(*(make_result(config, seed, value, best_val_accuracy=best) for seed, value in enumerate(values)))


def test_a_row_that_only_its_best_epoch_explains(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-2", 0.254, 0.256, best=0.298)
    (one,) = readings(folder.collect())
    assert (one.name, one.n, one.reported) == ("scratch.lr=1e-2", 2, 0.298)
    assert one.last is not None
    assert one.last.value == pytest.approx(-0.043)
    assert one.best is not None
    assert one.best.value == pytest.approx(0, abs=1e-9)
    assert one.test is not None
    assert one.test.value == pytest.approx(-0.053)
    grid = readings_grid([one])
    assert dict(zip((column.heading for column in grid.columns), grid.rows[0], strict=True))["agrees"] == "best"
    assert readings_sentence([one]) == (
        "Held against the report, of 1 row 0 agree after the last epoch (0 agree if its deviations are a "
        "sample's), 1 agrees by the best epoch, 0 agree on the test set."
    )


def test_the_sample_reading_narrows_the_interval(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "5e-2", 0.45, best=0.46)
    (one,) = readings(folder.collect())
    assert one.last is not None
    assert one.sample is not None
    assert one.sample.value == one.last.value
    assert one.sample.half < one.last.half


def test_rows_without_a_reported_value_are_left_out_and_no_row_stands_twice(folder: SampleStudy) -> None:
    add(folder, "scratch.template", "template", 0.09, best=0.10)
    add(folder, "scratch.epochs", "30", 0.44, best=0.45)
    # The template's run is the 1e-3 row's, and that row has a value.
    assert [one.name for one in readings(folder.collect())] == ["scratch.lr=1e-3", "scratch.lr=5e-2"]


def test_nothing_measured_is_nothing_to_read(folder: SampleStudy) -> None:
    collected = folder.collect()
    assert readings_blocks(readings(collected)) == []
    grids = report_grids(collected, (), readings(collected))
    assert next(grid for grid in grids if grid.name == "readings").rows == ()


def test_a_row_of_which_a_run_diverged_agrees_by_no_reading(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-3", 0.092, best=0.092)
    folder.add(make_diverged(row_config("scratch.lr", "1e-3"), 1))
    (found,) = readings(folder.collect())
    assert (found.n, readings_grid([found]).rows[0][-1]) == (1, "no, diverged")
    assert readings_sentence([found]).startswith(
        "Held against the report, of 1 row 0 agree whatever its values are"
    )


def test_a_row_whose_runs_all_diverged_agrees_by_no_reading(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-3", 0.092, best=0.092)
    folder.add(make_diverged(row_config("scratch.lr", "1e-2"), 0))
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))  # which the report says
    found = readings(folder.collect())
    assert [(one.name, one.n, one.last is None) for one in found] == [
        ("scratch.lr=1e-3", 1, False),
        ("scratch.lr=1e-2", 0, True),
    ]
    assert readings_grid(found).rows[1][-1] == "no, diverged"
    assert readings_sentence(found).startswith(
        "Held against the report, of 2 rows 1 agrees after the last epoch (1 "
    )


def test_a_row_that_no_reading_can_tell_of(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "5e-2", 0.30, 0.46, best=0.45)
    (found,) = readings(folder.collect())
    assert readings_grid([found]).rows[0][-1] == "best; cannot tell: last, test"  # the best was the same twice
    add(folder, "scratch.lr", "1e-1", 0.312, best=0.32)
    found = next(one for one in readings(folder.collect()) if one.name == "scratch.lr=1e-1")
    assert readings_grid([found]).rows[0][-1] == "cannot tell"
    assert readings_sentence([found]) == (
        "Held against the report, of 1 row 0 agree and 1 cannot tell whatever its values are: of the last epoch "
        "or the best one, of validation or test set, with deviations of the population or a sample."
    )
