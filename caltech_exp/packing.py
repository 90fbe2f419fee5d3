"""Decode and resize the images of a split as the reference engine does, once, into a pack."""

import os
import time
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.transforms import CenterCrop, Compose

from caltech_exp.augment.parameters import SIDE
from caltech_exp.data import Caltech
from caltech_exp.files import new_file
from caltech_exp.pack_index import Contents, PackIndex, index_file, pixel_file
from caltech_exp.results import write_record
from caltech_exp.splits import Sample
from caltech_exp.transforms import resized

AHEAD = 64
"""Images decoded before the one being written: bounds the memory that packing takes."""


@dataclass(frozen=True)
class Decoded:
    """One image: RGB bytes row by row, height and width in pixels, and (size, ns, CRC-32) of its file."""

    pixels: bytes
    height: int
    width: int
    source: tuple[int, int, int]


def write_pack(folder: Path, name: str, contents: Contents) -> None:
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


def _decoded(contents: Contents) -> Iterator[Decoded]:
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
