"""The report as a whole: its order, what it leaves out, and what a selection leaves of it."""

import re
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT, table_key
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.page import Report, build_report
from caltech_exp.reporting.render.blocks import Block, Details, Heading, Note, Panel, Picture, Prose
from caltech_exp.reporting.render.markdown import to_markdown
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import SampleStudy, make_result, row_config

APPENDIX = ["Methods", "Data set", "Agreement in detail", "Interpretations", "Classes", "Cost", "Provenance"]


@pytest.fixture
def study(folder: SampleStudy) -> StudyFrames:
    """Three runs of two rows of a table, and of one row of another section; no data set."""
    folder.start()
    for key, label in (("scratch.lr", "5e-2"), ("scratch.lr", "1e-2"), ("resnet.scratch", "1e-2")):
        for seed in range(3):
            folder.add(make_result(row_config(key, label), seed, 0.44 + seed / 100))
    return read_study(folder.path)


def build(study: StudyFrames, tmp_path: Path, *, tables: tuple[str, ...] = ()) -> Report:
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    return build_report(study.restrict(study.catalog.restrict(tables=tables)) if tables else study, out)


def headings(report: Report, level: int) -> list[Heading]:
    return [block for block in report.blocks if isinstance(block, Heading) and block.level == level]


def texts(report: Report) -> list[str]:
    return [block.text for block in report.blocks if isinstance(block, Prose)]


def test_report_has_its_sections_in_order_then_the_appendix(study: StudyFrames, tmp_path: Path) -> None:
    report = build(study, tmp_path)
    first = report.blocks[0]
    assert isinstance(first, Heading)
    assert (first.level, first.anchor) == (1, "page-top")
    chapters = headings(report, 2)
    shown = [(heading.number, heading.anchor) for heading in chapters if not heading.is_appendix]
    assert shown == [("1", "scratch"), ("4", "resnet"), ("5", "page-conclusions")]
    assert [heading.text for heading in chapters if heading.is_appendix] == APPENDIX
    tables = [table_key(section.name, table.name) for section, table in THE_REPORT.tables]
    assert [heading.anchor for heading in headings(report, 3)] == [
        name for name in tables if name.startswith(("scratch.", "resnet."))
    ]


def test_sections_without_results_are_one_line(study: StudyFrames, tmp_path: Path) -> None:
    (line,) = [text for text in texts(build(study, tmp_path)) if text.startswith("No results yet: ")]
    assert line.startswith("No results yet: 2. Transfer learning and 3. Data augmentation. To get them: `python ")
    assert "section=transfer,augmentation" in line


def test_rows_of_other_weights_have_a_heading_of_their_own(folder: SampleStudy, tmp_path: Path) -> None:
    weights = {"resnet18": f"/secret/resnet18.pth@sha256:{'a' * 64}"}
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights=weights))
    sample.start()
    record = StudyFolder(sample.path).require_study()
    origins = {"a" * 64: "Trained on *ImageNet* with CNTK."}
    StudyFolder(sample.path).write_study(record.model_copy(update={"weights_origins": origins}))
    for table, mean in (("resnet.scratch", 0.44), ("resnet.transfer", 0.92)):
        config = sample.settings.apply(row_config(table, "1e-3"))
        sample.add(*(make_result(config, seed, mean + seed / 1000) for seed in range(3)))
    report = build(read_study(sample.path), tmp_path)
    chapters = [heading for heading in headings(report, 2) if not heading.is_appendix]
    assert [(heading.text, heading.anchor) for heading in chapters[:2]] == [
        ("Extra: ResNet-18", "resnet"),
        ("Extra: ResNet-18, with other ImageNet weights", "resnet-other-weights"),
    ]
    start, end = (report.blocks.index(heading) for heading in chapters[1:3])
    own = report.blocks[start:end]
    (note,) = [block for block in own if isinstance(block, Note)]
    assert note.paragraphs == (
        "These rows start from other ImageNet weights than the report's: `resnet18.pth (sha256 aaaaaaaaaaaa)`, "
        "not torchvision's. A difference may come from the weights.",
    )
    (origin,) = [block for block in own if isinstance(block, Details) and block.summary.startswith("Where these")]
    assert origin.blocks == (Prose(r"`resnet18.pth (sha256 aaaaaaaaaaaa)`: Trained on \*ImageNet\* with CNTK."),)
    assert [heading.anchor for heading in own if isinstance(heading, Heading)][1:] == [
        "resnet.transfer-other-weights",
        "resnet.batch_256-other-weights",
    ]
    names = {table.name for table in report.tables}
    assert {"resnet.scratch", "resnet.transfer-other-weights"} <= names
    assert "resnet.transfer" not in names
    text = to_markdown(report.blocks)
    assert "With other ImageNet weights: 1 of 1 row agrees with the report." in text
    assert "3. Data augmentation. No ImageNet weights of AlexNet were given; put alexnet.pth" in text


def test_table_stands_beside_its_plot_and_the_rest_is_folded(study: StudyFrames, tmp_path: Path) -> None:
    blocks = build(study, tmp_path).blocks
    start = next(
        i for i, block in enumerate(blocks) if isinstance(block, Heading) and block.anchor == "scratch.lr"
    )
    panel = next(block for block in blocks[start:] if isinstance(block, Panel))
    assert [type(block) for block in panel.right] == [Picture]
    fold = next(block for block in blocks[start:] if isinstance(block, Details))
    assert fold.summary == "Details and Figure 6"
    assert [block.number for block in fold.blocks if isinstance(block, Picture) and block.number] == [6]


def test_no_section_can_take_an_anchor_of_the_reports_own_chapters(study: StudyFrames, tmp_path: Path) -> None:
    sections = {section.name for section in THE_REPORT.sections}
    report = build(study, tmp_path)
    own = {heading.anchor for level in (1, 2) for heading in headings(report, level)} - sections
    assert len(own) == len(APPENDIX) + 2
    assert not [name for name in own if re.fullmatch("[a-z][a-z0-9_]*", name)]


def test_tables_with_files_have_names_of_their_own(study: StudyFrames, tmp_path: Path) -> None:
    names = [table.name for table in build(study, tmp_path).tables]
    assert len(names) == len(set(names))
    assert {"best", "scratch.lr", "resnet.scratch", "claims", "networks", "agreement", "cost_by_row"} <= set(names)


def test_selection_restricts_the_report(study: StudyFrames, tmp_path: Path) -> None:
    report = build(study, tmp_path, tables=("scratch.lr=5e-2",))
    assert [heading.anchor for heading in headings(report, 3)] == ["scratch.lr"]
    table = next(table for table in report.tables if table.name == "scratch.lr")
    assert [row[0] for row in table.rows] == ["5e-2"]
    assert not [text for text in texts(report) if text.startswith("No results yet")]


def test_study_without_results_has_a_report(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start()
    report = build(read_study(folder.path), tmp_path)
    assert headings(report, 3) == []
    (line,) = [text for text in texts(report) if text.startswith("No results yet: ")]
    assert "1. Training from scratch" in line


def test_every_picture_of_the_report_is_drawn(study: StudyFrames, tmp_path: Path) -> None:
    def pictures(blocks: tuple[Block, ...]) -> list[Picture]:
        nested: list[Picture] = []
        for block in blocks:
            match block:
                case Picture():
                    nested.append(block)
                case Panel(left, right):
                    nested += pictures((*left, *right))
                case Details(_, content):
                    nested += pictures(content)
        return nested

    report = build(study, tmp_path)
    drawn = pictures(report.blocks)
    assert len(drawn) == len({picture.name for picture in drawn}) > 4
    for picture in drawn:
        for kind in ("png", "svg"):
            assert (tmp_path / "out" / picture.path(kind)).stat().st_size > 1000
