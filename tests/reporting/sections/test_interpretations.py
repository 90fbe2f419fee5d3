"""Last or best epoch, validation or test set, population or sample: each row under each interpretation."""

import pandas as pd
import pytest

from caltech_exp.reporting.comparison import all_rows
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import Interval, Prose, Table
from caltech_exp.reporting.sections.interpretations import (
    DIVERGED,
    agreement_sentence,
    interpret_rows,
    interpretation_blocks,
    interpretation_table,
)
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config


def add(folder: SampleStudy, table: str, label: str, *values: float, best: float) -> None:
    config = folder.settings.apply(row_config(table, label))
    folder.add(*(make_result(config, seed, value, best_val_accuracy=best) for seed, value in enumerate(values)))


def verdicts(folder: SampleStudy) -> pd.DataFrame:
    folder.start()
    return interpret_rows(all_rows(read_study(folder.path)))


def agreeing(table: Table) -> dict[str, object]:
    return {str(row[0]): row[-1] for row in table.rows}


def test_row_may_agree_by_its_best_epoch_alone(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-2", 0.254, 0.255, 0.256, best=0.298)
    rows = verdicts(folder)
    (line,) = interpretation_table(rows).rows
    assert (line[0], line[1], line[-2], line[-1]) == ("scratch.lr=1e-2", 0.298, 3, "best epoch")
    last, best, test, sample = line[2:6]
    assert isinstance(last, Interval)
    assert isinstance(sample, Interval)
    assert isinstance(best, Interval)
    assert isinstance(test, Interval)
    assert (last.value, best.value, test.value) == pytest.approx((-0.043, 0, -0.053))
    assert agreement_sentence(rows) == (
        "Rows that agree (of 1): last epoch 0, best epoch 1, test set 0, sample deviation 0."
    )


def test_sample_deviation_narrows_the_interval(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "5e-2", 0.44, 0.45, 0.46, best=0.46)
    rows = verdicts(folder).set_index("interpretation").loc[["last epoch", "sample deviation"]]
    assert rows["value"].nunique() == 1
    assert rows["half_width"].is_monotonic_decreasing


def test_rows_without_a_reported_value_are_left_out_and_none_stands_twice(folder: SampleStudy) -> None:
    add(folder, "scratch.template", "template", 0.09, best=0.10)
    add(folder, "scratch.epochs", "30", 0.44, best=0.45)
    # The template's run is the 1e-3 row's, and that row has a value.
    assert list(verdicts(folder)["key"].unique()) == ["scratch.lr=1e-3", "scratch.lr=5e-2"]


def test_nothing_is_said_without_a_result_or_a_comparable_value(folder: SampleStudy) -> None:
    folder.start()
    assert interpretation_blocks(read_study(folder.path)) == []
    overridden = SampleStudy(folder.path, StudySettings(overrides={"epochs": 2}))
    overridden.start()
    add(overridden, "scratch.lr", "5e-2", 0.44, 0.45, 0.46, best=0.46)
    assert interpretation_blocks(read_study(folder.path)) == []


def test_diverged_rows_agree_under_no_interpretation(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-3", 0.092, 0.092, 0.092, best=0.092)
    folder.add(make_diverged(row_config("scratch.lr", "1e-3"), 3))  # one of four
    folder.add(make_diverged(row_config("scratch.lr", "1e-2"), 0))  # all there are
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))  # which the report says
    rows = verdicts(folder)
    assert agreeing(interpretation_table(rows)) == {
        "scratch.lr=1e-3": "none, diverged",
        "scratch.lr=1e-2": "none, diverged",
    }
    assert interpretation_table(rows).rows[1][2:6] == (None,) * 4
    assert agreement_sentence(rows) == "0 of 2 rows agree under each interpretation."
    note = interpretation_blocks(read_study(folder.path))[-1]
    assert isinstance(note, Prose)
    assert note.text.endswith(DIVERGED)


def test_rows_are_inconclusive_with_few_runs_or_a_wide_interval(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-2", 0.298, 0.298, best=0.298)  # two runs
    assert agreeing(interpretation_table(verdicts(folder))) == {"scratch.lr=1e-2": "inconclusive"}
    add(folder, "scratch.lr", "5e-2", 0.30, 0.46, 0.50, best=0.45)  # the best was the same three times
    rows = verdicts(folder)
    assert agreeing(interpretation_table(rows))["scratch.lr=5e-2"] == (
        "best epoch; inconclusive: last epoch, test set, sample deviation"
    )
    assert agreement_sentence(rows) == (
        "Rows that agree (of 2): last epoch 0, best epoch 1, test set 0, sample deviation 0. "
        "Inconclusive: last epoch 2, best epoch 1, test set 2, sample deviation 2."
    )


def test_sentence_is_short_where_all_interpretations_say_the_same(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-3", 0.092, 0.092, 0.092, best=0.092)
    folder.add(
        *(make_result(row_config("scratch.lr", "1e-3"), seed, 0.092, test_accuracy=0.092) for seed in range(3))
    )
    assert agreement_sentence(verdicts(folder)) == "1 of 1 row agrees under each interpretation."
    add(folder, "scratch.lr", "1e-2", 0.298, best=0.298)
    rows = verdicts(folder)
    assert agreement_sentence(rows) == "1 of 2 rows agrees under each interpretation; 1 is inconclusive each time."
    assert agreeing(interpretation_table(rows))["scratch.lr=1e-3"] == "all"
