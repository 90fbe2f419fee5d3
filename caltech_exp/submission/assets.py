"""The files that runs need, and how to check and fetch them: data set, weights, packs. Loads no torch."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from caltech_exp.cli import UserError
from caltech_exp.data.archive import unpack_images
from caltech_exp.data.download import (
    ARCHIVE,
    IMAGENET,
    INNER_ARCHIVE,
    SPLITS,
    Digest,
    Origin,
    Source,
    check_hash,
    download,
    fetch,
    file_digest,
    file_in,
)
from caltech_exp.data.pack_format import ALL_PACKS, PackContents, PackIndex, pixel_file, read_index, split_contents
from caltech_exp.data.splits import IMAGES, Split, check_images, is_own, read_data_set
from caltech_exp.models.weights import fetch_imagenet, hash_problem, imagenet_path
from caltech_exp.submission.preflight import check_splits

FETCHED_ARCHIVE = "caltech-101.archive"  # its name in the data folder until it is unpacked

State = Literal["present", "fetched", "made", "missing", "to fetch", "to make"]


@dataclass(frozen=True)
class AssetSpec:
    """Which assets are wanted, and where to take missing ones from; None stands for where they are published.

    data, packs      folder of the data set, folder of decoded images
    split            of a data set of the user's own without split files
    max_images       images of each split in a pack, 0 for all
    networks         the networks whose ImageNet weights are wanted, in $TORCH_HOME
    archive          the archive of the images; `archive_digest` is its hash if it is not the published archive
    splits, weights  folder or base URL that has these files under their published names
    """

    data: Path
    packs: Path
    split: Split | None = None
    max_images: int = 0
    networks: tuple[str, ...] = tuple(IMAGENET)
    archive: Origin | None = None
    archive_digest: Digest | None = None
    splits: Origin | None = None
    weights: Origin | None = None


@dataclass(frozen=True)
class AssetStatus:
    """The state of an asset: its size in bytes and its hash if it is present, the problem if it is missing."""

    name: str
    state: State
    path: Path
    source: str
    size: int | None = None
    digest: str = ""
    problem: str = ""


Content = tuple[int | None, str]  # of an asset: its size in bytes, its hash as text


@dataclass(frozen=True)
class Asset:
    """A file, or several, that runs need.

    path    of the first
    source  where it comes from, as text
    check   returns None if it is missing; raises UserError if it is damaged
    fetch   downloads, copies or makes it
    """

    name: str
    path: Path
    source: str
    check: Callable[[], Content | None]
    fetch: Callable[[], None]
    is_made: bool = False

    def status(self, state: State, content: Content = (None, ""), problem: str = "") -> AssetStatus:
        return AssetStatus(self.name, state, self.path, self.source, *content, problem)

    def require(self, *, dry_run: bool) -> AssetStatus:
        """Check the asset and fetch it if it is missing; a dry run only checks."""
        try:
            if content := self.check():
                return self.status("present", content)
            if dry_run:
                return self.status("to make" if self.is_made else "to fetch")
            self.fetch()
            content = self.check()
        except UserError as error:
            return self.status("missing", problem=str(error))
        except OSError as error:
            problem = f"{error.filename or self.path} cannot be read ({error.strerror}); make it readable"
            return self.status("missing", problem=problem)
        done: State = "made" if self.is_made else "fetched"
        if content is None:
            return self.status(
                "missing", problem=f"{self.path} vanished right after it was {done}; find out what removes it"
            )
        return self.status(done, content)


def check_assets(spec: AssetSpec) -> list[AssetStatus]:
    """The status of every asset. Present ones are verified; nothing is written."""
    return list(_require_all(spec, dry_run=True))


def prepare(spec: AssetSpec) -> list[AssetStatus]:
    """Fetch every missing asset. One that fails does not keep the others from being fetched."""
    return list(_require_all(spec, dry_run=False))


def _require_all(spec: AssetSpec, *, dry_run: bool) -> Iterator[AssetStatus]:
    data_set = [asset.require(dry_run=dry_run) for asset in _data_set(spec)]
    yield from data_set
    for asset in _weights(spec):
        yield asset.require(dry_run=dry_run)
    if any(status.state in ("missing", "to fetch") for status in data_set):
        yield _packs_status(spec, "to make" if dry_run else "missing")
        return
    for asset in _packs(spec):
        yield asset.require(dry_run=dry_run)


def _packs_status(spec: AssetSpec, state: State) -> AssetStatus:
    """Stands for all packs while their images are unknown."""
    return AssetStatus("packs", state, spec.packs, "the images")


def _data_set(spec: AssetSpec) -> list[Asset]:
    if spec.split or is_own(spec.data, None):  # nobody publishes it
        return []
    return [*(_split_file(spec, source) for source in SPLITS), _images(spec)]


def _split_file(spec: AssetSpec, source: Source) -> Asset:
    """`train.txt` or `test.txt`, from the course's repository, a folder or a base URL."""
    path = spec.data / source.name

    def check() -> Content | None:
        if not path.exists():
            return None
        digest = file_digest(path, source.digest.algorithm)
        mark = " (the course's)" if source.digest.matches(digest) else ""
        return path.stat().st_size, f"{short(digest)}{mark}"

    origin = file_in(spec.splits, source.name) if spec.splits else source.url
    advice = f"put the course's {source.name} into {path.parent}, or give another source with splits="
    return Asset(source.name, path, str(origin), check, partial(fetch, origin, path, (source.digest,), advice))


def _images(spec: AssetSpec) -> Asset:
    """The images, from an archive: the one given, one in the data folder, or CaltechDATA's."""
    root, path = spec.data, spec.data / IMAGES

    def check() -> Content | None:
        if not path.exists():
            return None
        if not _has_splits(root):
            return None, "not checked without split files"
        try:
            data = read_data_set(root)
            check_splits(data)
        except UserError as error:
            raise UserError(
                f"{error}; if {path} is incomplete, move it away and run the same command to unpack it again"
            ) from None
        size = sum((path / sample.path).stat().st_size for sample in (*data.train_val, *data.test))
        return size, f"fingerprint {data.fingerprint}" + (" (stand-in)" if data.stand_in else "")

    origin = spec.archive or _archive_in(root) or ARCHIVE.url
    return Asset("images", path, str(origin), check, partial(_fetch_images, root, origin, spec.archive_digest))


def _archive_in(root: Path) -> Path | None:
    """An archive that a user put into the data folder, or an earlier command left there."""
    for name in (ARCHIVE.name, INNER_ARCHIVE.name, FETCHED_ARCHIVE):
        with contextlib.suppress(OSError):  # checking the images reports a folder that may not be read
            if (root / name).is_file():
                return root / name
    return None


def _has_splits(root: Path) -> bool:
    return all((root / source.name).exists() for source in SPLITS)


def _fetch_images(root: Path, origin: Origin, digest: Digest | None) -> None:
    expected = (digest,) if digest else (ARCHIVE.digest, INNER_ARCHIVE.digest)
    fetched = root / FETCHED_ARCHIVE
    if (root / IMAGES).exists():  # another process was faster
        return
    if isinstance(origin, str):
        advice = (
            f"fetch {ARCHIVE.url} on a machine with a network, put it into {root} and run the same command again, "
            "or give another source with archive="
        )
        download(origin, fetched, expected, advice)
        origin = fetched
    else:
        check_hash(
            origin, expected, f"put {ARCHIVE.url} there, or give the hash of your archive with archive_hash="
        )
    print(f"unpacking {origin} into {root / IMAGES}", flush=True)
    unpack_images(origin, root)
    if origin == fetched:
        fetched.unlink(missing_ok=True)
    if _has_splits(root):
        data = read_data_set(root)
        print(f"checking {len(data.train_val) + len(data.test):,} images of {root}", flush=True)
        for line in check_images(data):
            print(line, flush=True)


def _weights(spec: AssetSpec) -> list[Asset]:
    return [_weights_of(network, imagenet_path(network), spec.weights) for network in spec.networks]


def _weights_of(network: str, path: Path, folder: Origin | None) -> Asset:
    """The ImageNet weights of a network in torch's cache, from torchvision's server, a folder or a base URL."""
    source = IMAGENET[network]

    def check() -> Content | None:
        if not path.exists():
            return None
        digest = file_digest(path, source.digest.algorithm)
        if not source.digest.matches(digest):
            raise UserError(hash_problem(path))
        return path.stat().st_size, short(digest)

    origin = file_in(folder, source.name) if folder else source.url
    return Asset(f"weights of {network}", path, str(origin), check, partial(fetch_imagenet, network, folder))


def _packs(spec: AssetSpec) -> list[Asset]:
    """The packs of all splits. Raises UserError if the data set cannot be read."""
    data = read_data_set(spec.data, spec.split)
    return [_pack(spec.packs, split_contents(data, split, spec.max_images, layout)) for split, layout in ALL_PACKS]


def _pack(folder: Path, contents: PackContents) -> Asset:
    name = contents.name

    def check() -> Content | None:
        index = read_index(folder, name, contents)
        if not isinstance(index, PackIndex):
            return None
        return sum(index.image_bytes), f"pixels {index.fingerprint}"

    def make() -> None:
        from caltech_exp.data.packs import shared_pack  # torchvision's transforms take seconds to import

        shared_pack(folder, contents)

    return Asset(f"pack: {contents}", pixel_file(folder, name), "the images", check, make, is_made=True)


def short(digest: Digest) -> str:
    """A hash with 16 digits, enough to compare two by eye."""
    return f"{digest.algorithm}:{digest.digits[:16]}"
