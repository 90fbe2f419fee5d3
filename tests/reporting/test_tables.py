"""Rows: means and spreads, what is missing, and what is said about it."""

import math
import statistics

import pytest
from scipy import stats

from caltech_exp.config import run_id
from caltech_exp.study.results import DataRecord, Device
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import CODE, Page, SampleStudy, line_of, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")
VALUES = (0.291, 0.305, 0.3183)


def runs_of(seeds: int = 3) -> list[str]:
    return [run_id(CONFIG, seed) for seed in range(seeds)]


def test_mean_and_std_are_those_of_the_final_accuracies(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(*(make_result(CONFIG, seed, value) for seed, value in enumerate(VALUES)))
    mean, std = statistics.fmean(VALUES), statistics.pstdev(VALUES)
    halves = []
    for theirs in (0.0015, 0.0025):  # what 0.002 may have been rounded from
        errors = [std**2 / 2, theirs**2 / 2]  # of the means, each of three runs
        degrees = sum(errors) ** 2 / sum(error**2 / 2 for error in errors)  # Satterthwaite's
        halves.append(stats.t.ppf(0.975, degrees) * math.sqrt(sum(errors)))
    assert line_of(page(folder), "scratch.lr", "1e-2") == [
        "1e-2",
        f"{mean:.3f}",
        f"{std:.3f}",
        f"±{4.302653 * statistics.stdev(VALUES) / math.sqrt(3):.3f}",
        "3",
        "0.298",
        "0.002",
        f"{mean - 0.298:+.3f}",
        f"±{max(halves) + 0.0005:.3f}",
        f"{mean - 0.01:.3f}",
        "3 of 3 runs",
    ]


def test_the_last_epoch_counts_not_the_best(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.25, best_val_accuracy=0.9))
    assert line_of(page(folder), "scratch.lr", "1e-2")[1] == "0.250"


def test_a_single_run_has_no_spread(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 4, 0.25))
    cells = line_of(page(folder), "scratch.lr", "1e-2")
    assert cells[2:5] == ["–", "–", "1"]
    assert cells[-1] == "1 of 4 runs; 3 not submitted"


def test_rows_are_measured_against_all_seeds_of_the_study(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.submit(*runs_of(1), seeds=(0,))
    folder.add(make_result(CONFIG, 0))
    assert line_of(page(folder), "scratch.lr", "1e-2")[-1] == "1 of 1 runs"
    other = row_config("scratch.lr", "1e-3")
    folder.submit(run_id(other, 7), seeds=(7,), name="second")
    text = page(folder)
    assert line_of(text, "scratch.lr", "1e-2")[-1] == "1 of 2 runs; 1 not submitted"
    assert line_of(text, "scratch.lr", "1e-3")[-1] == "0 of 2 runs; 1 queued; 1 not submitted"
    assert line_of(text, "scratch.lr", "5e-2")[-1] == "not submitted"


def test_a_table_without_reported_values_has_no_columns_for_them(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(row_config("transfer.freezing", "convolutional"), 0, 0.5))
    assert line_of(page(folder), "transfer.freezing", "convolutional") == [
        "convolutional",
        "0.500",
        "–",
        "–",
        "1",
        "0.490",
        "1 of 3 runs; 2 not submitted",
    ]


def test_failed_damaged_and_queued_runs_are_said_and_explained(folder: SampleStudy, page: Page) -> None:
    folder.start()
    names = runs_of(4)
    folder.submit(*names, seeds=range(4))
    folder.add(make_result(CONFIG, 0, 0.3))
    folder.fail(names[1], "RuntimeError: CUDA out of memory")
    (folder.path / names[2]).mkdir()
    (folder.path / names[2] / "result.json").write_text("{")
    text = page(folder)
    cells = line_of(text, "scratch.lr", "1e-2")
    assert cells[1] == "0.300"
    assert cells[-1] == "1 of 4 runs; 1 failed; 1 damaged; 1 queued"
    failed = next(line for line in text.splitlines() if line.startswith(f"- `{names[1]}` failed: "))
    assert "RuntimeError: CUDA out of memory (log: " in failed
    assert failed.endswith("log.out)")
    assert f"- `{names[2]}` damaged: result.json: it is not whole JSON" in text


def test_diverged_runs_are_not_averaged_in(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.3), make_result(CONFIG, 1, 0.4), make_diverged(CONFIG, 2))
    cells = line_of(page(folder), "scratch.lr", "1e-2")
    assert cells[1:5] == ["0.350", "0.050", "±0.635", "2"]
    assert cells[-1] == "2 of 3 runs; 1 diverged"


def test_a_row_that_only_diverges_says_so(folder: SampleStudy, page: Page) -> None:
    config = row_config("transfer.diverging", "LR = 5e-2")
    folder.start()
    folder.add(*(make_diverged(config, seed) for seed in range(3)))
    cells = line_of(page(folder), "transfer.diverging", "LR = 5e-2")
    assert cells == ["LR = 5e-2", "diverged", "–", "–", "0", "–", "3 diverged; diverges in the report"]
    folder.submit(seeds=range(4))
    cells = line_of(page(folder), "transfer.diverging", "LR = 5e-2")
    assert cells[-1] == "0 of 4 runs; 3 diverged; 1 not submitted; diverges in the report"


def test_a_row_nobody_submitted(folder: SampleStudy, page: Page) -> None:
    folder.start()
    assert line_of(page(folder), "scratch.lr", "1e-2")[-1] == "not submitted"


def test_a_run_of_two_tables_counts_in_both_and_once_in_all(folder: SampleStudy, page: Page) -> None:
    config = row_config("scratch.epochs", "30")
    folder.start()
    folder.add(make_result(config, 0, 0.44))
    text = page(folder)
    assert line_of(text, "scratch.lr", "5e-2")[1] == line_of(text, "scratch.epochs", "30")[1] == "0.440"
    assert "1 of 120 runs finished; 119 not submitted." in text


def test_results_of_another_data_set_are_listed_and_not_counted(folder: SampleStudy, page: Page) -> None:
    other = DataRecord(fingerprint="f" * 16, stand_in=False, train_images=9, val_images=9, test_images=9)
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.3), make_result(CONFIG, 1, 0.9, data=other))
    text = page(folder)
    cells = line_of(text, "scratch.lr", "1e-2")
    assert cells[1] == "0.300"
    assert cells[-1] == "1 of 3 runs; 1 not counted; 1 not submitted"
    assert f"`{run_id(CONFIG, 1)}` not counted: trained on another data set, {'f' * 16}" in text


@pytest.mark.parametrize("others", [{}, {"momentum": 0.5, "batch_size": 64, "workers": 0}])
def test_rows_that_overrides_make_one_run(folder: SampleStudy, page: Page, others: dict[str, float]) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={**others, "epochs": 1}))
    folder.start()
    folder.add(make_result(folder.settings.apply(row_config("scratch.epochs", "60")), 0, 0.2))
    text = page(folder)
    assert line_of(text, "scratch.epochs", "20")[1] == line_of(text, "scratch.epochs", "60")[1] == "0.200"
    assert "Rows 20, 30, 40, 50 and 60 are the same run in this study, because of the override `epochs=1`." in text


def test_settings_are_in_the_reports_words(folder: SampleStudy, page: Page) -> None:
    text = page(folder)
    assert "Settings (Figure 4): AlexNet, from scratch, all layers trained" in text
    assert "Settings (Figure 9): AlexNet, pretrained on ImageNet" in text
    shared = text.partition("(`table=transfer.freezing`)")[2].partition("\n|")[0]
    assert "BATCH_SIZE = 256, LR = 1e-2" in shared
    assert "layers trained" not in shared.lower()


def test_mixed_devices_are_flagged_at_the_row(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1, device=Device(type="cpu", name="EPYC")))
    assert line_of(page(folder), "scratch.lr", "1e-2")[-1] == "2 of 3 runs; 1 not submitted; mixed devices"


def test_mixed_code_and_libraries_are_flagged_too(folder: SampleStudy, page: Page) -> None:
    folder.start()
    other = CODE.model_copy(update={"commit": "b" * 40})
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1, code=other, libraries={"torch": "2.9"}))
    cells = line_of(page(folder), "scratch.lr", "1e-2")
    assert cells[-1].endswith("mixed code versions and library versions")
