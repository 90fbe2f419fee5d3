"""Figures 1 to 3 come from the data set's own files, and a data set that is not there stops nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caltech_exp.data.splits import IMAGES, read_data_set
from caltech_exp.reporting.composite import TILE, class_averages
from caltech_exp.reporting.dataset_figures import draw_averages, draw_distribution
from tests.reporting.conftest import Page, SampleStudy


def test_averages_are_those_of_the_images(tmp_path: Path) -> None:
    for name, left in (("dark_left", 0), ("dark_right", 255)):
        (tmp_path / IMAGES / name).mkdir(parents=True)
        pixels = np.full((60, 80, 3), left, dtype=np.uint8)
        pixels[:, 40:] = 255 - left
        for number in (1, 2):
            Image.fromarray(pixels).save(tmp_path / IMAGES / name / f"{number}.png")
    for split, number in (("train", 1), ("test", 2)):
        (tmp_path / f"{split}.txt").write_text(f"dark_left/{number}.png\ndark_right/{number}.png\n")
    averages = class_averages(read_data_set(tmp_path), 60)
    left_tile, right_tile = averages.tiles
    assert left_tile is not None
    assert right_tile is not None
    assert left_tile.shape == (*TILE, 3)
    assert left_tile[:, 5].mean() == pytest.approx(0, abs=0.01)
    assert left_tile[:, -5].mean() == pytest.approx(1, abs=0.01)
    assert right_tile[:, 5].mean() == pytest.approx(1, abs=0.01)


def test_every_class_has_a_bar_a_name_and_its_count(stand_in: Path) -> None:
    data = read_data_set(stand_in)
    figure = draw_distribution("Figure 3", "test", data, data.test)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(data.classes)
    widths = {name: bar.get_width() for name, bar in zip(data.classes, axes.patches, strict=True)}  # type: ignore[attr-defined]
    assert widths["airplanes"] == sum(sample.path.startswith("airplanes/") for sample in data.test)
    assert sum(widths.values()) == len(data.test)


def test_every_class_has_a_tile_with_its_name(stand_in: Path) -> None:
    data = read_data_set(stand_in)
    figure = draw_averages("Figure 1", data, class_averages(data, 60))
    assert [text.get_text() for text in figure.axes[0].texts] == list(data.classes)


def test_the_page_shows_all_three_and_says_what_they_are(folder: SampleStudy, page: Page, stand_in: Path) -> None:
    folder.start()
    text = page(folder, str(stand_in))
    assert [f"](figures/figure-0{number}.png)" in text for number in (1, 2, 3)] == [True] * 3
    assert "**Figures 1 to 3 do not show Caltech-101**" in text
    assert "**Figures 1 to 3 do not show this study's data:**" in text
    svg = (folder.path.parent / "out" / "figures" / "figure-02.svg").read_text()
    assert "<!-- Not Caltech-101: generated stand-in data -->" in svg


def test_the_environment_then_the_study_name_the_data(
    folder: SampleStudy, page: Page, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.start(root=str(stand_in))
    assert "](figures/figure-01.png)" in page(folder)
    monkeypatch.setenv("CALTECH101_ROOT", "/no/such/folder")
    text = page(folder)
    assert "](figures/figure-01.png)" not in text
    assert "data folder /no/such/folder does not exist" in text


@pytest.mark.parametrize("root", ["", "/no/such/folder", "x" * 5000])
def test_without_a_data_set_the_page_says_what_to_set(folder: SampleStudy, page: Page, root: str) -> None:
    text = page(folder, root)
    assert "`data=DIR`" in text
    assert "`CALTECH101_ROOT`" in text
    assert "## Provenance" in text


def test_unreadable_images_are_left_out_and_named(
    folder: SampleStudy, page: Page, stand_in: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(stand_in, broken)
    for image in (broken / IMAGES / "wrench").iterdir():
        image.write_text("no image")
    text = page(folder, str(broken))
    assert "](figures/figure-01.png)" in text
    assert "wrench/image_0001.jpg: cannot identify image file" in text
