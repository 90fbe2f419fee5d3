"""The stand-in's command line."""

from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.data.splits import read_data_set
from caltech_exp.standin import main


def test_a_folder_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "a b")]) == 0
    first = (tmp_path / "a b" / "train.txt").stat().st_mtime_ns
    assert main([str(tmp_path / "a b")]) == 0
    assert (tmp_path / "a b" / "train.txt").stat().st_mtime_ns == first
    assert read_data_set(tmp_path / "a b").stand_in
    assert capsys.readouterr().out == f"stand-in data set: {tmp_path / 'a b'}\n" * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "takes FOLDER or FOLDER weights"),
        (["a", "wieghts"], "takes FOLDER or FOLDER weights"),
        (["/dev/null"], r"/dev/null cannot be written \(File exists\)"),
        (["/dev/null/folder"], r"/dev/null/folder cannot be written \(Not a directory\)"),
        (["~nobody_of_this_name/folder"], "FOLDER=~nobody_of_this_name/folder: "),
    ],
)
def test_mistakes_are_told(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(words)
