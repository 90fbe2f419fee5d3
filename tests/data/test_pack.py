"""The files of a pack: the reference's pixels, and only an undamaged pack is opened."""

import re
import shutil
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from caltech_exp.data.pack_format import Layout, PackContents, index_file, pixel_file, split_contents
from caltech_exp.data.packs import Pack, load_pack, write_pack
from caltech_exp.data.splits import DataSet, read_data_set
from tests.tools.damages import DAMAGES


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture(scope="module")
def contents(data: DataSet) -> PackContents:
    return split_contents(data, "val", 6, "center")


@pytest.fixture(scope="module")
def packed(contents: PackContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pack `p`."""
    folder = tmp_path_factory.mktemp("packed")
    write_pack(folder, "p", contents)
    return folder


def image(pack: Pack, number: int) -> torch.Tensor:
    height, width = int(pack.heights[number]), int(pack.widths[number])
    first = int(pack.offsets[number])
    return pack.pixels[first : first + height * width].view(height, width, 3)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("layout", ["center", "resized"])
def test_pack_pixels_equal_the_reference_transforms(
    split: str, layout: Layout, caltech101: Path, tmp_path: Path
) -> None:
    contents = split_contents(read_data_set(caltech101), split, 16, layout)
    write_pack(tmp_path, "p", contents)
    pack = load_pack(tmp_path, "p", contents)
    assert isinstance(pack, Pack)
    assert len(pack.heights) == len(contents.samples) == 16
    for number, sample in enumerate(contents.samples):
        with Image.open(contents.data.image_path(sample)) as file:
            expected = Resize(256)(file.convert("RGB"))
        if layout == "center":
            expected = CenterCrop(224)(expected)
        assert np.array_equal(image(pack, number).numpy(), np.asarray(expected)), sample


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pack_is_not_opened(damage: str, packed: Path, contents: PackContents, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "damaged"))
    harm, reason = DAMAGES[damage]
    harm(folder, "p")
    found = load_pack(folder, "p", contents)
    assert isinstance(found, str)
    assert re.search(reason, found)


def test_pack_of_other_images_is_not_opened(packed: Path, data: DataSet) -> None:
    other = split_contents(data, "test", 6, "center")
    assert "has changed" in str(load_pack(packed, "p", other))


def test_pack_of_another_layout_is_not_opened(packed: Path, data: DataSet) -> None:
    other = split_contents(data, "val", 6, "resized")
    assert load_pack(packed, "p", other) == "its index is of other images"


def test_pack_file_never_changes(packed: Path, contents: PackContents) -> None:
    before = pixel_file(packed, "p").read_bytes()
    pack = load_pack(packed, "p", contents)
    assert isinstance(pack, Pack)
    pack.pixels.zero_()
    assert pixel_file(packed, "p").read_bytes() == before


def test_pack_name_depends_on_images_layout_and_decoder(
    data: DataSet, contents: PackContents, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {
        split_contents(data, "test", 6, "center").name,
        split_contents(data, "val", 7, "center").name,
        split_contents(data, "val", 6, "resized").name,
    }
    monkeypatch.setattr(PIL, "__version__", "0.0")
    assert len({*others, contents.name}) == 4
    monkeypatch.undo()
    assert contents.name not in others
    assert contents.name == split_contents(data, "val", 6, "center").name


def test_pack_name_does_not_depend_on_the_data_folder(contents: PackContents, tmp_path: Path) -> None:
    elsewhere = read_data_set(Path(shutil.copytree(contents.data.root, tmp_path / "data")))
    assert split_contents(elsewhere, "val", 6, "center").name == contents.name


def test_pack_is_readable_by_others(packed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for part in (pixel_file, index_file):
        assert part(packed, "p").stat().st_mode == plain.stat().st_mode
