"""Have everything there that runs need: data set, weights, packs. Looking whether it is imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caltech_exp.digests import Digest
from caltech_exp.download import Origin
from caltech_exp.errors import UserError
from caltech_exp.sources import IMAGENET
from caltech_exp.splits import read_data_set
from jobs.needed import Need, image_need, pack_needs, split_needs, weight_needs

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
