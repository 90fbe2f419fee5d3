"""Caltech-101 on disk: the split files, the labels, and whether every image is there. No torch."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from caltech_exp.cli import UserError, shown

Item = TypeVar("Item")

IMAGES = "101_ObjectCategories"
BACKGROUND = "BACKGROUND_Google"
"""Clutter images, filtered out of both splits (report, Data preparation)."""
STAND_IN_MARK = "STAND_IN.txt"
"""A data folder with this file in it is a generated stand-in, not Caltech-101."""


@dataclass(frozen=True)
class Sample:
    """One image: path relative to the image folder, label 0..100, line number in its split file (from 1)."""

    path: str
    label: int
    line: int


@dataclass(frozen=True)
class DataSet:
    """The two split files of a data folder, read and checked: train.txt holds training and validation."""

    root: Path
    classes: tuple[str, ...]
    train_val: tuple[Sample, ...]
    test: tuple[Sample, ...]

    @property
    def train(self) -> tuple[Sample, ...]:
        """Even positions of train.txt (report, section 1)."""
        return self.train_val[0::2]

    @property
    def val(self) -> tuple[Sample, ...]:
        """Odd positions of train.txt."""
        return self.train_val[1::2]

    @property
    def stand_in(self) -> bool:
        return (self.root / STAND_IN_MARK).exists()

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a hash of both splits and of the name and size of every image in them.

        Raises UserError that names an image which cannot be read.
        """
        digest = hashlib.sha256()
        for name, samples in (("train.txt", self.train_val), ("test.txt", self.test)):
            digest.update(f"{name}\n".encode())
            for sample in samples:
                try:
                    size = (self.root / IMAGES / sample.path).stat().st_size
                except OSError as error:
                    place = self.name_of(sample, name.removesuffix(".txt"))
                    raise UserError(f"image {place} cannot be read ({error.strerror}); unpack it again") from None
                digest.update(f"{sample.path} {sample.label} {size}\n".encode())
        return digest.hexdigest()[:16]

    def name_of(self, sample: Sample, split: str) -> str:
        """Where a sample stands, for an error: path, split file and line."""
        return f"{self.root / IMAGES / sample.path} ({split}.txt line {sample.line})"


def read_data_set(root: Path) -> DataSet:
    """Read and check the data folder `root`.

    Labels number the sorted class names, as torchvision's ImageFolder does, with BACKGROUND_Google left out.
    Raises UserError if the folder, the image folder or a split file is missing or empty, or if a line names
    an image twice, a file that is not there, or one outside the data folder: by its path or through a link.
    (The image folder itself may be a link to another disk.)
    """
    try:
        str(root.resolve()).encode()
        if not root.is_dir():
            raise UserError(
                f"data folder {root} does not exist; set data=DIR or CALTECH101_ROOT to Caltech-101, or fetch it "
                "there with python jobs/prepare.py"
            )
        if not (root / IMAGES).is_dir():
            raise UserError(
                f"data folder {root} has no folder {IMAGES}; unpack the Caltech-101 images into it, or fetch them "
                "there with python jobs/prepare.py"
            )
    except UnicodeEncodeError:  # no record could hold it
        raise UserError(f"data folder {root} is not named in UTF-8; rename it") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = error.strerror if isinstance(error, OSError) else "links in a circle"
        raise UserError(f"data folder {root} cannot be read ({reason}); make it readable") from None
    train_lines = read_split(root / "train.txt")
    test_lines = read_split(root / "test.txt")
    classes = tuple(sorted({path.split("/")[0] for _, path in train_lines}))
    return DataSet(
        root,
        classes,
        _samples(root, "train.txt", train_lines, classes),
        _samples(root, "test.txt", test_lines, classes),
    )


def read_split(file: Path) -> list[tuple[int, str]]:
    """(line number, path) of every image of a split file but the background's, at least one.

    Raises UserError if it cannot be read, names none or one twice, or holds a line that is no `class/image`.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors put a byte order mark first
    except FileNotFoundError:
        raise UserError(
            f"split file {file} does not exist; put the course's {file.name} there, or fetch it with "
            "python jobs/prepare.py"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"split file {file} cannot be read ({error}); put the course's {file.name} there"
        ) from None
    first: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        path = line.strip(" \t")
        if not path:
            continue
        parts = path.split("/")
        if len(parts) != 2 or not {"", ".", ".."}.isdisjoint(parts) or "\\" in path or "\0" in path:
            raise UserError(
                f"{file} line {number}: {shown(path)!r} is not of the form class/image.jpg; correct the line"
            )
        if parts[0] == BACKGROUND:
            continue
        if path in first:
            raise UserError(f"{file} line {number} names {shown(path)} again, as line {first[path]}; remove one")
        first[path] = number
    if not first:
        raise UserError(f"split file {file} names no images; put the course's {file.name} there")
    return [(number, path) for path, number in first.items()]


def _samples(root: Path, split: str, lines: list[tuple[int, str]], classes: tuple[str, ...]) -> tuple[Sample, ...]:
    labels = {name: label for label, name in enumerate(classes)}
    there = {name: _images(root, name) for name in {path.split("/")[0] for _, path in lines}}
    samples = []
    for number, path in lines:
        name, _, image = path.partition("/")
        if image not in there[name]:
            raise UserError(f"{root / split} line {number} names {shown(path)}, {_problem(root, path)}")
        if name not in labels:
            raise UserError(
                f"{root / split} line {number}: class {name!r} has no image in train.txt; add some there"
            )
        samples.append(Sample(path, labels[name], number))
    return tuple(samples)


def _images(root: Path, name: str) -> frozenset[str]:
    """Names of the files in a class folder, without links that lead out of the data folder.

    One listing in place of a look-up per image: kind to network disks.
    """
    folder = root / IMAGES / name
    try:
        if not _is_inside(root, folder):
            return frozenset()
        with os.scandir(folder) as entries:
            return frozenset(
                entry.name
                for entry in entries
                if (_is_inside(root, Path(entry.path)) if entry.is_symlink() else entry.is_file())
            )
    except PermissionError as error:
        raise UserError(f"data folder {folder} cannot be read ({error.strerror}); make it readable") from None
    except OSError:
        return frozenset()


def _is_inside(root: Path, path: Path) -> bool:
    """Whether `path` is there and lies in the data folder or, where that is a link, in the image folder."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return False
    return any(real.is_relative_to(home.resolve()) for home in (root, root / IMAGES))


def _problem(root: Path, path: str) -> str:
    """Why a line cannot name `path`, and what to do about it."""
    try:
        real = (root / IMAGES / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return f"which is not in {root / IMAGES}; unpack the images again or correct the split file"
    if not _is_inside(root, real):
        return f"which leads out of the data folder to {real}; put the image itself there"
    return "which is no file; unpack the images again or correct the split file"


def evenly(samples: tuple[Item, ...], most: int) -> tuple[Item, ...]:
    """At most `most` samples, evenly spaced so that all classes stay represented; 0 keeps all."""
    if most == 0 or len(samples) <= most:
        return samples
    return tuple(samples[i * len(samples) // most] for i in range(most))


def check_images(data: DataSet) -> None:
    """Decode every image once. Raises UserError that names the first damaged one, its split file and line."""
    named = [("train", s) for s in data.train_val] + [("test", s) for s in data.test]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = pool.map(lambda item: _damage(data.root / IMAGES / item[1].path), named, chunksize=64)
        for (split, sample), problem in zip(named, problems, strict=True):
            if problem:
                pool.shutdown(cancel_futures=True)
                raise damaged_image(data, sample, split, problem)


def damaged_image(data: DataSet, sample: Sample, split: str, problem: object) -> UserError:
    return UserError(f"damaged image {data.name_of(sample, split)}: {problem}; unpack it again")


def _damage(path: Path) -> str | None:
    from PIL import Image  # not at start-up: planning needs no images

    try:
        with Image.open(path) as image:
            # A JPEG is decoded at 1/8 of its size: as sure to find a truncated file, and three times as fast.
            image.draft("RGB", (image.width // 8, image.height // 8))
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    return None
