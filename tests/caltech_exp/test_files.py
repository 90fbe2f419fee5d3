"""Atomic writing."""

import os
from pathlib import Path

import pytest

from caltech_exp.files import folder_if_it_succeeds, write_atomically


def test_replaces_the_whole_file_with_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "ü b.json"
    write_atomically(path, "long old text")
    write_atomically(path, "new ü")
    assert path.read_text() == "new ü"
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["plain", path.name]  # noqa: PTH208


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_folder_goes_again_if_nothing_came_of_it(tmp_path: Path) -> None:
    def fail_in(folder: Path, *, after_writing: bool) -> None:
        with folder_if_it_succeeds(folder):
            if after_writing:
                (folder / "file").write_text("kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "a" / "b", after_writing=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "c" / "d", after_writing=True)
    assert (tmp_path / "c" / "d" / "file").read_text() == "kept"
