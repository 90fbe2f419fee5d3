"""Unpacking: all images in one step, nothing outside the folder, nothing after a failure."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.data.archive import unpack_images
from caltech_exp.data.splits import IMAGES
from tests.conftest import CHECKOUT, Disk
from tests.tools.archives import tar_of, zip_of
from tests.tools.testbed import until

SMALL = {f"{IMAGES}/ant/image_0001.jpg": b"one", f"{IMAGES}/bass/image_0001.jpg": b"two"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder that asks for the two images."""
    folder = tmp_path / "my 'data' \"ü\""
    folder.mkdir()
    (folder / "train.txt").write_text("BACKGROUND_Google/tmp\nant/image_0001.jpg\nbass/image_0001.jpg\n")
    return folder


def unpacked(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in (root / IMAGES).rglob("*") if path.is_file()
    }


def visible(root: Path) -> list[str]:
    """What lies in the folder but for the lock."""
    return sorted(path.name for path in root.iterdir() if path.name != f".{IMAGES}.lock")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_unpack_takes_the_images(kind: str, root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(tar_of(SMALL) if kind == "tar" else zip_of(tar_of(SMALL)))
    unpack_images(archive, root)
    assert unpacked(root) == SMALL
    assert visible(root) == [IMAGES, "train.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert (root / IMAGES).stat().st_mode & 0o777 == 0o777 & ~umask
    before = (root / IMAGES).stat().st_mtime_ns
    unpack_images(archive, root)
    assert (root / IMAGES).stat().st_mtime_ns == before


def escaping(tar: tarfile.TarFile) -> None:
    """What no data set should hold."""
    for name in ("/tmp/outside.jpg", "../outside.jpg", f"{IMAGES}/../../outside.jpg", f"{IMAGES}/../outside.jpg"):
        member = tarfile.TarInfo(name)
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        member = tarfile.TarInfo(f"{IMAGES}/ant/link_{kind.decode()}.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    member = tarfile.TarInfo(f"{IMAGES}/evil")
    member.type, member.linkname = tarfile.SYMTYPE, "../.."
    tar.addfile(member)
    member = tarfile.TarInfo(f"{IMAGES}/evil/outside.jpg")
    member.size, member.mode, member.uid = 3, 0o6777, 12345
    tar.addfile(member, io.BytesIO(b"bad"))


def test_unpack_writes_nothing_outside_the_folder(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(tar_of(SMALL, escaping))
    unpack_images(archive, root)
    assert unpacked(root) == {**SMALL, f"{IMAGES}/evil/outside.jpg": b"bad"}
    assert not any(path.is_symlink() for path in root.rglob("*"))
    assert (root / IMAGES / "evil" / "outside.jpg").stat().st_mode & 0o7022 == 0
    assert not list(tmp_path.rglob("outside.jpg"))[1:]


def damaged(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "cannot be unpacked"),
        (lambda: b"no archive", "cannot be unpacked"),
        (lambda: damaged(tar_of({**SMALL, "x": os.urandom(10_000)})), "cannot be unpacked"),
        (lambda: tar_of({"Annotations/a.mat": b"a"}), f"has no images in {IMAGES}/"),
        (lambda: zip_of(b"", name="caltech-101/other.tar.gz"), f"has no {IMAGES}.tar.gz"),
        (lambda: zip_of(b"no tar"), "cannot be unpacked"),
        (
            lambda: tar_of({f"{IMAGES}/ant/image_0001.jpg": b"one"}),
            "has no bass/image_0001.jpg, which .* line 3 names",
        ),
    ],
)
def test_wrong_archive_leaves_nothing(make: Callable[[], bytes], message: str, root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(make())
    with pytest.raises(UserError, match=message):
        unpack_images(archive, root)
    assert visible(root) == ["train.txt"]


def test_damaged_zip_leaves_nothing(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    content = bytearray(zip_of(tar_of({**SMALL, "x": os.urandom(200_000)})))
    content[100_000] ^= 1
    archive.write_bytes(content)
    assert zipfile.is_zipfile(archive)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack_images(archive, root)
    assert visible(root) == ["train.txt"]


def test_unpack_starts_again_after_a_kill(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    many = {**SMALL, **{f"{IMAGES}/crab/image_{number:04d}.jpg": os.urandom(20_000) for number in range(2000)}}
    archive.write_bytes(tar_of(many))
    code = "import sys; from pathlib import Path; from caltech_exp.data.archive import unpack_images; "
    code += "unpack_images(Path(sys.argv[1]), Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(archive), str(root)], cwd=CHECKOUT)
    until(lambda: len(list(root.glob(f".{IMAGES}.unpacking-*/{IMAGES}/crab/*"))) > 20, 30)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (root / IMAGES).exists()
    assert list(root.glob(f".{IMAGES}.unpacking-*"))
    unpack_images(archive, root)
    assert unpacked(root) == many
    assert visible(root) == [IMAGES, "train.txt"]


def test_full_disk_is_reported(small_disk: Disk, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(tar_of({f"{IMAGES}/ant/image_0001.jpg": os.urandom(3_000_000)}))
    with pytest.raises(UserError, match=r"No space left on device\); make room there and run the same command"):
        unpack_images(archive, small_disk.path)
    assert visible(small_disk.path) == []
    small_disk.change("size=16m")
    unpack_images(archive, small_disk.path)
    assert (small_disk.path / IMAGES / "ant" / "image_0001.jpg").stat().st_size == 3_000_000
