"""The first screen: what was run, badges, the best rows, and findings that nothing contradicts."""

from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.comparison import all_rows, distinct_rows
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import (
    Badges,
    Block,
    Heading,
    Interval,
    Listing,
    Note,
    Panel,
    Prose,
    Table,
)
from caltech_exp.reporting.render.markdown import to_markdown
from caltech_exp.reporting.sections.summary import (
    agreement_badges,
    best_rows,
    best_table,
    run_line,
    summary_blocks,
)
from caltech_exp.study.results import Device
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import CODE, SampleStudy, make_diverged, make_result, row_config
from tests.reporting.test_claims import OwnStudy

NONE = float("nan")
"""In place of an accuracy: a run that diverged."""
PRETRAINED, SCRATCH = "transfer.step_size=30", "scratch.step_size=50"
FROZEN = "transfer.freezing=fully connected"
BATCH_64, BATCH_256 = "transfer.batch_size=64", "transfer.batch_size=256"


def add(folder: SampleStudy, key: str, *accuracies: float, first_seed: int = 0) -> None:
    table, _, label = key.partition("=")
    config = folder.settings.apply(row_config(table, label))
    for seed, accuracy in enumerate(accuracies, first_seed):
        is_diverged = accuracy != accuracy
        folder.add(make_diverged(config, seed) if is_diverged else make_result(config, seed, accuracy))


def frames(folder: SampleStudy) -> StudyFrames:
    folder.start()
    return read_study(folder.path)


@pytest.fixture
def cache(tmp_path: Path) -> FigureCache:
    (tmp_path / "figures").mkdir()
    return FigureCache(tmp_path / "figures", tmp_path / "figures.json")


def flat(blocks: list[Block]) -> list[Block]:
    """The blocks, those of panels one by one."""
    return [
        inner
        for block in blocks
        for inner in ((*block.left, *block.right) if isinstance(block, Panel) else (block,))
    ]


def findings(folder: SampleStudy, cache: FigureCache) -> list[str]:
    blocks = summary_blocks(frames(folder), cache)
    return [item for block in blocks if isinstance(block, Listing) for item in block.items]


def finding(folder: SampleStudy, cache: FigureCache) -> str:
    """The first finding."""
    return findings(folder, cache)[0]


def test_summary_of_a_study_without_results_is_title_and_count(folder: SampleStudy, cache: FigureCache) -> None:
    blocks = summary_blocks(frames(folder), cache)
    assert blocks[:2] == [
        Heading(1, THE_REPORT.title, "page-top"),
        Prose("0 of 120 runs finished; 120 not submitted · 3 seeds", is_quiet=True),
    ]
    (missing,) = blocks[2:]
    assert missing == Prose(
        "No data yet on pretraining, batch size, freezing, augmentation and network.", is_quiet=True
    )


def test_run_line_names_seeds_hours_devices_code_and_date(folder: SampleStudy) -> None:
    config = row_config("scratch.lr", "1e-2")
    folder.add(
        make_result(config, 0, started="2026-01-03T10:00:00Z"),
        make_diverged(config, 1, device=Device(type="cpu", name="EPYC"), wall_seconds=5400.0),
        make_result(config, 2, started="2026-01-02T00:00:00Z", job="1_1"),
    )
    code = "0.1.0 (aaaaaaaaaaaa)"
    assert run_line(frames(folder)) == (
        "2 of 120 runs finished; 1 diverged, 117 not submitted · 3 seeds · 1.50 CPU hours · 1.00 GPU hours · "
        f"EPYC and H200 · {code} · 2026-01-03"
    )


def test_run_line_counts_versions_of_the_code(folder: SampleStudy) -> None:
    config = row_config("scratch.lr", "1e-2")
    dirty = CODE.model_copy(update={"dirty": True})
    folder.add(make_result(config, 0, code=dirty))
    assert "0.1.0 (aaaaaaaaaaaa, uncommitted changes) ·" in run_line(frames(folder))
    folder.add(make_result(config, 1, code=CODE.model_copy(update={"commit": "b" * 40})))
    assert "2 code versions" in run_line(frames(folder))


def test_cautions_are_said_once(tmp_path: Path, cache: FigureCache) -> None:
    folder = SampleStudy(tmp_path / "runs", StudySettings(overrides={"epochs": 2}))
    folder.start(simulated=True)
    notes = [block for block in summary_blocks(read_study(folder.path), cache) if isinstance(block, Note)]
    assert [[text.partition(":")[0] for text in note.paragraphs] for note in notes] == [
        ["**Simulated", "**Overridden in every run"]
    ]


def badges(folder: SampleStudy) -> tuple[list[tuple[str, int]], str]:
    """Verdicts with their counts, and the sentence below."""
    first, *rest = agreement_badges(distinct_rows(all_rows(frames(folder))))
    assert isinstance(first, Badges)
    texts = [block.text for block in rest if isinstance(block, Prose)]
    return [(badge.verdict, badge.count) for badge in first.badges], " ".join(texts)


def test_badges_count_each_configuration_once(folder: SampleStudy) -> None:
    add(folder, "scratch.lr=5e-2", 0.44, 0.45, 0.445)  # also scratch.epochs=30
    add(folder, "scratch.lr=1e-2", 0.5, 0.51, 0.52)
    add(folder, "scratch.lr=6e-2", 0.344, 0.354)
    add(folder, "scratch.lr=1e-1", 0.9, NONE, 0.9)  # what survives has no difference
    add(folder, "transfer.diverging=LR = 5e-2", NONE)
    counts, sentence = badges(folder)
    assert counts == [("agrees", 2), ("inconclusive", 1), ("differs", 2)]
    assert sentence == (
        "Difference of measured and reported means: median 0.005, largest 0.212 "
        "(Training from scratch, learning rate 1e-2)."
    )


def test_badges_of_a_single_difference_and_of_none(folder: SampleStudy) -> None:
    add(folder, "transfer.diverging=LR = 5e-2", NONE)
    assert badges(folder) == ([("agrees", 1), ("inconclusive", 0), ("differs", 0)], "")
    add(folder, "scratch.lr=1e-2", 0.3)
    assert badges(folder)[1] == (
        "Difference of measured and reported means: 0.002 (Training from scratch, learning rate 1e-2)."
    )


@pytest.mark.parametrize("overrides", [{"batch_size": 8}, {"lr": 0.5}, {"max_images": 64}])
def test_overridden_study_shows_its_numbers_alone(
    tmp_path: Path, cache: FigureCache, overrides: dict[str, float]
) -> None:
    folder = SampleStudy(tmp_path / "runs", StudySettings(overrides=overrides))
    for key in (PRETRAINED, SCRATCH, "scratch.lr=5e-2", "scratch.lr=1e-2"):
        add(folder, key, 0.4, 0.5, 0.6)
    blocks = flat(summary_blocks(frames(folder), cache))
    assert [type(block).__name__ for block in blocks] == ["Heading", "Prose", "Note", "Table"]
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [column.heading for column in table.columns] == ["best row of", "measured"]


def best(folder: SampleStudy) -> Table:
    study = frames(folder)
    return best_table(study, best_rows(study))


def test_best_table_shows_each_network_beside_the_same_rows_reported_value(folder: SampleStudy) -> None:
    add(folder, "scratch.lr=1e-2", 0.30, 0.29, 0.31)
    add(folder, SCRATCH, 0.50, 0.51, 0.49)
    add(folder, "transfer.lr=1e-4", 0.80, 0.81, 0.79)
    add(folder, "resnet.scratch=1e-2", 0.56, 0.57, 0.55)
    add(folder, "resnet.transfer=5e-2", 0.93, 0.94, 0.93)
    table = best(folder)
    assert [row[0] for row in table.rows] == [
        "AlexNet from scratch: step size 50",
        "AlexNet pretrained: learning rate 1e-4",
        "ResNet-18 from scratch: learning rate 1e-2",
        "ResNet-18 pretrained: learning rate 5e-2",
    ]
    assert table.keys[0] == SCRATCH
    assert len(table.columns) == 5
    difference = table.rows[0][3]
    assert isinstance(difference, Interval)
    assert difference.value == pytest.approx(0.50 - 0.504)
    assert table.rows[0][4] == "agrees"


def test_another_best_row_of_the_report_is_named(folder: SampleStudy, cache: FigureCache) -> None:
    add(folder, "scratch.lr=5e-2", 0.55, 0.56, 0.57)
    add(folder, SCRATCH, 0.50, 0.51, 0.49)
    text = to_markdown(summary_blocks(frames(folder), cache))
    assert "| AlexNet from scratch: learning rate 5e-2" in text
    assert (
        "Another row is best in the report. AlexNet from scratch: step size 50 (0.504, here 0.500 ± 0.008)."
        in text
    )


def test_rows_that_show_the_same_mean_leave_the_reports_best_first(
    folder: SampleStudy, cache: FigureCache
) -> None:
    add(folder, "transfer.step_size=20", 0.8583, 0.8583, 0.8584)
    add(folder, PRETRAINED, 0.8580, 0.8582, 0.8581)
    blocks = summary_blocks(frames(folder), cache)
    assert "AlexNet pretrained: step size 30" in to_markdown(blocks)
    assert "Another row" not in to_markdown(blocks)


def test_row_is_not_best_by_the_runs_that_did_not_diverge(folder: SampleStudy) -> None:
    add(folder, "scratch.lr=1e-1", 0.9, NONE, 0.9)
    add(folder, "scratch.lr=1e-2", 0.3, 0.3, 0.3)
    assert best(folder).keys == ("scratch.lr=1e-2",)


def test_best_row_without_a_reported_value_names_the_reports(folder: SampleStudy, cache: FigureCache) -> None:
    add(folder, "resnet.batch_256=256", 0.95, 0.94, 0.95)
    add(folder, "resnet.transfer=5e-2", 0.93, 0.94, 0.93)
    text = to_markdown(summary_blocks(frames(folder), cache))
    assert "ResNet-18 pretrained: A larger batch |" in text
    assert "ResNet-18 pretrained: learning rate 5e-2 (0.934, here 0.933 ± 0.005)." in text


def test_plot_needs_three_rows_without_divergence(folder: SampleStudy, cache: FigureCache) -> None:
    add(folder, "scratch.lr=1e-2", 0.3, 0.3, 0.31)
    add(folder, "scratch.lr=5e-2", 0.4, 0.4, 0.41)
    add(folder, "scratch.lr=1e-1", 0.9, NONE)
    assert not any(isinstance(block, Panel) for block in summary_blocks(frames(folder), cache))
    add(folder, "scratch.lr=6e-2", 0.4)
    assert any(isinstance(block, Panel) for block in summary_blocks(frames(folder), cache))
    assert (cache.folder / "overview.png").exists()


@pytest.mark.parametrize(
    ("pretrained", "scratch", "sentence"),
    [
        (
            (0.859, 0.860, 0.858),
            (0.504, 0.506, 0.502),
            "Pretraining AlexNet raises accuracy from 0.504 to 0.859: +0.355 ± 0.002; *supported*.",
        ),
        (
            (0.504, 0.506, 0.502),
            (0.859, 0.860, 0.858),
            "Pretraining AlexNet lowers accuracy from 0.859 to 0.504: −0.355 ± 0.002; "
            "*contradicted* (claim: higher).",
        ),
        (
            (0.5, 0.52, 0.51),
            (0.505, 0.5, 0.51),
            "Pretraining AlexNet has no clear effect: 0.505 to 0.510, +0.005 ± 0.033; "
            "*inconclusive* (claim: higher).",
        ),
        (
            (0.5, 0.9, 0.1),
            (0.505, 0.5, 0.51),
            "Pretraining AlexNet has no clear effect: 0.505 to 0.500, −0.005 (n = 3: interval beyond ±1); "
            "*inconclusive* (claim: higher).",
        ),
        # Ties, and runs that differ alike.
        (
            (0.5, 0.5, 0.5),
            (0.5, 0.5, 0.5),
            "Pretraining AlexNet: 0.500 to 0.500, 0.000 (no spread to judge by); *inconclusive* (claim: higher).",
        ),
        (
            (0.6, 0.6, 0.6),
            (0.5, 0.5, 0.5),
            "Pretraining AlexNet: 0.500 to 0.600, +0.100 (no spread to judge by); *inconclusive* (claim: higher).",
        ),
        # n = 1 and 2
        (
            (0.859,),
            (0.504,),
            "Pretraining AlexNet: 0.504 to 0.859, +0.355 (n = 1: too few); *inconclusive* (claim: higher).",
        ),
        (
            (0.859, 0.861),
            (0.504, 0.502),
            "Pretraining AlexNet: 0.503 to 0.860, +0.357 (n = 2: too few); *inconclusive* (claim: higher).",
        ),
        # What rounding would hide.
        (
            (0.50040, 0.50040, 0.50041),
            (0.50000, 0.50000, 0.50000),
            "Pretraining AlexNet raises accuracy from 0.5000 to 0.5004: +0.0004 ± 0.0000; *supported*.",
        ),
        # Means of other seeds than the tables'.
        (
            (0.859, 0.860, 0.858, 0.1),
            (0.504, 0.506, 0.502),
            "Pretraining AlexNet raises accuracy from 0.504 to 0.859: +0.355 ± 0.002 "
            "(over the 3 seeds that both have); *supported*.",
        ),
        # Diverged runs.
        (
            (0.859, NONE, 0.858),
            (0.504, 0.506, 0.502),
            "Pretraining AlexNet: 1 of 3 runs diverged (step size 30); *inconclusive* (claim: higher).",
        ),
        (
            (NONE, NONE, NONE),
            (0.504, 0.506, 0.502),
            "Pretraining AlexNet: 3 of 3 runs diverged (step size 30); *contradicted* (claim: higher).",
        ),
    ],
)
def test_finding_says_what_its_rows_show(
    folder: SampleStudy,
    cache: FigureCache,
    pretrained: tuple[float, ...],
    scratch: tuple[float, ...],
    sentence: str,
) -> None:
    add(folder, PRETRAINED, *pretrained)
    add(folder, SCRATCH, *scratch)
    assert finding(folder, cache) == sentence


def test_finding_of_similar_rows_says_how_similar(folder: SampleStudy, cache: FigureCache) -> None:
    add(folder, PRETRAINED, 0.8580, 0.8590, 0.8600)
    add(folder, FROZEN, 0.8480, 0.8491, 0.8500)
    assert finding(folder, cache) == (
        "Freezing the convolutional layers lowers accuracy from 0.859 to 0.849: −0.010 ± 0.000; *supported* "
        "(claim: within ±0.02)."
    )


def test_finding_of_several_comparisons_names_the_row_that_decides(
    folder: SampleStudy, cache: FigureCache
) -> None:
    rows = [row.label for _, table in THE_REPORT.tables if table.name == "augment" for row in table.rows]
    for label, last in zip(rows, (0.842, 0.831, 0.80, 0.82), strict=True):
        add(folder, f"augmentation.augment={label}", 0.85, 0.84, last)
    (sentence,) = (text for text in findings(folder, cache) if text.startswith("Augmentation"))
    assert sentence.startswith(
        "Augmentation (perspective, rotation, vertical flip) has no clear effect: 0.844 to "
    )


def test_findings_without_data_are_named_together(folder: SampleStudy, cache: FigureCache) -> None:
    add(folder, PRETRAINED, 0.8580, 0.8590, 0.8600)
    add(folder, SCRATCH, 0.5, 0.51, 0.49)
    assert findings(folder, cache)[1:] == ["No data yet on batch size, freezing, augmentation and network."]


def test_finding_of_a_study_file_goes_by_its_claim(tmp_path: Path, cache: FigureCache) -> None:
    claim = "row: a.b=1, against: a.b=2, direction: lower, finding: rate"
    study = OwnStudy(tmp_path / "runs", claim, "row: a.b=1, against: a.b=3, direction: higher, finding: '*b*'")
    study.add("1", 0.5, 0.51, 0.52)
    study.add("2", 0.4, 0.41, 0.43)
    (listing,) = (
        block for block in summary_blocks(read_study(study.sample.path), cache) if isinstance(block, Listing)
    )
    assert listing.items == (
        "x: 0.413 to 0.510, +0.097 ± 0.021; *contradicted* (claim: lower).",
        r"No data yet on \*b\*.",
    )
