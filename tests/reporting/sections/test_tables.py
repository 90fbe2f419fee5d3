"""A table on the page: five columns, what is behind its details, and the matrix of two settings."""

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from caltech_exp.config import RunConfig, run_id
from caltech_exp.reporting.comparison import table_rows
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import (
    Block,
    Heading,
    Interval,
    Listing,
    Prose,
    Spread,
    Table,
    accuracy,
    shown,
)
from caltech_exp.reporting.sections.tables import TableSection, measured_tables, results_matrix, table_blocks
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import DataRecord, Device, encode
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")
VALUES = (0.291, 0.305, 0.3183)


def section_of(sample: SampleStudy, table: str) -> TableSection:
    study = read_study(sample.path)
    ((section, catalog_table),) = study.catalog.select(tables=[table])
    return table_blocks(study, section, catalog_table)


def table_of(sample: SampleStudy, name: str) -> Table:
    section = section_of(sample, name)
    return next(b for b in (*section.results, *section.details) if isinstance(b, Table) and b.name == name)


def cells(sample: SampleStudy, name: str, label: str) -> dict[str, str]:
    """Heading -> what the row shows."""
    table = table_of(sample, name)
    row = next(row for row in table.rows if row[0] == label)
    return {column.heading: shown(column, value) for column, value in zip(table.columns, row, strict=True)}


def texts(blocks: tuple[Block, ...]) -> str:
    return "\n".join(
        "\n".join((block.head, *block.items)) if isinstance(block, Listing) else block.text
        for block in blocks
        if isinstance(block, Listing | Prose | Heading)
    )


def add(sample: SampleStudy, table: str, label: str, *values: float) -> None:
    config = sample.settings.apply(row_config(table, label))
    sample.add(*(make_result(config, seed, value) for seed, value in enumerate(values)))


def own_study(path: Path, text: str) -> SampleStudy:
    """The study of a study file whose only table is `a.b`."""
    file = StudyFile(name="mine", text=f"sections: {{a: {{tables: {{b: {text}}}}}}}")
    StudyFolder(path).write_study(
        Study(settings=StudySettings(), file=file, data=DATA, created="2026-01-01T12:00:00Z", code=CODE)
    )
    return SampleStudy(path)


def test_row_shows_measured_reported_difference_and_verdict(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", *VALUES)
    mean, std = statistics.fmean(VALUES), statistics.pstdev(VALUES)
    half_widths = []
    for reported_std in (0.0015, 0.0025):  # what 0.002 may have been rounded from
        errors = [std**2 / 2, reported_std**2 / 2]  # of the means, each of three runs
        degrees = sum(errors) ** 2 / sum(error**2 / 2 for error in errors)  # Satterthwaite's
        half_widths.append(stats.t.ppf(0.975, degrees) * math.sqrt(sum(errors)))
    assert cells(folder, "scratch.lr", "1e-2") == {
        "Learning rate": "1e-2",
        "measured": f"{mean:.3f} ± {std:.3f}",
        "reported": "0.298 ± 0.002",
        "difference ± 95 % interval": f"{mean - 0.298:+.3f} ± {max(half_widths) + 0.0005:.3f}",
        "verdict": "agrees",
        "n": "3",
        "test accuracy": f"{mean - 0.01:.3f}",
        "95 % interval of the mean, ±": f"{4.302653 * statistics.stdev(VALUES) / math.sqrt(3):.3f}",
        "state": "all finished",
    }


def test_first_screen_has_five_columns_and_the_rest_is_detail(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", *VALUES)
    columns = table_of(folder, "scratch.lr").columns
    assert [column.heading for column in columns if not column.is_detail] == [
        "Learning rate",
        "measured",
        "reported",
        "difference ± 95 % interval",
        "verdict",
    ]
    names = [column.file_heading or column.heading for column in columns]
    assert names[3] == "difference"
    assert names[-2:] == ["95 % interval of the mean, half width", "state"]


def test_last_epoch_counts_not_the_best(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.25, best_val_accuracy=0.9))
    assert cells(folder, "scratch.lr", "1e-2")["measured"] == "0.250"


def test_single_run_has_neither_spread_nor_interval(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 1, 0.25))
    row = cells(folder, "scratch.lr", "1e-2")
    assert row["measured"] == "0.250"
    assert row["difference ± 95 % interval"] == "−0.048 (n = 1: too few)"
    assert row["verdict"] == "inconclusive"
    assert row["95 % interval of the mean, ±"] == "–"
    assert row["state"] == "1 of 3 runs finished; 2 not submitted"


def test_two_runs_show_their_range(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", 0.29, 0.31)
    row = cells(folder, "scratch.lr", "1e-2")
    assert row["measured"] == "0.290 to 0.310"
    assert row["difference ± 95 % interval"] == "+0.002 (n = 2: too few)"
    table = table_of(folder, "scratch.lr")
    numbers = next(values for values in table.rows if values[0] == "1e-2")
    assert isinstance(numbers[1], Spread)  # the files have mean and deviation
    assert (numbers[1].mean, numbers[1].std) == pytest.approx((0.30, 0.01))
    assert isinstance(numbers[3], Interval)


def test_table_without_reported_values_has_no_columns_for_them(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "transfer.freezing", "convolutional", 0.5)
    assert cells(folder, "transfer.freezing", "convolutional") == {
        "Layers trained": "convolutional",
        "measured": "0.500",
        "n": "1",
        "test accuracy": "0.490",
        "95 % interval of the mean, ±": "–",
        "state": "1 of 3 runs finished; 2 not submitted",
    }


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        (StudySettings(overrides={"epochs": 1}), {}),
        (StudySettings(), {"stand_in": True}),
        (StudySettings(), {"train_val_images": 5000}),
    ],
)
def test_study_that_is_not_comparable_shows_its_numbers_alone(
    folder: SampleStudy, settings: StudySettings, data: dict[str, object]
) -> None:
    sample = SampleStudy(folder.path, settings)
    sample.start(**data)
    add(sample, "scratch.lr", "1e-2", *VALUES)
    row = cells(sample, "scratch.lr", "1e-2")
    assert set(row).isdisjoint({"reported", "difference ± 95 % interval", "verdict"})
    assert row["measured"].startswith("0.305 ± ")


def test_rows_of_other_weights_are_compared_in_a_table_of_their_own(folder: SampleStudy) -> None:
    weights = {"alexnet": f"/weights/net.pth@sha256:{'c' * 64}"}
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights=weights))
    sample.start()
    add(sample, "transfer.lr", "1e-2", *VALUES)
    add(sample, "scratch.lr", "1e-2", *VALUES)
    assert cells(sample, "scratch.lr", "1e-2")["verdict"] == "agrees"
    study = sample.read()
    tables = {table.name: table for table, _ in measured_tables(study)}
    names = {"scratch.lr", "transfer.lr-other-weights", "transfer.step_size-other-weights"}
    assert set(tables) == names  # the last has the same run
    other = tables["transfer.lr-other-weights"]
    assert other.caption.startswith("Changing learning rate, with other ImageNet weights. ")
    assert {"reported", "verdict"} <= {column.heading for column in other.columns}


def test_simulated_study_is_compared(folder: SampleStudy) -> None:
    folder.start(simulated=True)
    add(folder, "scratch.lr", "1e-2", *VALUES)
    assert cells(folder, "scratch.lr", "1e-2")["verdict"] == "agrees"


def test_best_row_is_bold_and_rows_that_show_the_same_are_too(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-3", 0.09, 0.09, 0.09)
    assert table_of(folder, "scratch.lr").best == ()  # alone it is no best
    add(folder, "scratch.lr", "1e-2", 0.30, 0.30, 0.30)
    assert table_of(folder, "scratch.lr").best == (1,)
    add(folder, "scratch.lr", "5e-2", 0.3004, 0.3004, 0.3004)
    assert table_of(folder, "scratch.lr").best == (1, 2)
    add(folder, "scratch.lr", "5e-2", 0.45, 0.45, 0.45)
    assert table_of(folder, "scratch.lr").best == (2,)


def test_diverged_runs_are_counted_and_not_averaged(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-3", 0.09, 0.09, 0.09)
    add(folder, "scratch.lr", "5e-2", 0.44, 0.45, 0.46)
    folder.add(make_result(CONFIG, 0, 0.9), make_result(CONFIG, 1, 0.8), make_diverged(CONFIG, 2))
    row = cells(folder, "scratch.lr", "1e-2")
    assert row["measured"] == "diverged (1 of 3)"
    assert row["difference ± 95 % interval"] == row["test accuracy"] == row["95 % interval of the mean, ±"] == "–"
    assert row["verdict"] == "differs"
    assert row["n"] == "2"
    assert row["state"] == "2 of 3 runs finished; 1 diverged"
    assert table_of(folder, "scratch.lr").best == (2,)


def test_row_that_diverges_in_both_agrees(folder: SampleStudy) -> None:
    config = row_config("transfer.diverging", "LR = 5e-2")
    folder.start()
    folder.add(*(make_diverged(config, seed) for seed in range(3)))
    row = cells(folder, "transfer.diverging", "LR = 5e-2")
    assert row["measured"] == "diverged (3 of 3)"
    assert row["reported"] == "diverges"
    assert row["difference ± 95 % interval"] == "–"
    assert row["verdict"] == "agrees"
    assert row["state"] == "0 of 3 runs finished; 3 diverged"


def test_row_that_diverges_only_in_the_report_differs(folder: SampleStudy) -> None:
    config = row_config("transfer.diverging", "LR = 5e-2")
    folder.start()
    folder.add(make_result(config, 0, 0.8))
    row = cells(folder, "transfer.diverging", "LR = 5e-2")
    assert (row["measured"], row["reported"], row["verdict"]) == ("0.800", "diverges", "differs")
    assert row["difference ± 95 % interval"] == "–"
    folder.add(make_diverged(config, 1), make_diverged(config, 2))
    row = cells(folder, "transfer.diverging", "LR = 5e-2")
    assert (row["measured"], row["verdict"]) == ("diverged (2 of 3)", "differs")


def test_row_nobody_submitted_says_so(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-3", 0.09)
    row = cells(folder, "scratch.lr", "1e-2")
    assert row["state"] == "not submitted"
    assert row["reported"] == "0.298 ± 0.002"
    assert row["measured"] == row["difference ± 95 % interval"] == row["verdict"] == "–"


def test_table_without_results_says_how_to_get_them(folder: SampleStudy) -> None:
    folder.start()
    section = section_of(folder, "scratch.lr")
    assert "No results yet. To get them: `python jobs/submit.py table=scratch.lr runs=" in texts(section.results)
    assert not any(isinstance(block, Table) for block in section.results)
    assert table_of(folder, "scratch.lr").columns[2].heading == "reported"  # in the files all the same


def test_failed_damaged_and_uncounted_runs_are_explained(folder: SampleStudy) -> None:
    names = [run_id(CONFIG, seed) for seed in range(5)]
    other = DataRecord(fingerprint="f" * 16, stand_in=False, train_images=9, val_images=9, test_images=9)
    folder.start()
    folder.submit(*names, seeds=range(5))
    folder.add(make_result(CONFIG, 0, 0.3), make_result(CONFIG, 4, 0.9, data=other))
    folder.fail(names[1], "RuntimeError: CUDA out of memory")
    (folder.path / names[2]).mkdir()
    (folder.path / names[2] / "result.json").write_text("{")
    row = cells(folder, "scratch.lr", "1e-2")
    assert row["measured"] == "0.300"
    assert row["state"] == "1 of 5 runs finished; 1 failed, 1 damaged, 1 queued, 1 not counted"
    details = texts(section_of(folder, "scratch.lr").details)
    assert "Runs that do not count:" in details
    assert f"`{names[1]}` failed: RuntimeError: CUDA out of memory (log: " in details
    assert f"`{names[2]}` damaged: result.json: it is not whole JSON" in details
    assert f"`{names[4]}` not counted: trained on another data set, {'f' * 16}" in details


def test_many_uncounted_runs_are_cut_short(folder: SampleStudy) -> None:
    names = [run_id(CONFIG, seed) for seed in range(25)]
    folder.start()
    folder.submit(*names, seeds=range(25))
    for name in names:
        folder.fail(name, "RuntimeError: no")
    (listing,) = (block for block in section_of(folder, "scratch.lr").details if isinstance(block, Listing))
    assert len(listing.items) == 21
    assert listing.items[-1] == "and 5 more, in `runs.csv`"


def test_run_of_two_tables_counts_in_both(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.epochs", "30", 0.44)
    assert cells(folder, "scratch.lr", "5e-2")["measured"] == "0.440"
    assert cells(folder, "scratch.epochs", "30")["measured"] == "0.440"


@pytest.mark.parametrize("others", [{}, {"momentum": 0.5, "batch_size": 64, "workers": 0}])
def test_rows_that_overrides_make_one_run_are_named(folder: SampleStudy, others: dict[str, float]) -> None:
    sample = SampleStudy(folder.path, StudySettings(overrides={**others, "epochs": 1}))
    sample.start()
    add(sample, "scratch.epochs", "60", 0.2)
    assert cells(sample, "scratch.epochs", "20")["measured"] == "0.200"
    same = "`20`, `30`, `40`, `50` and `60` are the same run in this study because of `epochs=1`."
    section = section_of(sample, "scratch.epochs")
    assert same in texts(section.details)
    assert "best" not in texts(section.results)


def test_shared_settings_are_said_once_above(folder: SampleStudy) -> None:
    folder.start()
    template = texts(section_of(folder, "scratch.template").head)
    assert "Settings (Figure 4 of the report): AlexNet, from scratch, all layers trained" in template
    pretrained = texts(section_of(folder, "transfer.template").head)
    assert "Settings (Figure 9 of the report): AlexNet, pretrained on ImageNet" in pretrained
    freezing = texts(section_of(folder, "transfer.freezing").head)
    assert "BATCH_SIZE = 256, LR = 1e-2" in freezing.replace("\\", "")
    assert "layers trained" not in freezing.partition("Settings")[2]


def test_overridden_settings_stand_beside_the_shared_ones(folder: SampleStudy) -> None:
    sample = SampleStudy(folder.path, StudySettings(overrides={"epochs": 1, "precision": "fp32"}))
    sample.start()
    section = section_of(sample, "scratch.lr")
    assert "In this study instead: NUM_EPOCHS = 1." in texts(section.head)
    assert "Computed with the fast engine in fp32." in texts(section.details)


def test_each_number_of_the_report_stands_once(folder: SampleStudy) -> None:
    folder.start()
    study = read_study(folder.path)
    headings = [table_blocks(study, *pair).head[0] for pair in study.catalog.tables]
    numbers = [heading.number for heading in headings if isinstance(heading, Heading) and heading.number]
    assert numbers == ["1.1", "1.2", "1.3", "2.1", "2.2", "2.3", "2.4", "4.1", "4.2"]


def test_mixed_devices_code_and_libraries_are_flagged_at_the_row(folder: SampleStudy) -> None:
    folder.start()
    other = CODE.model_copy(update={"commit": "b" * 40})
    folder.add(
        make_result(CONFIG, 0, 0.3),
        make_result(CONFIG, 1, 0.3, device=Device(type="cpu", name="EPYC")),
        make_result(CONFIG, 2, 0.3, code=other, libraries={"torch": "2.9"}),
    )
    assert cells(folder, "scratch.lr", "1e-2")["state"] == "mixed code versions, library versions and devices"


def test_balanced_accuracy_is_shown_where_classes_are_sampled_otherwise(tmp_path: Path) -> None:
    sample = own_study(tmp_path, "{sweep: {sampling: [shuffle, balanced]}}")
    matrix = np.diag([30, 5]) + np.array([[10, 0], [5, 0]])  # recalls 1 and 0.5
    sample.add(make_result(RunConfig(sampling="balanced"), 0, 0.9, val_confusion=encode(matrix)))
    assert cells(sample, "a.b", "balanced")["balanced accuracy"] == "0.750"
    plain = own_study(tmp_path / "plain", "{sweep: {lr: [1e-2, 5e-2]}}")
    plain.add(make_result(RunConfig(lr=1e-2), 0, 0.5))
    assert "balanced accuracy" not in cells(plain, "a.b", "1e-2")


def test_two_settings_make_a_matrix_beside_the_long_table(tmp_path: Path) -> None:
    sample = own_study(tmp_path, "{sweep: {lr: [1e-2, 5e-2], batch_size: [64, 128, 256]}}")
    for number, (lr, batch_size) in enumerate([(1e-2, 64), (1e-2, 128), (5e-2, 64), (5e-2, 256)]):
        config = RunConfig(lr=lr, batch_size=batch_size)
        sample.add(*(make_result(config, seed, 0.4 + number / 10 + seed / 100) for seed in range(3)))
    section = section_of(sample, "a.b")
    (matrix,) = (block for block in section.results if isinstance(block, Table))
    assert [column.heading for column in matrix.columns] == ["LR", *(f"Batch size {n}" for n in (64, 128, 256))]
    assert [[shown(c, v) for c, v in zip(matrix.columns, row, strict=True)] for row in matrix.rows] == [
        ["1e-2", "0.410 ± 0.008", "0.510 ± 0.008", "–"],
        ["5e-2", "0.610 ± 0.008", "–", "0.710 ± 0.008"],
    ]
    assert matrix.best_cells == ((1, 3),)
    assert matrix.name == ""
    assert len(table_of(sample, "a.b").rows) == 6


@pytest.mark.parametrize(
    "table",
    [
        "{sweep: {lr: [1e-2, 5e-2]}}",
        "{sweep: {lr: [1e-2, 5e-2], batch_size: [64]}}",
        "{sweep: {lr: [1e-2, 5e-2], batch_size: [64, 128], epochs: [1, 2]}}",
        "{heading: 'LR, batch', rows: {'1e-2, 64': {lr: 1}, '5e-2, 128': {lr: 2}}}",
        "{rows: {'a, b': {lr: 1}, 'a, c': {lr: 2}, 'd, b': {lr: 3}, 'd, c': {lr: 4}}}",
    ],
)
def test_other_tables_are_no_matrix(tmp_path: Path, table: str) -> None:
    study = read_study(own_study(tmp_path, table).path)
    ((section, catalog_table),) = study.catalog.tables
    assert results_matrix(table_rows(study, section, catalog_table)) is None


def advice(sample: SampleStudy, table: str) -> str:
    return texts(section_of(sample, table).details)


def test_inconclusive_row_says_how_many_seeds_would_decide_it(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "5e-2", 0.36, 0.44, 0.52)
    words = advice(folder, "scratch.lr")
    assert "Seeds that would decide the inconclusive rows" in words
    line = next(line for line in words.splitlines() if line.startswith("`5e-2`: "))
    seeds = int(line.split()[1])
    assert seeds > 3
    assert f"({seeds - 3} more, {(seeds - 3) * 0.5:.1f} GPU hours)" in line  # half an hour each
    assert f"`python jobs/submit.py table=scratch.lr=5e-2 runs={folder.path} seeds={seeds}`" in line


def test_row_that_no_seeds_would_decide_says_so(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-1", 0.15, 0.16, 0.17)
    assert "`1e-1`: no number of seeds; the reported spread alone is too wide." in advice(folder, "scratch.lr")


def test_decided_rows_need_no_advice(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", *VALUES)
    assert "Seeds that would decide" not in advice(folder, "scratch.lr")


def test_cost_on_cpus_is_named_so(folder: SampleStudy) -> None:
    folder.start()
    cpu = Device(type="cpu", name="EPYC")
    folder.add(*(make_result(CONFIG, seed, 0.3, device=cpu, wall_seconds=60) for seed in range(2)))
    assert "(1 more, less than 0.1 CPU hours)" in advice(folder, "scratch.lr")


def test_foreign_text_stays_text(tmp_path: Path) -> None:
    sample = own_study(tmp_path, "{title: '*x* <b>', question: '[y](z)?', rows: {'`a|b`': {}, '**c**': {lr: 1}}}")
    sample.add(make_result(RunConfig(), 0, 0.5), make_result(RunConfig(lr=1), 0, 0.6))
    section = section_of(sample, "a.b")
    assert section.head[0] == Heading(3, r"\*x\* \<b\>", "a.b")
    assert r"\[y\](z)?" in texts(section.head)
    assert "`**c**` is best" in texts(section.results)


def test_page_shows_the_numbers_of_the_frames(simulated: Path) -> None:
    study = read_study(simulated)
    for section, catalog_table in study.catalog.tables:
        rows = table_rows(study, section, catalog_table)
        blocks = table_blocks(study, section, catalog_table)
        table = next(block for block in blocks.results if isinstance(block, Table))
        for row, values in zip(rows, table.rows, strict=True):
            measured = shown(table.columns[1], values[1])
            assert measured.startswith(accuracy(row.measured.mean or 0) if row.diverged.empty else "diverged")
