"""The files of a pack, images that are decoded once, and whether they are complete and up to date. No torch.

A pack is two files. `<name>.u8` holds the pixels of all images one after the other, row by row as RGB bytes;
`<name>.json` is its index, written last. The pixels are those of the reference engine's PIL transforms.
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
from caltech_exp.data.splits import DataSet, Sample, evenly
from caltech_exp.records import Corrupt, Count, StrictRecord, read_record

FORMAT = 1  # part of a pack's name: increase it with every change of the files' content
MISSING = "missing"  # the reason that read_index gives for a pack that does not exist

Layout = Literal["center", "resized"]
"""resized: the whole resized image, for random crops; center: only its middle 224 x 224."""

PackKey = tuple[str, int, Layout, int]
"""The arguments of `split_contents`: split, at most how many images (0 for all), layout, resize."""

# Split and layout of every pack that the report's runs use.
ALL_PACKS: tuple[tuple[str, Layout], ...] = (
    ("train", "center"),
    ("train", "resized"),
    ("val", "center"),
    ("test", "center"),
)

Side = Annotated[int, Field(ge=1, le=2**24)]
"""Pixels. A JPEG side has at most 65,535, and Resize(256) makes a one-pixel line 256 times as long."""

Crc = Annotated[int, Field(ge=0, lt=2**32)]
FileTime = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class PackIndex(StrictRecord):
    """What a pack holds, with one entry per image in every list.

    heights, widths  pixels
    checksums        CRC-32 of the image's RGB bytes
    sources          size (bytes), modification time (ns) and CRC-32 of the image file
    """

    schema_version: Literal[1] = 1
    layout: Layout
    heights: tuple[Side, ...]
    widths: tuple[Side, ...]
    checksums: tuple[Crc, ...]
    sources: tuple[tuple[Count, FileTime, Crc], ...]

    @property
    def image_bytes(self) -> list[int]:
        return [3 * height * width for height, width in zip(self.heights, self.widths, strict=True)]

    @property
    def fingerprint(self) -> str:
        """16 hex digits: a hash of all sizes and checksums, so the same for the same pixels."""
        text = json.dumps([self.layout, self.heights, self.widths, self.checksums])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class PackContents:
    """Which images a pack holds: samples of `train`, `val` or `test` in a layout.

    resize  pixels of the shorter side; 0 for the images' own size
    """

    data: DataSet
    split: str
    samples: tuple[Sample, ...]
    layout: Layout
    resize: int = RESIZE

    @property
    def name(self) -> str:
        """`center-<16 hex digits>`: a hash of everything that determines the pixels.

        These are paths and sizes of the images in the order of the split file, the resize, and the versions of the
        decoder, which differ in the last bit. Opening a pack checks that images of the same size have not changed.
        """
        decoder = [PIL.__version__, features.version_codec("jpg")]
        images = [(sample.path, self.status(sample).st_size) for sample in self.samples]
        text = json.dumps([FORMAT, self.layout, f"Resize({self.resize}) CenterCrop(224)", decoder, images])
        return f"{self.layout}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @property
    def split_file(self) -> str:
        """`train` or `test`: the split file that names the samples, without its extension."""
        return "test" if self.split == "test" else "train"

    def status(self, sample: Sample) -> os.stat_result:
        """Size and times of the sample's image file."""
        return self.data.image_status(sample, self.split_file)

    def image_bytes(self, sample: Sample) -> bytes:
        """The sample's image file."""
        try:
            return self.data.image_path(sample).read_bytes()
        except OSError as error:
            raise self.data.image_error(sample, self.split_file, error) from None

    def __str__(self) -> str:
        size = f", resize={self.resize}" if self.resize != RESIZE else ""
        return f"{len(self.samples):,} images of {self.split} ({self.layout}{size})"


def split_contents(data: DataSet, split: str, most: int, layout: Layout, resize: int = RESIZE) -> PackContents:
    """Contents of the pack of `train`, `val` or `test`, with at most `most` images (0 for all)."""
    samples = {"train": data.train, "val": data.val, "test": data.test}[split]
    return PackContents(data, split, evenly(samples, most), layout, resize)


def pixel_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.u8"


def index_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def read_index(folder: Path, name: str, contents: PackContents) -> PackIndex | str:
    """The index of the pack `name` in `folder`, or why the pack cannot be used, in a few words.

    Every byte of the pixels is checked, and that no image file has changed. Raises UserError if a newer version of
    caltech_exp made the pack.
    """
    index = read_record(index_file(folder, name), PackIndex)
    if index is None:
        return MISSING
    if isinstance(index, Corrupt) and index.is_newer:
        raise UserError(f"{index.complaint('')}, or choose another folder with packs=")
    if isinstance(index, Corrupt):
        return f"its index is damaged: {index.reason}"
    columns = (index.heights, index.widths, index.checksums, index.sources)
    if index.layout != contents.layout or any(len(column) != len(contents.samples) for column in columns):
        return "its index is of other images"
    if path := _changed_image(index, contents):
        return f"{path} has changed"
    try:
        return _pixel_problem(pixel_file(folder, name), index) or index
    except OSError as error:
        return f"{name}.u8: {error}"


def _changed_image(index: PackIndex, contents: PackContents) -> Path | None:
    """The first image file that has changed since it was packed.

    A file with another modification time is read: a copy of the data set has the same images.
    """
    for sample, (size, modified_ns, checksum) in zip(contents.samples, index.sources, strict=True):
        path, status = contents.data.image_path(sample), contents.status(sample)
        if (status.st_size, status.st_mtime_ns) == (size, modified_ns):
            continue
        if status.st_size != size or zlib.crc32(contents.image_bytes(sample)) != checksum:
            return path
    return None


def _pixel_problem(path: Path, index: PackIndex) -> str | None:
    sizes = index.image_bytes
    if path.stat().st_size != sum(sizes):
        return f"{path.name} is not as long as its index says"
    with path.open("rb") as file:  # read, not mapped: mapped pages would count as used memory
        for number, (size, checksum) in enumerate(zip(sizes, index.checksums, strict=True)):
            if zlib.crc32(file.read(size)) != checksum:
                return f"image {number} of {path.name} is damaged"
    return None
