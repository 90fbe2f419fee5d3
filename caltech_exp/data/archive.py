"""The images out of the published archive, into a data folder in one step: all of them, or none."""

import contextlib
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from caltech_exp.cli import UserError, shown
from caltech_exp.data.download import INNER_ARCHIVE, SPLITS
from caltech_exp.data.splits import IMAGES, read_split
from caltech_exp.files import locked


def unpack_images(archive: Path, root: Path) -> None:
    """Make `root`/101_ObjectCategories of caltech-101.zip, or of the tar.gz in it.

    Only files in class folders are taken, and only if all that the split files of `root` name are among them
    (those files that are there). A process that unpacks to the same place is waited for; what one left that was
    killed is removed. Raises UserError; then there is no such folder.
    """
    target = root / IMAGES
    try:
        with locked(root / f".{IMAGES}.lock", f"{target}: another process is unpacking it; waiting"):
            for left in root.glob(f".{IMAGES}.unpacking-*"):
                shutil.rmtree(left, ignore_errors=True)
            if target.exists():
                return
            with tempfile.TemporaryDirectory(prefix=f".{IMAGES}.unpacking-", dir=root) as temporary:
                _extract(archive, Path(temporary))
                _require_named(archive, Path(temporary) / IMAGES, root)
                (Path(temporary) / IMAGES).rename(target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); make room there, and give the same command again"
        ) from None


def _extract(archive: Path, folder: Path) -> None:
    """Write the images below `folder`. Raises UserError for anything but such an archive, OSError for the disk."""
    taken = 0
    try:
        with _inner(archive) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
            # Python 3.11.0 to 3.11.3 have no filter; what _is_image lets through is safe without it too.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in tar:
                if _is_image(member):
                    tar.extract(member, folder)
                    taken += 1
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"archive {archive} cannot be unpacked ({error}); fetch it again") from None
    if not taken:
        raise UserError(f"archive {archive} holds no images in {IMAGES}/; give {INNER_ARCHIVE.name} or its zip")


@contextlib.contextmanager
def _inner(archive: Path) -> Iterator[IO[bytes]]:
    """The tar.gz: the archive itself, or what lies in the zip."""
    if not zipfile.is_zipfile(archive):
        with archive.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(archive) as outer:
        names = [name for name in outer.namelist() if PurePosixPath(name).name == INNER_ARCHIVE.name]
        if not names:
            raise UserError(f"archive {archive} holds no {INNER_ARCHIVE.name}; give the one of CaltechDATA")
        with outer.open(names[0]) as member:
            yield member


def _is_image(member: tarfile.TarInfo) -> bool:
    """Whether it is a file 101_ObjectCategories/<class>/<image>; no link, and nothing that leads elsewhere."""
    parts = PurePosixPath(member.name).parts
    return member.isreg() and len(parts) == 3 and parts[0] == IMAGES and ".." not in parts


def _require_named(archive: Path, images: Path, root: Path) -> None:
    """Raises UserError that names the first image of the split files which the archive has not."""
    for split in (root / source.name for source in SPLITS):
        for number, path in read_split(split) if split.exists() else ():
            if not (images / path).is_file():
                raise UserError(
                    f"archive {archive} has no {shown(path)}, which {split} line {number} names; give the whole "
                    "archive, or correct the split file"
                )
