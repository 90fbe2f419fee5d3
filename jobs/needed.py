"""What runs need, one by one: where it lies, whether it is there and sound, and how to have it there. No torch."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from caltech_exp.digests import Digest, file_digest
from caltech_exp.download import Origin, bring, check, fetch, inside
from caltech_exp.errors import UserError
from caltech_exp.pack_index import (
    ALL_PACKS,
    Contents,
    PackIndex,
    index_file,
    pixel_file,
    read_index,
    split_contents,
)
from caltech_exp.sources import ARCHIVE, IMAGENET, INNER_ARCHIVE, SPLITS, Source
from caltech_exp.splits import IMAGES, DataSet, check_images, read_data_set
from caltech_exp.unpack import unpack_images
from caltech_exp.weights import damaged_weights, fetch_imagenet, imagenet_path
from jobs.preflight import check_splits

FETCHED_ARCHIVE = "caltech-101.archive"
"""What an archive is called in the data folder from its download until it is unpacked."""


@dataclass(frozen=True)
class Found:
    """What is there: its size in bytes, and its hash in words."""

    size: int | None
    digest: str


@dataclass(frozen=True)
class Need:
    """A thing that runs need.

    files   where it lies: the first is its place; it is taken to be there if all of them are
    source  where it would come from, in words
    look    what is there, None if it is not; raises UserError if it is damaged and that is for the user to mend
    bring   have it there; raises UserError
    """

    name: str
    files: tuple[Path, ...]
    done: Literal["fetched", "made"]
    source: str
    look: Callable[[], Found | None]
    bring: Callable[[], None]

    @property
    def is_there(self) -> bool:
        """By its files' names alone."""
        try:
            return all(file.exists() for file in self.files)
        except OSError:  # a folder that may not be read
            return False


def split_needs(root: Path, folder: Origin | None) -> list[Need]:
    """The split files, from the course's repository or from a folder or base URL."""
    return [_split_need(root / source.name, source, folder) for source in SPLITS]


def _split_need(path: Path, source: Source, folder: Origin | None) -> Need:
    def look() -> Found | None:
        if not path.exists():
            return None
        found = file_digest(path, source.digest.algorithm)
        return Found(path.stat().st_size, short(found) + (" (the course's)" if source.digest.fits(found) else ""))

    origin = inside(folder, source.name) if folder else source.url
    advice = f"put the course's {source.name} into {path.parent}, or say splits= to have it from elsewhere"
    return Need(
        source.name, (path,), "fetched", str(origin), look, partial(bring, origin, path, (source.digest,), advice)
    )


def image_need(root: Path, archive: Origin | None, digest: Digest | None) -> Need:
    """The images, from an archive: the one given, one that lies in the data folder, or CaltechDATA's."""
    path = root / IMAGES

    def look() -> Found | None:
        if not path.exists():
            return None
        if not all((root / source.name).exists() for source in SPLITS):
            return Found(None, "not checked without split files")
        try:
            data = read_data_set(root)
            check_splits(data)
        except UserError as error:
            raise UserError(
                f"{error}; if {path} is not whole, move it away, and the same command unpacks it anew"
            ) from None
        samples = (*data.train_val, *data.test)
        size = sum((path / sample.path).stat().st_size for sample in samples)
        return Found(size, f"fingerprint {data.fingerprint}" + (" (stand-in)" if data.stand_in else ""))

    origin = archive or _lying_in(root) or ARCHIVE.url
    return Need("images", (path,), "fetched", str(origin), look, partial(_bring_images, root, origin, digest))


def _lying_in(root: Path) -> Path | None:
    """An archive that was put, or left, into the data folder."""
    for path in (root / name for name in (ARCHIVE.name, INNER_ARCHIVE.name, FETCHED_ARCHIVE)):
        with contextlib.suppress(OSError):  # a folder that may not be read is told when it is looked at
            if path.is_file():
                return path
    return None


def _bring_images(root: Path, origin: Origin, digest: Digest | None) -> None:
    expected = (digest,) if digest else (ARCHIVE.digest, INNER_ARCHIVE.digest)
    fetched = root / FETCHED_ARCHIVE
    if (root / IMAGES).exists():  # another process was faster
        return
    if isinstance(origin, str):
        advice = (
            f"fetch {ARCHIVE.url} on a machine with a network, put it into {root} and give the same command "
            "again; archive= takes it from elsewhere"
        )
        fetch(origin, fetched, expected, advice)
        origin = fetched
    else:
        check(origin, expected, f"put {ARCHIVE.url} there, or say archive_hash= if another archive is meant")
    print(f"unpacking {origin} into {root / IMAGES}", flush=True)
    unpack_images(origin, root)
    if origin == fetched:
        fetched.unlink(missing_ok=True)
    if all((root / source.name).exists() for source in SPLITS):
        data = read_data_set(root)
        print(f"checking {len(data.train_val) + len(data.test):,} images of {root}", flush=True)
        check_images(data)


def weight_needs(networks: Sequence[str], folder: Origin | None) -> list[Need]:
    """ImageNet's weights in the offline cache, from torchvision's server or from a folder or base URL."""
    return [_weight_need(network, imagenet_path(network), folder) for network in networks]


def _weight_need(network: str, path: Path, folder: Origin | None) -> Need:
    def look() -> Found | None:
        if not path.exists():
            return None
        found = file_digest(path, source.digest.algorithm)
        if not source.digest.fits(found):
            raise UserError(damaged_weights(path))
        return Found(path.stat().st_size, short(found))

    source = IMAGENET[network]
    origin = inside(folder, source.name) if folder else source.url
    return Need(
        f"weights of {network}", (path,), "fetched", str(origin), look, partial(fetch_imagenet, network, folder)
    )


def pack_needs(folder: Path, data: DataSet, most: int) -> list[Need]:
    """The packs of all splits, of at most `most` images each (0 for all). Raises UserError if an image is gone."""
    return [_pack_need(folder, split_contents(data, split, most, layout)) for split, layout in ALL_PACKS]


def _pack_need(folder: Path, contents: Contents) -> Need:
    name = contents.name

    def look() -> Found | None:
        index = read_index(folder, name, contents)
        if not isinstance(index, PackIndex):
            return None
        return Found(sum(index.image_bytes), f"pixels {index.fingerprint}")

    def make() -> None:
        from caltech_exp.packs import shared_pack  # torchvision's transforms take seconds to import

        shared_pack(folder, contents)

    files = (pixel_file(folder, name), index_file(folder, name))
    return Need(f"pack: {contents}", files, "made", "the images", look, make)


def short(digest: Digest) -> str:
    """A hash with 16 digits, enough to compare two by eye."""
    return f"{digest.algorithm}:{digest.digits[:16]}"
