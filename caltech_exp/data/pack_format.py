"""Images decoded once: the format of a pack, and whether one is whole and up to date. No torch.

A pack is two files. `<name>.u8` holds the pixels of all images one after the other, each row by row as RGB bytes;
`<name>.json` is its index, written last. The pixels are those that the reference engine's PIL transforms give.
"""

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import PIL
from PIL import features
from pydantic import Field

from caltech_exp.cli import UserError
from caltech_exp.config import RESIZE
from caltech_exp.data.splits import IMAGES, DataSet, Sample, damaged_image, evenly
from caltech_exp.records import Corrupt, StrictRecord, read_record

FORMAT = 1
"""Counts up with every change of the files' content: packs of another format are not found."""

Layout = Literal["center", "resized"]
"""center: resized and the middle 224 x 224 of that; resized: that without the crop, for random crops."""

ALL_PACKS: tuple[tuple[str, Layout], ...] = (
    ("train", "center"),
    ("train", "resized"),
    ("val", "center"),
    ("test", "center"),
)
"""Split and layout of every pack that the runs of the report use."""

Side = Annotated[int, Field(ge=1, le=2**24)]
"""Pixels; a JPEG has at most 65,535 on a side, and Resize(256) of such a line is 256 times as long."""


class PackIndex(StrictRecord):
    """What lies in a pack, one entry per image in every list.

    heights, widths  pixels
    checksums        CRC-32 of the image's RGB bytes
    sources          size (bytes), time of last change (ns) and CRC-32 of the file it was decoded from
    """

    schema_version: Literal[1] = 1
    layout: Layout
    heights: tuple[Side, ...]
    widths: tuple[Side, ...]
    checksums: tuple[int, ...]
    sources: tuple[tuple[int, int, int], ...]

    @property
    def image_bytes(self) -> list[int]:
        """Bytes of each image's pixels."""
        return [3 * height * width for height, width in zip(self.heights, self.widths, strict=True)]

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a hash of all sizes and checksums: the same for the same pixels, wherever they lie."""
        text = json.dumps([self.layout, self.heights, self.widths, self.checksums])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PackContents:
    """Which images a pack holds: samples of `train`, `val` or `test` in a layout.

    resize  pixels of the shorter side; 0 for images as they are
    """

    data: DataSet
    split: str
    samples: tuple[Sample, ...]
    layout: Layout
    resize: int = RESIZE

    @property
    def name(self) -> str:
        """`center-<16 hex digits>`, of a hash of what decides about the pixels.

        That is the images by path and size in the order of the split file, the resize, and the decoder, whose
        versions differ in the last bit. Whether an image of the same size is still the same is checked when a
        pack is opened.
        """
        decoder = [PIL.__version__, features.version_codec("jpg")]
        images = [(sample.path, self.status(sample).st_size) for sample in self.samples]
        text = json.dumps([FORMAT, self.layout, f"Resize({self.resize}) CenterCrop(224)", decoder, images])
        return f"{self.layout}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def split_file(self) -> str:
        """`train` or `test`: the split file that names the samples, without its ending."""
        return "test" if self.split == "test" else "train"

    def source(self, sample: Sample) -> Path:
        """The file a sample is decoded from."""
        return self.data.root / IMAGES / sample.path

    def status(self, sample: Sample) -> os.stat_result:
        """Size and times of that file. Raises UserError that names it if it is gone."""
        try:
            return self.source(sample).stat()
        except OSError as error:
            raise damaged_image(self.data, sample, self.split_file, error.strerror) from None

    def __str__(self) -> str:
        size = f", resize={self.resize}" if self.resize != RESIZE else ""
        return f"{len(self.samples):,} images of {self.split} ({self.layout}{size})"


def split_contents(data: DataSet, split: str, most: int, layout: Layout, resize: int = RESIZE) -> PackContents:
    """What the pack of `train`, `val` or `test` holds, at most `most` images of it (0 for all)."""
    samples = {"train": data.train, "val": data.val, "test": data.test}[split]
    return PackContents(data, split, evenly(samples, most), layout, resize)


def pixel_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.u8"


def index_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def read_index(folder: Path, name: str, contents: PackContents) -> PackIndex | str:
    """The index of the pack `name` in `folder`, or why the pack cannot be used, in a few words.

    Its pixels are read and checked byte by byte, and its images are looked at: none may have changed. Raises
    UserError if a newer version of caltech_exp made it.
    """
    index = read_record(index_file(folder, name), PackIndex)
    if index is None:
        return "not there"
    if isinstance(index, Corrupt) and index.is_newer:
        raise UserError(f"{index.complaint('')}, or name another folder by packs=")
    if isinstance(index, Corrupt):
        return f"its index is damaged: {index.reason}"
    count = len(contents.samples)
    columns = (index.heights, index.widths, index.checksums, index.sources)
    if index.layout != contents.layout or any(len(column) != count for column in columns):
        return "its index is of other images"
    changed = _changed_source(index, contents)
    if changed:
        return f"{changed} has changed"
    path = pixel_file(folder, name)
    try:
        return _damage(path, index.image_bytes, index.checksums) or index
    except OSError as error:
        return f"{path.name}: {error}"


def _changed_source(index: PackIndex, contents: PackContents) -> Path | None:
    """The first image file that is no longer what was packed.

    One with another time of change is read: a copy of the data set elsewhere has the same images.
    """
    for sample, (size, changed_ns, checksum) in zip(contents.samples, index.sources, strict=True):
        file = contents.source(sample)
        status = contents.status(sample)
        same = status.st_size == size and (
            status.st_mtime_ns == changed_ns or zlib.crc32(file.read_bytes()) == checksum
        )
        if not same:
            return file
    return None


def _damage(path: Path, sizes: list[int], checksums: tuple[int, ...]) -> str | None:
    """What is wrong with the pixels, image by image. Read, not mapped: mapped pages would count as memory used."""
    if path.stat().st_size != sum(sizes):
        return f"{path.name} is not as long as its index says"
    with path.open("rb") as file:
        for number, (size, checksum) in enumerate(zip(sizes, checksums, strict=True)):
            if zlib.crc32(file.read(size)) != checksum:
                return f"image {number} of {path.name} is damaged"
    return None


PackKey = tuple[str, int, Layout, int]
"""What pack_index.split_contents takes: split, at most how many images (0 for all), layout, resize."""
