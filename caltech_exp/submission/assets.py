"""The files that runs need: data set, weights, packs. How to check and to fetch them. No torch."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
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
from caltech_exp.data.pack_format import (
    ALL_PACKS,
    PackContents,
    PackIndex,
    index_file,
    pixel_file,
    read_index,
    split_contents,
)
from caltech_exp.data.splits import IMAGES, DataSet, check_images, read_data_set
from caltech_exp.models.weights import damaged_weights, fetch_imagenet, imagenet_path
from caltech_exp.submission.preflight import check_splits

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

    origin = file_in(folder, source.name) if folder else source.url
    advice = f"put the course's {source.name} into {path.parent}, or say splits= to have it from elsewhere"
    return Need(
        source.name, (path,), "fetched", str(origin), look, partial(fetch, origin, path, (source.digest,), advice)
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
        download(origin, fetched, expected, advice)
        origin = fetched
    else:
        check_hash(origin, expected, f"put {ARCHIVE.url} there, or say archive_hash= if another archive is meant")
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
    origin = file_in(folder, source.name) if folder else source.url
    return Need(
        f"weights of {network}", (path,), "fetched", str(origin), look, partial(fetch_imagenet, network, folder)
    )


def pack_needs(folder: Path, data: DataSet, most: int) -> list[Need]:
    """The packs of all splits, of at most `most` images each (0 for all). Raises UserError if an image is gone."""
    return [_pack_need(folder, split_contents(data, split, most, layout)) for split, layout in ALL_PACKS]


def _pack_need(folder: Path, contents: PackContents) -> Need:
    name = contents.name

    def look() -> Found | None:
        index = read_index(folder, name, contents)
        if not isinstance(index, PackIndex):
            return None
        return Found(sum(index.image_bytes), f"pixels {index.fingerprint}")

    def make() -> None:
        from caltech_exp.data.packs import shared_pack  # torchvision's transforms take seconds to import

        shared_pack(folder, contents)

    files = (pixel_file(folder, name), index_file(folder, name))
    return Need(f"pack: {contents}", files, "made", "the images", look, make)


def short(digest: Digest) -> str:
    """A hash with 16 digits, enough to compare two by eye."""
    return f"{digest.algorithm}:{digest.digits[:16]}"


State = Literal["there", "fetched", "made", "missing", "to fetch", "to make"]


@dataclass(frozen=True)
class Wanted:
    """What should be there, and where it is taken from if it is not; None for where it is published.

    data, packs     folders: of the data set, of decoded images
    max_images      images of each split in a pack, 0 for all
    networks        whose ImageNet weights, in $TORCH_HOME
    archive         the images' archive; `archive_digest` is its hash, if it is another than the published one
    splits, weights folder or base URL of files with their published names
    """

    data: Path
    packs: Path
    max_images: int = 0
    networks: tuple[str, ...] = tuple(IMAGENET)
    archive: Origin | None = None
    archive_digest: Digest | None = None
    splits: Origin | None = None
    weights: Origin | None = None


@dataclass(frozen=True)
class Item:
    """One thing that runs need: its size in bytes and its hash in words where it is there, else why it is not.

    source  where it would come from, in words
    """

    name: str
    state: State
    where: Path
    size: int | None = None
    digest: str = ""
    source: str = ""
    problem: str = ""


def missing_items(wanted: Wanted) -> list[Item]:
    """What is not there, by the names of files alone: in a fraction of a second, and without torch."""
    needs = (*_data_needs(wanted), *weight_needs(wanted.networks, wanted.weights))
    items = [_to_bring(need) for need in needs if not need.is_there]
    try:
        packs = pack_needs(wanted.packs, read_data_set(wanted.data), wanted.max_images)
    except UserError:
        return [*items, _packs_to_come(wanted, "to make")]
    return [*items, *(_to_bring(need) for need in packs if not need.is_there)]


def look(wanted: Wanted) -> list[Item]:
    """Everything with its state; what is there is verified, and nothing is written."""
    return list(_walk(wanted, bring=False))


def prepare(wanted: Wanted) -> list[Item]:
    """Have it all there. What cannot be had is told by its item, and keeps nothing else from being prepared."""
    return list(_walk(wanted, bring=True))


def _walk(wanted: Wanted, *, bring: bool) -> Iterator[Item]:
    data = [_item(need, bring=bring) for need in _data_needs(wanted)]
    yield from data
    for need in weight_needs(wanted.networks, wanted.weights):
        yield _item(need, bring=bring)
    if any(item.state in ("missing", "to fetch") for item in data):
        yield _packs_to_come(wanted, "missing" if bring else "to make")
        return
    for need in pack_needs(wanted.packs, read_data_set(wanted.data), wanted.max_images):
        yield _item(need, bring=bring)


def _data_needs(wanted: Wanted) -> Sequence[Need]:
    return (
        *split_needs(wanted.data, wanted.splits),
        image_need(wanted.data, wanted.archive, wanted.archive_digest),
    )


def _item(need: Need, *, bring: bool) -> Item:
    """The item as it is, or as it is once it was brought."""
    state: State = "there"
    try:
        found = need.look()
        if found is None:
            if not bring:
                return _to_bring(need)
            need.bring()
            found, state = need.look(), need.done
    except UserError as error:
        return Item(need.name, "missing", need.files[0], source=need.source, problem=str(error))
    except OSError as error:
        problem = f"{error.filename or need.files[0]} cannot be read ({error.strerror}); make it readable"
        return Item(need.name, "missing", need.files[0], source=need.source, problem=problem)
    if found is None:
        problem = f"{need.files[0]} is gone right after it was {need.done}; look who removes it"
        return Item(need.name, "missing", need.files[0], source=need.source, problem=problem)
    return Item(need.name, state, need.files[0], found.size, found.digest, need.source)


def _to_bring(need: Need) -> Item:
    state: State = "to fetch" if need.done == "fetched" else "to make"
    return Item(need.name, state, need.files[0], source=need.source)


def _packs_to_come(wanted: Wanted, state: State) -> Item:
    """In place of the packs, while nobody knows their images."""
    return Item("packs", state, wanted.packs, source="the images")
