"""The sentence under a table says what its numbers carry, and no more."""

from collections.abc import Sequence
from pathlib import Path

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig
from caltech_exp.reporting.sentences import table_sentence
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Result
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, SampleStudy, make_diverged, make_result, row_config

LR = "scratch.lr"


def sentence(folder: SampleStudy, table: str = LR) -> str:
    ((section, asked),) = THE_REPORT.select(tables=[table])
    return table_sentence(asked, folder.collect().of(section, asked))


def add(folder: SampleStudy, label: str, values: Sequence[float], table: str = LR) -> None:
    config = folder.settings.apply(row_config(table, label))
    folder.add(*(make_result(config, seed, value) for seed, value in enumerate(values)))


def test_a_lead_beyond_the_spread_and_the_reported_order(folder: SampleStudy) -> None:
    add(folder, "1e-2", (0.29, 0.30, 0.31))
    add(folder, "5e-2", (0.44, 0.45, 0.46))
    text = sentence(folder)
    assert text.startswith("5e-2 is best with 0.450 (±0.025, n = 3), ahead of 1e-2 by 0.150, which is more than")
    assert "The measured order is the reported one: 1 of 1 pairs of rows stand alike" in text
    assert "Without a result: 1e-3, 6e-2 and 1e-1." in text


def test_the_best_row_is_held_against_those_behind_the_next_too(folder: SampleStudy) -> None:
    add(folder, "5e-2", (0.45, 0.451, 0.452))
    add(folder, "6e-2", (0.43, 0.431, 0.432))  # close behind, for certain
    add(folder, "1e-1", (0.10, 0.40, 0.70))  # far behind, and may be anywhere
    add(folder, "1e-2", (0.30, 0.301, 0.302))
    text = sentence(folder)
    assert (
        "ahead of 6e-2 by 0.020, which is more than the spread (±0.002); within the spread of it is 1e-1 (0.051"
        in text
    )
    assert " is 1e-1 (0.051 ±0.745)." in text
    add(folder, "6e-2", (0.40, 0.45, 0.48))
    assert "which is within the spread (±0.100); within the spread of it is also 1e-1 (" in sentence(folder)


def test_which_rows_agree_with_the_report(folder: SampleStudy) -> None:
    add(folder, "5e-2", (0.44, 0.45, 0.46))
    assert " 5e-2 agrees with the report." in sentence(folder)
    add(folder, "1e-3", (0.092, 0.092))
    assert " Both rows with a result here and in the report agree." in sentence(folder)
    add(folder, "1e-2", (0.35,))
    assert " Agree with the report: 1e-3 and 5e-2. Differs from it: 1e-2 (by +0.052 ±0.016, n = 1)." in sentence(
        folder
    )
    add(folder, "1e-2", (0.299,))
    assert " All 3 rows with a result here and in the report agree." in sentence(folder)


def test_rows_whose_intervals_are_too_wide_to_tell_are_named(folder: SampleStudy) -> None:
    add(folder, "5e-2", (0.325, 0.454))
    assert " The interval is too wide to tell whether 5e-2 agrees with the report (±0.731)." in sentence(folder)
    add(folder, "6e-2", (0.448,))
    assert " Intervals too wide to tell: 5e-2 (±0.731) and 6e-2 (±0.356, n = 1)." in sentence(folder)
    add(folder, "1e-2", (0.298,))
    assert " Agrees with the report: 1e-2. Intervals too wide to tell: 5e-2" in sentence(folder)
    add(folder, "1e-3", (0.3,))
    assert "1e-2. Differs from it: 1e-3 (by +0.208 ±0.004, n = 1). Intervals too" in sentence(folder)


def test_rows_that_differ_are_named_with_what_they_differ_from(folder: SampleStudy) -> None:
    add(folder, "1e-2", (0.35,))
    assert " 1e-2 differs from the report (by +0.052 ±0.016, n = 1)." in sentence(folder)
    add(folder, "1e-3", (0.30,))
    assert " Differ from the report: 1e-3 (by +0.208 ±0.004, n = 1) and 1e-2 (by" in sentence(folder)


def test_a_row_that_diverges_here_does_not_agree(folder: SampleStudy) -> None:
    folder.add(make_diverged(row_config(LR, "1e-2"), 0))
    text = sentence(folder)
    assert text.startswith("No row has a finished run yet. 1e-2 differs from the report (diverged).")
    add(folder, "5e-2", (0.44, 0.45, 0.46))
    assert " Agrees with the report: 5e-2. Differs from it: 1e-2 (diverged)." in sentence(folder)


def own_sentence(text: str, *results: Result, path: Path) -> str:
    """The sentence on the only table of a study file."""
    file = StudyFile(name="mine", text=f"sections: {{a: {{tables: {{b: {text}}}}}}}")
    StudyFolder(path).write_study(
        Study(settings=StudySettings(), file=file, data=DATA, created="2026-01-01", code=CODE)
    )
    SampleStudy(path).add(*results)
    collected = SampleStudy(path).collect()
    ((section, asked),) = collected.catalog.tables
    return table_sentence(asked, collected.of(section, asked))


def test_a_best_row_without_a_reported_value_is_not_said_to_agree(folder: SampleStudy) -> None:
    text = own_sentence(
        "{rows: {mine: {lr: 5e-2}, theirs: {lr: 1e-2, reported: 0.30 ± 0.01}}}",
        *(make_result(RunConfig(lr=0.05), seed, 0.5 + seed / 100) for seed in range(3)),
        *(make_result(RunConfig(lr=0.01), seed, 0.29 + seed / 100) for seed in range(3)),
        path=folder.path,
    )
    assert text.startswith("mine is best with 0.510")
    assert " theirs agrees with the report." in text


def test_a_row_that_diverges_in_the_report_agrees_by_diverging(folder: SampleStudy) -> None:
    table = "{rows: {low: {lr: 5e-2, reported: 0.51 ± 0.01}, high: {lr: 1, diverges: true}}}"
    low = [make_result(RunConfig(lr=0.05), seed, 0.5 + seed / 100) for seed in range(3)]
    text = own_sentence(table, *low, make_diverged(RunConfig(lr=1), 0), path=folder.path)
    assert " Both rows with a result here and in the report agree." in text
    text = own_sentence(table, make_result(RunConfig(lr=1), 1), path=folder.path)
    assert "Differs from it: high (1 of 2 runs finished; in the report the loss diverges)." in text


def test_a_table_of_one_row_says_whether_it_agrees(folder: SampleStudy) -> None:
    table = "{rows: {only: {lr: 5e-2, reported: 0.51 ± 0.01}}}"
    text = own_sentence(table, make_result(RunConfig(lr=0.05), 0, 0.9), path=folder.path)
    assert text.startswith("It reaches 0.900 (one run). only differs from the report (by +0.390 ±0.096, n = 1).")


def test_runs_that_are_all_alike_are_no_spread_to_judge_by(folder: SampleStudy) -> None:
    add(folder, "1e-2", (0.3, 0.3))
    add(folder, "5e-2", (0.3004, 0.3004))
    text = sentence(folder)
    assert (
        "ahead of 1e-2 by 0.000; the runs of each are all alike, so that there is no spread to judge that by"
        in text
    )
    add(folder, "5e-2", (0.3, 0.3))
    assert "level with 1e-2" in sentence(folder) or "level with 5e-2" in sentence(folder)


def test_a_lead_within_the_spread(folder: SampleStudy) -> None:
    add(folder, "1e-2", (0.30, 0.40, 0.50))
    add(folder, "5e-2", (0.31, 0.41, 0.51))
    assert "ahead of 1e-2 by 0.010, which is within the spread (±0.227)" in sentence(folder)


def test_another_order_than_reported(folder: SampleStudy) -> None:
    for label, value in {"1e-3": 0.5, "1e-2": 0.4, "5e-2": 0.3}.items():
        add(folder, label, (value,))
    text = sentence(folder)
    assert "there is no spread to hold that against" in text
    assert "The measured order is the reverse of the reported one: 0 of 3 pairs" in text
    assert "tau-b -1.00); the report's best is 5e-2." in text


def test_rows_that_tie_here_are_not_in_the_reported_order(folder: SampleStudy) -> None:
    for label, value in {"1e-3": 0.092, "1e-1": 0.092, "1e-2": 0.092, "5e-2": 0.45}.items():
        add(folder, label, (value,))
    tied = "The orders differ: 3 of 3 pairs of rows stand alike, 3 more are tied here (Kendall's tau-b 0.71); the"
    assert tied in sentence(folder)


def test_rows_with_diverged_runs_are_in_no_order(folder: SampleStudy) -> None:
    add(folder, "5e-2", (0.44, 0.45))
    add(folder, "1e-2", (0.30, 0.31))
    add(folder, "1e-3", (0.60, 0.61))
    folder.add(make_diverged(row_config(LR, "1e-3"), 2))
    of_two = (
        "Of the rows without diverged runs: the measured order is the reported one: 1 of 1 pairs of rows stand"
    )
    assert of_two in sentence(folder)


def test_a_single_finished_row_is_no_best(folder: SampleStudy) -> None:
    add(folder, "5e-2", (0.44,))
    text = sentence(folder)
    assert text.startswith("Only 5e-2 has finished runs: 0.440 (one run).")
    assert "Not all runs are there yet: 5e-2 (1 of 3)." in text
    assert "order" not in text


def test_diverged_runs_are_named_not_averaged(folder: SampleStudy) -> None:
    add(folder, "5e-2", (0.44, 0.45))
    folder.add(make_diverged(row_config(LR, "5e-2"), 2), make_diverged(row_config(LR, "1e-1"), 0))
    assert "Runs diverged and are left out: 5e-2 (1 of 3) and 1e-1 (1 of 3)." in sentence(folder)


def test_rows_that_are_one_run_are_not_compared(folder: SampleStudy) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"epochs": 1}))
    folder.start()
    add(folder, "20", (0.1,), "scratch.epochs")
    assert "there is nothing to compare" in sentence(folder, "scratch.epochs")


def test_a_single_run_beside_what_the_report_quotes(folder: SampleStudy) -> None:
    assert sentence(folder, "scratch.template") == "No result yet."
    add(folder, "template", (0.09, 0.10), "scratch.template")
    assert "; the report quotes 0.09." in sentence(folder, "scratch.template")


def test_the_row_that_diverges_in_the_report(folder: SampleStudy) -> None:
    config = row_config("transfer.diverging", "LR = 5e-2")
    assert sentence(folder, "transfer.diverging") == "No result yet; in the report the loss diverges."
    folder.add(make_diverged(config, 0), make_diverged(config, 1))
    assert sentence(folder, "transfer.diverging").startswith("Both runs that ended diverged, as in the report.")
    folder.add(make_result(config, 2))
    assert sentence(folder, "transfer.diverging") == (
        "2 of 3 runs that ended diverged. LR = 5e-2 differs from the report (1 of 3 runs finished; in the "
        "report the loss diverges)."
    )
