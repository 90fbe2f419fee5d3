"""Unpack the published archive into a data folder: all images in one step, or none."""

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
from caltech_exp.files import locked, open_file


def unpack_images(archive: Path, root: Path) -> None:
    """Make `root`/101_ObjectCategories from caltech-101.zip, or from the tar.gz inside it.

    The archive must hold every image that the split files in `root` name, as far as these exist. If another
    process is unpacking to the same folder, this one waits for it.
    """
    target = root / IMAGES
    try:
        with locked(root / f".{IMAGES}.lock", f"{target}: another process is unpacking it; waiting"):
            for folder in root.glob(f".{IMAGES}.unpacking-*"):  # of a killed process
                shutil.rmtree(folder, ignore_errors=True)
            if target.exists():
                return
            with tempfile.TemporaryDirectory(prefix=f".{IMAGES}.unpacking-", dir=root) as temporary:
                _extract(archive, Path(temporary))
                _check_complete(archive, Path(temporary) / IMAGES, root)
                (Path(temporary) / IMAGES).rename(target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); make room there and run the same command again"
        ) from None


def _extract(archive: Path, folder: Path) -> None:
    """Write the images of the archive into `folder`. Raises OSError."""
    count = 0
    try:
        with _open_tar_gz(archive) as stream, tarfile.open(fileobj=stream, mode="r|gz") as tar:
            # Python 3.11.0 to 3.11.3 have no filter; what _is_image accepts is safe without it too.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in tar:
                if _is_image(member):
                    tar.extract(member, folder)
                    count += 1
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"archive {archive} cannot be unpacked ({error}); download it again") from None
    if not count:
        raise UserError(f"archive {archive} has no images in {IMAGES}/; give {INNER_ARCHIVE.name} or its zip")


@contextlib.contextmanager
def _open_tar_gz(archive: Path) -> Iterator[IO[bytes]]:
    """The archive itself, or the tar.gz inside the zip."""
    if not zipfile.is_zipfile(archive):
        with open_file(archive) as file:
            yield file
        return
    with zipfile.ZipFile(archive) as outer:
        names = [name for name in outer.namelist() if PurePosixPath(name).name == INNER_ARCHIVE.name]
        if not names:
            raise UserError(f"archive {archive} has no {INNER_ARCHIVE.name}; give the archive of CaltechDATA")
        with outer.open(names[0]) as member:
            yield member


def _is_image(member: tarfile.TarInfo) -> bool:
    """Whether it is a regular file 101_ObjectCategories/<class>/<image>; links and other paths are not."""
    parts = PurePosixPath(member.name).parts
    return member.isreg() and len(parts) == 3 and parts[0] == IMAGES and ".." not in parts


def _check_complete(archive: Path, images: Path, root: Path) -> None:
    for split in (root / source.name for source in SPLITS):
        for number, path in read_split(split) if split.exists() else ():
            if not (images / path).is_file():
                raise UserError(
                    f"archive {archive} has no {shown(path)}, which {split} line {number} names; give the whole "
                    "archive, or correct the split file"
                )
