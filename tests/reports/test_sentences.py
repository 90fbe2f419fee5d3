"""The sentence under a table says what its numbers carry, and no more."""

from collections.abc import Sequence

from caltech_exp.catalog import THE_REPORT
from caltech_exp.study import StudySettings
from reports.sentences import table_sentence
from tests.reports.conftest import StudyFolder, make_diverged, make_result, row_config

LR = "scratch.lr"


def sentence(folder: StudyFolder, table: str = LR) -> str:
    ((section, asked),) = THE_REPORT.select(tables=[table])
    return table_sentence(asked, folder.collect().of(section, asked))


def add(folder: StudyFolder, label: str, values: Sequence[float], table: str = LR) -> None:
    config = folder.settings.apply(row_config(table, label))
    folder.add(*(make_result(config, seed, value) for seed, value in enumerate(values)))


def test_a_lead_beyond_the_spread_and_the_reported_order(folder: StudyFolder) -> None:
    add(folder, "1e-2", (0.29, 0.30, 0.31))
    add(folder, "5e-2", (0.44, 0.45, 0.46))
    text = sentence(folder)
    assert text.startswith("5e-2 is best with 0.450 (±0.025, n = 3), ahead of 1e-2 by 0.150, which is more than")
    assert "The measured order is the reported one: 1 of 1 pairs of rows stand alike" in text
    assert "Without a result: 1e-3, 6e-2 and 1e-1." in text


def test_which_rows_agree_with_the_report(folder: StudyFolder) -> None:
    add(folder, "5e-2", (0.44, 0.45, 0.46))
    assert " It agrees with the report." in sentence(folder)
    add(folder, "6e-2", (0.34, 0.35))
    assert " All of them agree with the report." in sentence(folder)
    add(folder, "1e-2", (0.35,))
    assert " Agree with the report: 5e-2 and 6e-2. Differs from it: 1e-2 (by +0.052 ±0.016)." in sentence(folder)


def test_a_lead_within_the_spread(folder: StudyFolder) -> None:
    add(folder, "1e-2", (0.30, 0.40, 0.50))
    add(folder, "5e-2", (0.31, 0.41, 0.51))
    assert "ahead of 1e-2 by 0.010, which is within the spread (±0.227)" in sentence(folder)


def test_another_order_than_reported(folder: StudyFolder) -> None:
    for label, value in {"1e-3": 0.5, "1e-2": 0.4, "5e-2": 0.3}.items():
        add(folder, label, (value,))
    text = sentence(folder)
    assert "there is no spread to hold that against" in text
    assert "The measured order is the reverse of the reported one: 0 of 3 pairs" in text
    assert "tau-b -1.00); the report's best is 5e-2." in text


def test_a_single_finished_row_is_no_best(folder: StudyFolder) -> None:
    add(folder, "5e-2", (0.44,))
    text = sentence(folder)
    assert text.startswith("Only 5e-2 has finished runs: 0.440 (one run).")
    assert "Not all runs are there yet: 5e-2 (1 of 3)." in text
    assert "order" not in text


def test_diverged_runs_are_named_not_averaged(folder: StudyFolder) -> None:
    add(folder, "5e-2", (0.44, 0.45))
    folder.add(make_diverged(row_config(LR, "5e-2"), 2), make_diverged(row_config(LR, "1e-1"), 0))
    assert "Runs diverged and are left out: 5e-2 (1 of 3) and 1e-1 (1 of 3)." in sentence(folder)


def test_rows_that_are_one_run_are_not_compared(folder: StudyFolder) -> None:
    folder = StudyFolder(folder.path, StudySettings(overrides={"epochs": 1}))
    folder.start()
    add(folder, "20", (0.1,), "scratch.epochs")
    assert "there is nothing to compare" in sentence(folder, "scratch.epochs")


def test_a_single_run_beside_what_the_report_quotes(folder: StudyFolder) -> None:
    assert sentence(folder, "scratch.template") == "No result yet."
    add(folder, "template", (0.09, 0.10), "scratch.template")
    assert "; the report quotes 0.09." in sentence(folder, "scratch.template")


def test_the_row_that_diverges_in_the_report(folder: StudyFolder) -> None:
    config = row_config("transfer.diverging", "LR = 5e-2")
    assert sentence(folder, "transfer.diverging") == "No result yet; in the report the loss diverges."
    folder.add(make_diverged(config, 0), make_diverged(config, 1))
    assert sentence(folder, "transfer.diverging").startswith("All 2 runs that ended diverged, as in the report.")
    folder.add(make_result(config, 2))
    assert sentence(folder, "transfer.diverging").startswith("2 of 3 runs that ended diverged;")
