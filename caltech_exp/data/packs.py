"""Packs of decoded images: make them, open them, share them, copy them to the node.

Processes that map the same pack share its pixels through the page cache.
"""

import contextlib
import mmap
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import CenterCrop, Compose

from caltech_exp.cli import UserError
from caltech_exp.data.dataset import SIDE, Caltech, resize_steps
from caltech_exp.data.pack_format import (
    MISSING,
    Layout,
    PackContents,
    PackIndex,
    index_file,
    pixel_file,
    read_index,
)
from caltech_exp.data.splits import Sample
from caltech_exp.files import file_system_time, in_threads, locked, make_folder, new_file, remove
from caltech_exp.records import write_record

ABANDONED_SECONDS = 600.0  # a temporary file unchanged for so long is a killed process's: writers never pause


@dataclass(frozen=True, eq=False)
class Pack:
    """An opened pack.

    pixels   uint8 [pixels of all images, 3], mapped from the file
    heights, widths, offsets  int64 [images]: the size of each image and the index of its first pixel
    """

    path: Path
    layout: Layout
    pixels: torch.Tensor
    heights: torch.Tensor
    widths: torch.Tensor
    offsets: torch.Tensor
    mapping: mmap.mmap

    def release(self) -> None:
        """Release the mapped pages: they stay in the page cache, no longer in this process's memory."""
        self.mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class PackStore:
    """The folder of packs that all tasks share, and perhaps a folder for copies on the node's own disk."""

    shared: Path
    on_node: Path | None = None


def open_pack(store: PackStore, contents: PackContents) -> Pack:
    """The verified pack of these images, made or copied first where it is missing or damaged."""
    if store.on_node:
        try:
            return _copied_pack(store.shared, store.on_node, contents)
        except OSError as error:
            print(f"packs on the node, {store.on_node}: {error.strerror}; using {store.shared}", flush=True)
    return shared_pack(store.shared, contents)


def shared_pack(folder: Path, contents: PackContents) -> Pack:
    """The verified pack in `folder`, made there if it is missing or damaged."""
    try:
        return _load_or_make(folder, contents, write_pack)
    except OSError as error:
        raise UserError(
            f"packs folder {folder}: {error.strerror}; make room there, choose another folder with packs: in the "
            "profile, or make the packs on a machine that can write it, with python jobs/prepare.py"
        ) from None


def _copied_pack(shared: Path, on_node: Path, contents: PackContents) -> Pack:
    """The pack on the node's own disk, copied from the shared folder if needed. Raises OSError."""

    def copy(folder: Path, name: str, contents: PackContents) -> None:
        shared_pack(shared, contents)
        for file in (pixel_file, index_file):
            with file(shared, name).open("rb") as source, new_file(file(folder, name)) as target:
                shutil.copyfileobj(source, target, 2**22)

    return _load_or_make(on_node, contents, copy)


def _load_or_make(folder: Path, contents: PackContents, make: Callable[[Path, str, PackContents], None]) -> Pack:
    """Load the pack; if it cannot be used, one process makes it under a lock while the others wait.

    Where locks have no effect (Lustre without flock, NFS with nolock) several processes may make it at once. That
    does no harm: each writes temporary files that are renamed when complete, pixels first, and a pack is used only
    if its pixels match its index byte by byte. A damaged pack is not removed: another process may be replacing it.
    """
    name = contents.name
    _remove_abandoned_files(folder, name)
    pack = load_pack(folder, name, contents)
    if isinstance(pack, Pack):
        return pack
    make_folder(folder)
    with locked(folder / f".{name}.lock"):
        pack = load_pack(folder, name, contents)  # another process may have made it meanwhile
        if isinstance(pack, Pack):
            return pack
        if pack != MISSING:
            print(f"pack {folder / name}: {pack}; making it again", flush=True)
        make(folder, name, contents)
        pack = load_pack(folder, name, contents)
    if isinstance(pack, str):
        raise UserError(f"pack {folder / name} cannot be used right after it was written ({pack}); check the disk")
    return pack


def _remove_abandoned_files(folder: Path, name: str) -> None:
    with contextlib.suppress(OSError):  # it only saves space, and the folder may be read-only
        files = [*folder.glob(f".{name}.u8.*"), *folder.glob(f".{name}.json.*")]
        now = file_system_time(folder) if files else 0.0
        for path in files:
            if now - path.stat().st_mtime > ABANDONED_SECONDS:
                remove(path)


def load_pack(folder: Path, name: str, contents: PackContents) -> Pack | str:
    """The pack `name` in `folder`, verified byte by byte, or why it cannot be used, in a few words."""
    index = read_index(folder, name, contents)
    if not isinstance(index, PackIndex):
        return index
    heights, widths = torch.tensor(index.heights), torch.tensor(index.widths)
    sizes = heights * widths
    path = pixel_file(folder, name)
    try:
        with path.open("rb") as file:
            # A private mapping: torch asks for writable memory, and the file must not change.
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        return f"{path.name}: {error}"
    pixels = torch.frombuffer(mapping, dtype=torch.uint8).view(-1, 3)
    return Pack(path, index.layout, pixels, heights, widths, sizes.cumsum(0) - sizes, mapping)


@dataclass(frozen=True)
class DecodedImage:
    """RGB bytes row by row, height and width in pixels, and the image file's entry in PackIndex.sources."""

    pixels: bytes
    height: int
    width: int
    source: tuple[int, int, int]


def write_pack(folder: Path, name: str, contents: PackContents) -> None:
    """Write the pixels, then the index that completes the pack. Raises OSError if the folder cannot be written."""
    start = time.perf_counter()
    entries = []
    with new_file(pixel_file(folder, name)) as file:
        for image in _decode(contents):
            file.write(image.pixels)
            entries.append((image.height, image.width, zlib.crc32(image.pixels), image.source))
        size = file.tell()
    heights, widths, checksums, sources = zip(*entries, strict=True)
    index = PackIndex(layout=contents.layout, heights=heights, widths=widths, checksums=checksums, sources=sources)
    try:
        write_record(folder, index_file(folder, name).name, index)
    except OSError:
        pixel_file(folder, name).unlink(missing_ok=True)  # a full disk needs the space
        raise
    seconds = time.perf_counter() - start
    print(f"packed {contents} as {pixel_file(folder, name)}: {size / 1e6:,.0f} MB, {seconds:.1f} s", flush=True)


def _decode(contents: PackContents) -> Iterator[DecodedImage]:
    """Every image in order, decoded by several threads (PIL releases the GIL)."""
    crop = [CenterCrop(SIDE)] if contents.layout == "center" else []
    resize = Compose([*resize_steps(contents.resize), *crop])
    images = Caltech(contents.data, contents.split_file, contents.samples, resize)

    def decode(sample: Sample) -> DecodedImage:
        pixels = np.asarray(resize(images.load(sample)))
        status = contents.status(sample)
        checksum = zlib.crc32(contents.image_bytes(sample))
        height, width, _ = pixels.shape
        return DecodedImage(pixels.tobytes(), height, width, (status.st_size, status.st_mtime_ns, checksum))

    return in_threads(decode, contents.samples)
