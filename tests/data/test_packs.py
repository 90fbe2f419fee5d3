"""Opening packs: each is made once, never half, and again when it is damaged."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.data.pack_format import PackContents, index_file, pixel_file, split_contents
from caltech_exp.data.packs import (
    ABANDONED_SECONDS,
    Pack,
    PackStore,
    load_pack,
    open_pack,
    shared_pack,
    write_pack,
)
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.files import new_file
from tests.conftest import CHECKOUT, Disk
from tests.tools.damages import DAMAGES, flip_a_bit
from tests.tools.testbed import until

IMAGES = 16
"""Images of a pack here, 2.4 MB."""


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture(scope="module")
def contents(data: DataSet) -> PackContents:
    return split_contents(data, "val", IMAGES, "center")


@pytest.fixture(scope="module")
def pixels(contents: PackContents, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The pixels of an undamaged pack of the contents."""
    return shared_pack(tmp_path_factory.mktemp("whole"), contents).pixels


def copied(data: DataSet, folder: Path) -> DataSet:
    """The same images elsewhere, with other times of change."""
    return read_data_set(Path(shutil.copytree(data.root, folder, copy_function=shutil.copy)))


def identity(file: Path) -> tuple[int, int]:
    """Changes when a file is written or replaced."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def files_but_locks(folder: Path) -> list[str]:
    """Every file in the folder but the locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def reopened(store: PackStore, data: DataSet) -> Path:
    """The file of the pack that another process would open now."""
    return open_pack(store, split_contents(data, "val", IMAGES, "center")).path


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pack_is_made_again(
    damage: str, contents: PackContents, pixels: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared_pack(tmp_path, contents)
    DAMAGES[damage][0](tmp_path, contents.name)
    capsys.readouterr()
    assert torch.equal(shared_pack(tmp_path, contents).pixels, pixels)
    assert "packed 16 images of val" in capsys.readouterr().out
    assert files_but_locks(tmp_path) == [f"{contents.name}.json", f"{contents.name}.u8"]


def test_pack_of_a_newer_version_is_kept(contents: PackContents, tmp_path: Path) -> None:
    shared_pack(tmp_path, contents)
    index_file(tmp_path, contents.name).write_text('{"schema_version": 2}')
    with pytest.raises(UserError, match=r"made by a newer version of caltech_exp \(schema 2\); .* with packs=$"):
        shared_pack(tmp_path, contents)
    assert index_file(tmp_path, contents.name).read_text() == '{"schema_version": 2}'


def test_sound_pack_is_opened_unchanged(
    contents: PackContents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shared_pack(tmp_path, contents)
    before = identity(first.path)
    capsys.readouterr()
    shared_pack(tmp_path, contents)
    assert identity(first.path) == before
    assert capsys.readouterr().out == ""


def test_pack_of_a_replaced_image_of_equal_size_is_made_again(data: DataSet, tmp_path: Path) -> None:
    contents = split_contents(copied(data, tmp_path / "data"), "val", IMAGES, "center")
    old = shared_pack(tmp_path / "packs", contents)
    ours, other = sorted(
        (contents.data.image_path(sample) for sample in contents.samples[:2]), key=lambda f: -f.stat().st_size
    )
    size = ours.stat().st_size
    ours.write_bytes(other.read_bytes().ljust(size, b"\0"))  # a decoder stops at the end of the picture
    new = shared_pack(tmp_path / "packs", contents)
    assert new.path == old.path
    first, second = new.pixels.view(IMAGES, -1)[:2]
    assert torch.equal(first, second)
    assert not torch.equal(new.pixels, old.pixels)


def test_copied_data_set_has_the_same_pack(
    data: DataSet, contents: PackContents, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shared_pack(tmp_path / "packs", contents)
    before = identity(first.path), identity(index_file(first.path.parent, contents.name))
    elsewhere = split_contents(copied(data, tmp_path / "data"), "val", IMAGES, "center")
    assert all(
        elsewhere.data.image_path(sample).stat().st_mtime_ns != contents.data.image_path(sample).stat().st_mtime_ns
        for sample in contents.samples
    )
    capsys.readouterr()
    assert shared_pack(tmp_path / "packs", elsewhere).path == first.path
    assert (identity(first.path), identity(index_file(first.path.parent, contents.name))) == before
    assert capsys.readouterr().out == ""


STOPS = """
import sys, time
from pathlib import Path
from caltech_exp.data.dataset import Caltech
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import shared_pack
from caltech_exp.data.splits import read_data_set

contents = split_contents(read_data_set(Path(sys.argv[1])), "train", 0, "center")
load = Caltech.load

def load_or_stop(images, sample):
    if sample == contents.samples[100]:
        time.sleep(600)
    return load(images, sample)

Caltech.load = load_or_stop
shared_pack(Path(sys.argv[2]), contents)
"""
"""Packs a data set up to its hundredth image."""


def test_killed_process_leaves_no_pack_and_its_file_is_removed(data: DataSet, tmp_path: Path) -> None:
    contents = split_contents(data, "train", 0, "center")
    killed = subprocess.Popen([sys.executable, "-c", STOPS, str(data.root), str(tmp_path)], cwd=CHECKOUT)
    until(lambda: any(left.stat().st_size for left in tmp_path.glob(".*.u8.*")))
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not pixel_file(tmp_path, contents.name).exists()
    assert load_pack(tmp_path, contents.name, contents) == "missing"
    assert len(shared_pack(tmp_path, contents).heights) == len(data.train)
    whole = [f"{contents.name}.json", f"{contents.name}.u8"]
    (left,) = (tmp_path / name for name in files_but_locks(tmp_path) if name not in whole)
    before = left.stat().st_mtime - ABANDONED_SECONDS - 1  # nobody can tell yet that it is not written any more
    os.utime(left, (before, before))
    shared_pack(tmp_path, contents)
    assert files_but_locks(tmp_path) == whole


OPENS = """
import os, sys, zlib
from pathlib import Path
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import PackStore, open_pack
from caltech_exp.data.splits import read_data_set

data = read_data_set(Path(sys.argv[1]))
waiting, go = os.pipe()
children = []
for _ in range(4):
    if not (child := os.fork()):
        os.close(go)
        os.read(waiting, 1)  # until all four are there
        pack = open_pack(PackStore(Path(sys.argv[2])), split_contents(data, "train", 0, "center"))
        print("pixels", zlib.crc32(pack.pixels.numpy()), flush=True)
        os._exit(0)
    children.append(child)
os.close(go)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def test_four_processes_make_a_pack_once(data: DataSet, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENS, str(data.root), str(tmp_path)],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("packed ") == 1
    pixels = re.findall(r"pixels (\d+)", done.stdout)
    assert (len(pixels), len(set(pixels))) == (4, 1)


def test_full_disk_is_reported_and_leaves_nothing(contents: PackContents, small_disk: Disk) -> None:
    folder = small_disk.path / "packs"
    with pytest.raises(UserError) as caught:
        shared_pack(folder, contents)
    assert f"packs folder {folder}: No space left on device; make room there, choose another" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_but_locks(folder) == []


def test_pack_is_made_once_there_is_room(contents: PackContents, pixels: torch.Tensor, small_disk: Disk) -> None:
    with pytest.raises(UserError):
        shared_pack(small_disk.path, contents)
    small_disk.change("size=16m")
    assert torch.equal(shared_pack(small_disk.path, contents).pixels, pixels)


def test_impossible_folder_is_reported(contents: PackContents, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"packs folder .*file/packs: Not a directory; make room there, choose another"
    ):
        shared_pack(tmp_path / "file" / "packs", contents)


def test_read_only_disk_is_reported(contents: PackContents, small_disk: Disk) -> None:
    small_disk.change("ro")
    with pytest.raises(UserError, match=r"Read-only file system; .* with python jobs/prepare.py"):
        shared_pack(small_disk.path, contents)


def test_sound_pack_on_a_read_only_disk_is_used(contents: PackContents, small_disk: Disk) -> None:
    small_disk.change("size=16m")
    write_pack(small_disk.path, contents.name, contents)  # by somebody else, perhaps: no lock file either
    small_disk.change("ro")
    assert shared_pack(small_disk.path, contents).path == pixel_file(small_disk.path, contents.name)


def test_pack_is_copied_to_the_node_once(
    data: DataSet, pixels: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = PackStore(tmp_path / "shared", tmp_path / "node")
    file = reopened(store, data)
    assert file.parent == tmp_path / "node"
    assert files_but_locks(tmp_path / "node") == files_but_locks(tmp_path / "shared")
    assert torch.equal(open_pack(store, split_contents(data, "val", IMAGES, "center")).pixels, pixels)
    before = identity(file)
    capsys.readouterr()
    assert identity(reopened(store, data)) == before
    assert capsys.readouterr().out == ""


def test_damaged_copy_on_the_node_is_copied_again(
    data: DataSet, contents: PackContents, pixels: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = PackStore(tmp_path / "shared", tmp_path / "node")
    reopened(store, data)
    before = identity(pixel_file(store.shared, contents.name))
    flip_a_bit(tmp_path / "node", contents.name)
    capsys.readouterr()
    assert reopened(store, data).parent == tmp_path / "node"
    assert torch.equal(open_pack(store, split_contents(data, "val", IMAGES, "center")).pixels, pixels)
    assert identity(pixel_file(store.shared, contents.name)) == before
    assert "packed " not in capsys.readouterr().out


def test_full_disk_on_the_node_falls_back_to_the_shared_pack(
    data: DataSet, tmp_path: Path, small_disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    store = PackStore(tmp_path / "shared", small_disk.path)
    assert reopened(store, data).parent == tmp_path / "shared"
    told = f"packs on the node, {small_disk.path}: No space left on device; using {tmp_path / 'shared'}\n"
    assert told in capsys.readouterr().out
    assert files_but_locks(small_disk.path) == []


def test_impossible_folder_on_the_node_falls_back_to_the_shared_pack(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    store = PackStore(tmp_path / "shared", tmp_path / "file" / "node")
    assert reopened(store, data).parent == tmp_path / "shared"
    assert "Not a directory; using" in capsys.readouterr().out


def test_unwritable_shared_folder_is_reported_despite_the_node(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"packs folder .*file/shared: Not a directory"):
        reopened(PackStore(tmp_path / "file" / "shared", tmp_path / "node"), data)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks."""

    def refused(_handle: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)


@pytest.mark.usefixtures("no_locks")
def test_pack_is_made_without_locks(contents: PackContents, pixels: torch.Tensor, tmp_path: Path) -> None:
    assert torch.equal(shared_pack(tmp_path, contents).pixels, pixels)


@pytest.mark.usefixtures("no_locks")
def test_two_processes_without_locks_both_make_the_pack(
    contents: PackContents, pixels: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, packs = write_pack, []

    def second_comes_meanwhile(folder: Path, name: str, contents: PackContents) -> None:
        monkeypatch.setattr("caltech_exp.data.packs.write_pack", write)
        with new_file(pixel_file(folder, name)) as file:
            file.write(b"some images")
            packs.append(shared_pack(tmp_path, contents))
        write(folder, name, contents)

    monkeypatch.setattr("caltech_exp.data.packs.write_pack", second_comes_meanwhile)
    packs.append(shared_pack(tmp_path, contents))
    assert [torch.equal(pack.pixels, pixels) for pack in packs] == [True, True]


@pytest.mark.usefixtures("no_locks")
def test_pack_is_usable_while_another_process_makes_it(
    contents: PackContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_pack(tmp_path, contents)
    found_before = iter(["missing"] * 2)
    usable = []

    def make(folder: Path, name: str, contents: PackContents) -> None:
        usable.append(isinstance(load_pack(folder, name, contents), Pack))
        write_pack(folder, name, contents)

    monkeypatch.setattr(
        "caltech_exp.data.packs.load_pack", lambda *given: next(found_before, None) or load_pack(*given)
    )
    monkeypatch.setattr("caltech_exp.data.packs.write_pack", make)
    shared_pack(tmp_path, contents)
    assert usable == [True]
