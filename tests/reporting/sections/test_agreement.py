"""Agreement over all tables: counts, differences, order, sentences, plots."""

from pathlib import Path

import pandas as pd
import pytest

from caltech_exp.reporting.comparison import all_rows, compare_rows
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Picture, Prose, Table, Value
from caltech_exp.reporting.sections.agreement import (
    agreement_blocks,
    agreement_points,
    agreement_table,
    chance_sentence,
    distance_sentence,
    verdict_sentence,
)
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, SampleStudy, make_diverged, make_result, row_config


def add(folder: SampleStudy, table: str, label: str, *values: float) -> None:
    folder.add(*(make_result(row_config(table, label), seed, value) for seed, value in enumerate(values)))


def lines(folder: SampleStudy) -> dict[Value, dict[str, Value]]:
    """The table's rows by their first cell, each by heading."""
    table = agreement_table(all_rows(read_study(folder.path)))
    headings = [column.heading for column in table.columns]
    return {row[0]: dict(zip(headings, row, strict=True)) for row in table.rows}


def comparisons(folder: SampleStudy) -> pd.DataFrame:
    return compare_rows(all_rows(read_study(folder.path)))


@pytest.fixture
def figures(tmp_path: Path) -> FigureCache:
    (tmp_path / "figures").mkdir()
    return FigureCache(tmp_path / "figures", tmp_path / "index.json")


def test_table_counts_verdicts_and_measures_differences(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", 0.298, 0.298, 0.308)
    add(folder, "scratch.lr", "6e-2", 0.45)  # one run
    folder.add(make_diverged(row_config("scratch.lr", "1e-1"), 0))
    found = lines(folder)["scratch.lr"]
    assert [found[name] for name in ("rows", "agree", "inconclusive", "differ")] == [3, 1, 1, 1]
    assert (found["rows in the report"], found["of row"]) == (5, "6e-2")
    assert found["largest difference"] == pytest.approx(0.106)
    assert found["mean difference"] == pytest.approx((0.106 + 0.01 / 3) / 2)
    assert found["Kendall's tau-b"] == 1.0
    assert found["test - validation"] == pytest.approx(-0.01)


def test_rows_of_other_weights_do_not_count(folder: SampleStudy) -> None:
    weights = StudySettings(imagenet_weights={"resnet18": f"/weights/resnet18.pth@sha256:{'a' * 64}"})
    folder = SampleStudy(folder.path, weights)
    folder.start()
    add(folder, "scratch.lr", "1e-2", 0.298, 0.298, 0.308)
    before = lines(folder)
    config = weights.apply(row_config("resnet.transfer", "1e-2"))
    folder.add(make_result(config, 0, 0.5, test_accuracy=0.9))
    assert lines(folder) == before


def test_shared_configuration_counts_once_in_all(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.epochs", "30", 0.44)
    found = lines(folder)
    assert [(name, line["rows"]) for name, line in found.items()] == [
        ("scratch.lr", 1),
        ("scratch.epochs", 1),
        ("all", 1),
    ]
    assert found["all"]["of row"] == "scratch.lr=5e-2"


def test_configuration_with_two_reported_values_counts_with_the_first(folder: SampleStudy) -> None:
    assert row_config("transfer.step_size", "30") == row_config("transfer.batch_size", "256")
    folder.start()
    add(folder, "transfer.step_size", "30", 0.859)
    found = lines(folder)
    gaps = [found[name]["mean difference"] for name in ("transfer.step_size", "transfer.batch_size", "all")]
    assert gaps == pytest.approx([0.0, 0.001, 0.0])
    both = comparisons(folder).dropna(subset="difference")
    assert both["reported"].tolist() == [0.859]


def test_diverged_row_agrees_only_where_the_reports_diverges(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))
    found = lines(folder)["transfer.diverging"]
    assert {name: value for name, value in found.items() if value is not None} == {
        "table": "transfer.diverging",
        "rows": 1,
        "agree": 1,
        "inconclusive": 0,
        "differ": 0,
        "rows in the report": 1,
    }
    folder.add(make_diverged(row_config("scratch.lr", "1e-2"), 0))
    assert [lines(folder)["all"][name] for name in ("rows", "agree", "differ")] == [2, 1, 1]
    assert verdict_sentence(comparisons(folder)) == (
        "1 of 2 rows agrees with the report and 1 differs. Runs diverged in 1 of the rows that differ."
    )


def test_row_whose_runs_diverged_in_part_has_no_difference(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "1e-2", 0.298, 0.298, 0.298)
    assert lines(folder)["all"]["agree"] == 1
    folder.add(make_diverged(row_config("scratch.lr", "1e-2"), 3))
    found = lines(folder)["all"]
    assert (found["agree"], found["differ"], found["mean difference"]) == (
        0,
        1,
        None,
    )  # it would be the lucky ones'
    assert distance_sentence(comparisons(folder)) == ""


def test_sentences_count_and_measure(folder: SampleStudy) -> None:
    folder.start()
    for label, value in {"1e-3": 0.092, "1e-2": 0.298, "5e-2": 0.476}.items():
        add(folder, "scratch.lr", label, value, value, value + 0.003)
    add(folder, "scratch.lr", "6e-2", 0.344 + 0.2, 0.344 + 0.2)
    found = comparisons(folder)
    assert verdict_sentence(found) == "3 of 4 rows agree with the report and 1 is inconclusive."
    assert distance_sentence(found) == (
        "2 of 4 means lie within 0.02 of the reported ones; the median difference is 0.016 and the "
        "largest 0.200 (scratch.lr=6e-2)."
    )
    assert chance_sentence(found) == ""  # of three
    assert chance_sentence(pd.concat([found] * 10)).endswith("by chance: 1.5 of these 30.")


def test_differences_count_as_they_are_shown(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "5e-2", 0.446 + 0.0204)  # shown as +0.020
    add(folder, "scratch.lr", "6e-2", 0.344 + 0.02)  # a little more, by arithmetic
    assert distance_sentence(comparisons(folder)) == (
        "2 of 2 means lie within 0.02 of the reported ones; the median difference is 0.020 and the largest 0.020 "
        "(scratch.lr=6e-2)."
    )


def test_single_mean_is_not_counted(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "6e-2", 0.354)
    found = comparisons(folder)
    assert verdict_sentence(found) == "0 of 1 rows agree with the report and 1 is inconclusive."
    assert distance_sentence(found) == ("The measured mean is 0.010 away from the reported one (scratch.lr=6e-2).")
    assert chance_sentence(found) == ""


def test_points_have_the_differences_that_decide(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "scratch.lr", "5e-2", 0.44, 0.45, 0.445)
    add(folder, "scratch.lr", "1e-2", 0.35, 0.35, 0.35)
    folder.add(make_diverged(row_config("scratch.lr", "1e-1"), 0))
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))  # there is no difference to draw
    far, near, diverged = agreement_points(all_rows(read_study(folder.path)))
    assert (near.label, near.verdict, near.group) == ("learning rate 5e-2", "agrees", "1. Training from scratch")
    assert near.difference == pytest.approx(-0.001)
    assert near.difference_half_width is not None
    assert near.difference_half_width > 0.001
    assert (far.label, far.verdict) == ("learning rate 1e-2", "differs")
    assert far.difference == pytest.approx(0.052)
    assert (diverged.verdict, diverged.difference, diverged.diverged) == ("differs", None, 1)


def test_points_are_grouped_by_table_where_labels_repeat(folder: SampleStudy) -> None:
    folder.start()
    add(folder, "resnet.scratch", "1e-3", 0.44)
    assert {point.group for point in agreement_points(all_rows(read_study(folder.path)))} == {
        "4. Extra: ResNet-18"
    }
    add(folder, "resnet.transfer", "1e-3", 0.92)
    groups = [point.group for point in agreement_points(all_rows(read_study(folder.path)))]
    assert groups == ["4.1. ResNet from scratch", "4.2. Transfer learning with ResNet"]


def test_blocks_show_sentences_table_and_plot(folder: SampleStudy, figures: FigureCache) -> None:
    folder.start()
    for label, value in {"1e-3": 0.092, "1e-2": 0.298}.items():
        add(folder, "scratch.lr", label, value, value, value + 0.003)
    kinds = [type(block) for block in agreement_blocks(read_study(folder.path), figures)]
    assert kinds == [Prose, Table, Prose]  # two points make no plot
    add(folder, "scratch.lr", "6e-2", 0.35)
    pictures = [b for b in agreement_blocks(read_study(folder.path), figures) if isinstance(b, Picture)]
    assert [picture.name for picture in pictures] == ["plot-differences"]
    figures.finish()
    assert all((figures.folder / f"plot-differences.{kind}").is_file() for kind in ("png", "svg"))


def test_nothing_is_compared_where_settings_are_overridden(folder: SampleStudy, figures: FigureCache) -> None:
    overridden = SampleStudy(folder.path, StudySettings(overrides={"epochs": 1}))
    overridden.start()
    config = overridden.settings.apply(row_config("scratch.lr", "5e-2"))
    overridden.add(*(make_result(config, seed) for seed in range(3)))
    assert agreement_blocks(read_study(folder.path), figures) == []


def test_study_without_a_result_says_so(folder: SampleStudy, figures: FigureCache) -> None:
    folder.start()
    (block,) = agreement_blocks(read_study(folder.path), figures)
    assert block == Prose("No row with a reported value has a result yet.")


def test_another_reported_deviation_draws_the_plot_again(tmp_path: Path) -> None:
    shows = []
    for std in ("0.01", "0.02"):
        rows = ", ".join(f"{lr}: {{reported: 0.5 ± {std}, lr: {lr}}}" for lr in (0.1, 0.2, 0.3))
        text = f"sections: {{a: {{tables: {{b: {{rows: {{{rows}}}}}}}}}}}"
        folder, file = SampleStudy(tmp_path / std), StudyFile(name="mine", text=text)
        study = Study(settings=StudySettings(), file=file, data=DATA, created="2026-01-01T12:00:00Z", code=CODE)
        StudyFolder(folder.path).write_study(study)
        for row in study.catalog.tables[0][1].rows:
            folder.add(*(make_result(row.config, seed, 0.5) for seed in range(3)))
        figures = FigureCache(folder.path, folder.path / "index.json")
        agreement_blocks(read_study(folder.path), figures)
        shows.append(figures.shown["plot-differences"].shows)
    assert shows[0] != shows[1]
