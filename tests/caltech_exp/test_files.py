"""Atomic writing."""

import os
from pathlib import Path

import pytest

from caltech_exp.errors import UserError
from caltech_exp.files import folder_if_it_succeeds, make_own_folder, write_atomically


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


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o027])
def test_a_folder_of_ones_own_is_closed_to_others_whatever_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        make_own_folder(tmp_path / "shared" / "mine")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "shared" / "mine").stat().st_mode & 0o777 == 0o755 & ~mask
    (tmp_path / "shared" / "mine").chmod(0o2775)
    make_own_folder(tmp_path / "shared" / "mine")
    assert (tmp_path / "shared" / "mine").stat().st_mode & 0o7777 == 0o2755


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("permissions are not kept", "can be written by other users; use another runs= folder"),
        ("a link", "is no folder; use another runs= folder"),
        ("another user's", "belongs to .*, not to .* who would execute it; use another runs= folder"),
    ],
)
def test_a_folder_that_others_can_write_is_refused(
    what: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    folder = tmp_path / "mine"
    if what == "a link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o775 if what == "permissions are not kept" else 0o755)
    if what == "another user's":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(UserError, match=rf"{folder} {message}"):
        make_own_folder(folder)
