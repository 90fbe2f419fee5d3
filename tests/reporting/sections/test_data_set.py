"""The figures of the data set come from the data set's own files, and a missing data set stops nothing."""

import shutil
from pathlib import Path

import pytest

from caltech_exp.data.splits import IMAGES
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Block, Listing, Picture, Prose
from caltech_exp.reporting.sections.data_set import data_set_blocks
from tests.reporting.conftest import SampleStudy, make_result, row_config


def blocks_of(sample: SampleStudy, root: str = "") -> list[Block]:
    """The blocks with a data= option; pictures are drawn beside the study."""
    sample.add(make_result(row_config("scratch.lr", "5e-2"), 0))
    study, out = read_study(sample.path), sample.path.parent / "out"
    (out / "figures").mkdir(parents=True, exist_ok=True)
    cache = FigureCache(out / "figures", out / "index.json")
    blocks = [b for section in study.catalog.sections for b in data_set_blocks(study, section, root, cache)]
    cache.finish()
    return blocks


def text(blocks: list[Block]) -> str:
    return "\n".join(block.text for block in blocks if isinstance(block, Prose))


def names(blocks: list[Block]) -> list[str]:
    return [block.name for block in blocks if isinstance(block, Picture)]


def test_all_three_figures_are_two_pictures_that_say_what_they_are(folder: SampleStudy, stand_in: Path) -> None:
    folder.start()
    blocks = blocks_of(folder, str(stand_in))
    assert names(blocks) == ["figure-01", "figure-02"]
    assert "**The figures of the data set do not show Caltech-101**" in text(blocks)
    assert "**The figures of the data set do not show this study's data:**" in text(blocks)
    first, both = (block for block in blocks if isinstance(block, Picture))
    assert first.caption.startswith("Figure 1. Composition of averages")
    assert both.caption.startswith("Figures 2 and 3. Number of images per class in training & validation split; ")
    svg = (folder.path.parent / "out" / "figures" / "figure-02.svg").read_text()
    assert "<!-- Not Caltech-101: generated stand-in data -->" in svg
    assert "the test split holds" in svg


def test_environment_then_study_names_the_data(
    folder: SampleStudy, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.start(root=str(stand_in))
    assert "figure-01" in names(blocks_of(folder))
    monkeypatch.setenv("CALTECH101_ROOT", "/no/such/folder")
    blocks = blocks_of(folder)
    assert names(blocks) == []
    assert "data folder /no/such/folder does not exist" in text(blocks)


@pytest.mark.parametrize("root", ["", "/no/such/folder", "x" * 5000])
def test_without_a_data_set_one_line_says_what_to_set(folder: SampleStudy, root: str) -> None:
    blocks = blocks_of(folder, root)
    assert len(blocks) == 1
    assert "`data=DIR`" in text(blocks)
    assert "`CALTECH101_ROOT`" in text(blocks)


def test_unreadable_images_are_left_out_and_named(folder: SampleStudy, stand_in: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(stand_in, broken)
    for image in (broken / IMAGES / "wrench").iterdir():
        image.write_text("no image")
    for _ in range(2):  # drawn, and from the cache
        blocks = blocks_of(folder, str(broken))
        assert "figure-01" in names(blocks)
        (listing,) = (block for block in blocks if isinstance(block, Listing))
        assert any("wrench/image_0001.jpg: cannot identify image file" in item for item in listing.items)
