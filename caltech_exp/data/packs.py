"""Packs of decoded images: write them, open them, share them, copy them to the node.

Processes that map the same pack share its pixels through the page cache.
"""

import contextlib
import mmap
import os
import shutil
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import CenterCrop, Compose

from caltech_exp.cli import UserError
from caltech_exp.data.dataset import SIDE, Caltech, resized
from caltech_exp.data.pack_format import Layout, PackContents, PackIndex, index_file, pixel_file, read_index
from caltech_exp.data.splits import Sample
from caltech_exp.files import file_system_time, locked, new_file
from caltech_exp.records import write_record


@dataclass(frozen=True, eq=False)
class Pack:
    """An opened pack.

    pixels   uint8 [all pixels, 3], mapped from the file
    heights, widths, offsets  int64 [images]: an image's size and its first pixel
    """

    path: Path
    layout: Layout
    pixels: torch.Tensor
    heights: torch.Tensor
    widths: torch.Tensor
    offsets: torch.Tensor
    mapping: mmap.mmap

    def release(self) -> None:
        """Give the mapped pages back: in the page cache they stay, this process's memory they no longer are."""
        self.mapping.madvise(mmap.MADV_DONTNEED)


def load_pack(folder: Path, name: str, contents: PackContents) -> Pack | str:
    """The pack `name` in `folder`, verified byte by byte, or why it cannot be used, in a few words."""
    index = read_index(folder, name, contents)
    if not isinstance(index, PackIndex):
        return index
    heights, widths = torch.tensor(index.heights), torch.tensor(index.widths)
    sizes = heights * widths
    path = pixel_file(folder, name)
    try:
        mapping = _map(path)
    except (OSError, ValueError) as error:
        return f"{path.name}: {error}"
    pixels = torch.frombuffer(mapping, dtype=torch.uint8).view(-1, 3)
    return Pack(path, index.layout, pixels, heights, widths, sizes.cumsum(0) - sizes, mapping)


def _map(path: Path) -> mmap.mmap:
    """The file mapped privately: torch wants memory it could write to, and the file must stay as it is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    finally:
        os.close(handle)


AHEAD = 64
"""Images decoded before the one being written: bounds the memory that packing takes."""


@dataclass(frozen=True)
class Decoded:
    """One image: RGB bytes row by row, height and width in pixels, and (size, ns, CRC-32) of its file."""

    pixels: bytes
    height: int
    width: int
    source: tuple[int, int, int]


def write_pack(folder: Path, name: str, contents: PackContents) -> None:
    """Write the pixels, then the index that makes them a pack.

    Raises UserError that names an image which cannot be decoded, OSError if the folder cannot be written.
    """
    start = time.perf_counter()
    heights, widths, checksums, sources = [], [], [], []
    with new_file(pixel_file(folder, name)) as file:
        for image in _decoded(contents):
            file.write(image.pixels)
            heights.append(image.height)
            widths.append(image.width)
            checksums.append(zlib.crc32(image.pixels))
            sources.append(image.source)
        size = file.tell()
    index = PackIndex(
        layout=contents.layout,
        heights=tuple(heights),
        widths=tuple(widths),
        checksums=tuple(checksums),
        sources=tuple(sources),
    )
    try:
        write_record(folder, index_file(folder, name).name, index)
    except OSError:
        pixel_file(folder, name).unlink(missing_ok=True)  # a full disk needs the room
        raise
    seconds = time.perf_counter() - start
    print(f"packed {contents} as {pixel_file(folder, name)}: {size / 1e6:,.0f} MB, {seconds:.1f} s", flush=True)


def _decoded(contents: PackContents) -> Iterator[Decoded]:
    """Every image in order, decoded by as many threads as this process has cores (PIL releases the GIL)."""
    crop = [CenterCrop(SIDE)] if contents.layout == "center" else []
    resize = Compose([*resized(contents.resize), *crop])
    images = Caltech(contents.data, contents.split_file, contents.samples, resize)

    def decode(sample: Sample) -> Decoded:
        pixels = np.asarray(resize(images.load(sample)))
        file = contents.source(sample)
        status = contents.status(sample)
        source = (status.st_size, status.st_mtime_ns, zlib.crc32(file.read_bytes()))
        return Decoded(pixels.tobytes(), pixels.shape[0], pixels.shape[1], source)

    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            for sample in contents.samples:
                waiting.append(pool.submit(decode, sample))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


LEFT_SECONDS = 600.0
"""After so long without a write a temporary file is a killed process's: whoever writes adds image after image."""


@dataclass(frozen=True)
class PackStore:
    """The folder that all tasks share, and a folder on the node's own disk to copy packs to, if there is one."""

    shared: Path
    on_node: Path | None = None


def open_pack(place: PackStore, contents: PackContents) -> Pack:
    """The verified pack of these images, made or copied first where it is missing or damaged.

    Raises UserError if the folder cannot be written or an image cannot be decoded.
    """
    if place.on_node:
        try:
            return _copied_pack(place.shared, place.on_node, contents)
        except OSError as error:
            print(f"packs on the node, {place.on_node}: {error.strerror}; using {place.shared}", flush=True)
    return shared_pack(place.shared, contents)


def shared_pack(folder: Path, contents: PackContents) -> Pack:
    """The verified pack in a folder, made there if need be. Raises UserError as `open_pack` does."""
    try:
        return _have(folder, contents, write_pack)
    except OSError as error:
        raise UserError(
            f"packs folder {folder}: {error.strerror}; make room there, name another folder by packs: in the "
            "profile, or make the packs where it can be written, with python jobs/prepare.py"
        ) from None


def _copied_pack(shared: Path, on_node: Path, contents: PackContents) -> Pack:
    """The pack on the node's own disk, copied from the shared folder if need be. Raises OSError."""

    def copy(folder: Path, name: str, contents: PackContents) -> None:
        shared_pack(shared, contents)
        for part in (pixel_file, index_file):
            with part(shared, name).open("rb") as source, new_file(part(folder, name)) as target:
                shutil.copyfileobj(source, target, 2**22)

    return _have(on_node, contents, copy)


def _have(folder: Path, contents: PackContents, bring: Callable[[Path, str, PackContents], None]) -> Pack:
    """Load the pack; where it cannot be used, one process brings it under a lock and the others wait.

    Where locks have no effect (Lustre without flock, NFS with nolock) several may bring it at once. No harm is
    done: each writes files of its own that take the pack's names when they are whole, pixels first, and a pack is
    used only if its pixels are its index's, byte by byte. A damaged one is not removed: it may be whole by now.
    """
    name = contents.name
    _remove_left(folder, name)
    pack = load_pack(folder, name, contents)
    if isinstance(pack, Pack):
        return pack
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{name}.lock"):
        pack = load_pack(folder, name, contents)  # perhaps another process brought it meanwhile
        if isinstance(pack, Pack):
            return pack
        if pack != "not there":
            print(f"pack {folder / name}: {pack}; it is made anew", flush=True)
        bring(folder, name, contents)
        pack = load_pack(folder, name, contents)
    if isinstance(pack, str):
        raise UserError(f"pack {folder / name} cannot be used right after it was written ({pack}); check the disk")
    return pack


def _remove_left(folder: Path, name: str) -> None:
    """Remove the pack's temporary files that nobody writes any more."""
    with contextlib.suppress(OSError):  # it is about room alone, and the folder may be for reading only
        left = [*folder.glob(f".{name}.u8.*"), *folder.glob(f".{name}.json.*")]
        now = file_system_time(folder) if left else 0.0
        for path in left:
            if now - path.stat().st_mtime > LEFT_SECONDS:
                path.unlink()
