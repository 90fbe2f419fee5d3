"""What keeps numbers from being compared is said at the top, in every section and in every picture."""

import re

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import PIN, RunConfig
from caltech_exp.reporting.banner import cautions, picture_caution
from caltech_exp.study.results import DataRecord
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import PRINT, Page, SampleStudy, make_result, row_config

NOT_CALTECH = "**These numbers are not Caltech-101:**"
STAND_IN = DataRecord(fingerprint=PRINT, stand_in=True, train_images=9, val_images=9, test_images=9)


def sections(text: str) -> list[str]:
    """The page's head and each of its sections."""
    return re.split(r"^## ", text, flags=re.MULTILINE)


def test_the_real_thing_carries_no_caution(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(RunConfig(), 0))
    assert cautions(folder.collect()) == []
    assert "\n>" not in page(folder)


def test_a_stand_in_study_says_so_in_every_section(folder: SampleStudy, page: Page) -> None:
    folder.start(stand_in=True)
    parts = sections(page(folder))
    assert len(parts) == 11
    assert [part.count(NOT_CALTECH) for part in parts] == [1] * 11


def test_one_stand_in_result_is_enough(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(make_result(RunConfig(), 0, data=STAND_IN))
    assert all(NOT_CALTECH in part for part in sections(page(folder)))


def test_pictures_carry_the_caution(folder: SampleStudy, page: Page) -> None:
    folder.start(stand_in=True)
    folder.add(make_result(RunConfig(), 0))
    page(folder)
    caution = picture_caution(folder.collect(), RunConfig())
    assert caution == "Not Caltech-101: generated stand-in data"
    svg = (folder.path.parent / "out" / "figures" / "figure-05.svg").read_text()
    assert f"<!-- {caution} -->" in svg


def test_overrides_are_named_in_every_section(folder: SampleStudy, page: Page) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"epochs": 1, "max_images": 64}))
    folder.start()
    parts = sections(page(folder))
    assert all("`epochs=1 max_images=64`" in part for part in parts)
    assert all("measured and reported numbers are not comparable" in part for part in parts)


def test_overriding_only_how_runs_are_computed_is_no_other_training(folder: SampleStudy, page: Page) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"precision": "fp32"}))
    folder.start()
    assert cautions(folder.collect()) == []
    text = page(folder)
    assert "instead" not in text  # the report's settings say nothing of it
    assert text.count("Computed with the fast engine in fp32.") == len(THE_REPORT.tables)


def test_replaced_imagenet_weights_are_named(folder: SampleStudy, page: Page) -> None:
    pinned = f"/weights/$net$.pth{PIN}{'c' * 64}"
    folder = SampleStudy(folder.path, StudySettings(imagenet_weights={"alexnet": pinned}))
    folder.start()
    pretrained = folder.settings.apply(RunConfig(weights="imagenet"))
    folder.add(make_result(pretrained, 0))
    text = page(folder)
    assert text.count("start from other weights here, `alexnet: $net$.pth (sha256 cccccccccccc)`") == 11
    assert picture_caution(folder.collect(), RunConfig()) == ""
    assert "Not from ImageNet weights" in picture_caution(folder.collect(), pretrained)
    assert (folder.path.parent / "out" / "figures" / "figure-10.png").stat().st_size > 0


@pytest.mark.parametrize(("images", "said"), [(5784, False), (5000, True)])
def test_another_selection_of_images(folder: SampleStudy, page: Page, images: int, said: bool) -> None:
    folder.start(train_val_images=images)
    assert ("5,000 + 2,893" in page(folder)) == said


def test_results_without_a_study_record(folder: SampleStudy, page: Page) -> None:
    config = row_config("scratch.lr", "1e-2")
    folder.add(make_result(config, 0, 0.3, data=STAND_IN))
    text = page(folder)
    assert "holds no study.json" in text
    assert all(NOT_CALTECH in part for part in sections(text))
