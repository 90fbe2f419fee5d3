"""Writing a pack, completely or not at all."""

import shutil
from pathlib import Path

import pytest

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


def test_write_pack_reports_what_it_packed(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pack(tmp_path, "p", split_contents(read_data_set(stand_in), "test", 20, "center"))
    assert f"packed 20 images of test (center) as {tmp_path / 'p.u8'}: 3 MB, " in capsys.readouterr().out
