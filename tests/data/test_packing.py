"""Writing a pack, completely or not at all."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from caltech_exp.cli import UserError
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import write_pack
from caltech_exp.data.splits import read_data_set


@pytest.mark.parametrize(("split", "file"), [("train", "train"), ("val", "train"), ("test", "test")])
def test_damaged_image_is_named_and_leaves_no_pack(split: str, file: str, stand_in: Path, tmp_path: Path) -> None:
    contents = split_contents(
        read_data_set(Path(shutil.copytree(stand_in, tmp_path / "data"))), split, 0, "center"
    )
    sample = contents.samples[len(contents.samples) // 2]
    contents.data.image_path(sample).write_bytes(b"\xff\xd8 broken")
    (tmp_path / "packs").mkdir()
    with pytest.raises(UserError) as caught:
        write_pack(tmp_path / "packs", "p", contents)
    assert f"damaged image {contents.data.image_path(sample)} ({file}.txt line {sample.line})" in str(caught.value)
    assert list((tmp_path / "packs").iterdir()) == []


@pytest.mark.parametrize(
    ("side", "problem"),
    [((9000, 9000), "is larger than 67,108,864 pixels"), ((1, 60_000), "has 1 x 60000 pixels, one side more")],
)
def test_image_that_would_take_gigabytes_is_named(
    side: tuple[int, int], problem: str, stand_in: Path, tmp_path: Path
) -> None:
    data = read_data_set(Path(shutil.copytree(stand_in, tmp_path / "data")))
    sample = data.val[0]
    Image.new("1", side).save(data.image_path(sample), "PNG")
    with pytest.raises(UserError, match=re.escape(f"{sample.path} (train.txt line {sample.line}) {problem}")):
        write_pack(tmp_path, "p", split_contents(data, "val", 5, "center"))


def test_write_pack_reports_what_it_packed(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pack(tmp_path, "p", split_contents(read_data_set(stand_in), "test", 20, "center"))
    assert f"packed 20 images of test (center) as {tmp_path / 'p.u8'}: 3 MB, " in capsys.readouterr().out
