"""Caltech-101 on disk: the split files, the labels, and whether every image exists. No torch."""

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from caltech_exp.cli import UserError, shown
from caltech_exp.files import in_threads, read_file

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")

IMAGES = "101_ObjectCategories"
BACKGROUND = "BACKGROUND_Google"  # clutter, which neither split uses (report, Data preparation)
STAND_IN_MARK = "STAND_IN.txt"  # marks a data folder as a generated stand-in
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")  # others may start programs (EPS)
MAX_PIXELS = 2**26  # of an image, which takes 3 bytes for each in memory
MAX_RATIO = 100  # of an image's sides: resizing the shorter side lengthens the longer one
ORIENTATION = 0x0112  # tag of EXIF; 1 stands for upright

warnings.filterwarnings("ignore", r"Image size \(")  # Pillow's about large images: `opened_image` refuses them


class UnsuitableImageError(ValueError):
    """An image is not damaged, but training would change it or take too much memory for it."""


@dataclass(frozen=True)
class Sample:
    """One image: path relative to the image folder, label 0..100, line number in its split file (from 1)."""

    path: str
    label: int
    line: int


@dataclass(frozen=True)
class DataSet:
    """The two split files of a data folder, read and checked. train.txt holds training and validation images."""

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
        """16 hex digits: a hash of both splits, and of the path and size of every image."""
        digest = hashlib.sha256()
        for split, samples in (("train", self.train_val), ("test", self.test)):
            digest.update(f"{split}.txt\n".encode())
            for sample in samples:
                size = self.image_status(sample, split).st_size
                digest.update(f"{sample.path} {sample.label} {size}\n".encode())
        return digest.hexdigest()[:16]

    def image_path(self, sample: Sample) -> Path:
        return self.root / IMAGES / sample.path

    def image_status(self, sample: Sample, split: str) -> os.stat_result:
        """Size and times of an image of `train` or `test`."""
        try:
            return os.stat(f"{self.root}/{IMAGES}/{sample.path}")  # noqa: PTH116 (three times as fast as Path.stat)
        except OSError as error:
            raise self.image_error(sample, split, error.strerror) from None

    def image_error(self, sample: Sample, split: str, problem: object) -> UserError:
        """An error that names the image and the line of its split file, `train` or `test`."""
        place = f"image {self.image_path(sample)} ({split}.txt line {sample.line})"
        if isinstance(problem, UnsuitableImageError):
            return UserError(f"{place} {problem}; replace the image or remove the line")
        reason = shown(str(problem)) or type(problem).__name__
        return UserError(f"damaged {place}: {reason}; unpack it again")


def read_data_set(root: Path) -> DataSet:
    """The data set in the folder `root`, if every image of its split files exists and is inside the folder.

    Labels number the sorted class names, as torchvision's ImageFolder does, without BACKGROUND_Google. The image
    folder itself may be a link to another disk.
    """
    try:
        str(root.resolve()).encode()
        if not root.is_dir():
            raise UserError(
                f"data folder {root} does not exist; set data=DIR or CALTECH101_ROOT to the Caltech-101 folder, "
                "or download it with python jobs/prepare.py"
            )
        if not (root / IMAGES).is_dir():
            raise UserError(
                f"data folder {root} has no folder {IMAGES}; unpack the Caltech-101 images there, or download "
                "them with python jobs/prepare.py"
            )
    except UnicodeEncodeError:  # JSON records could not hold it
        raise UserError(f"the name of data folder {root} is not UTF-8; rename it") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = error.strerror if isinstance(error, OSError) else "its links form a loop"
        raise UserError(f"data folder {root} cannot be read ({reason}); make it readable") from None
    train_lines, test_lines = (read_split(root / name) for name in ("train.txt", "test.txt"))
    trained = {path: number for number, path in train_lines}
    for number, path in test_lines:
        if path in trained:
            raise UserError(
                f"{root / 'test.txt'} line {number} names {shown(path)}, as train.txt line {trained[path]} does: "
                "an image that is trained on cannot test; remove one of the lines"
            )
    classes = tuple(sorted({path.split("/")[0] for _, path in train_lines}))
    train_val, test = (
        _samples(root, name, lines, classes)
        for name, lines in (("train.txt", train_lines), ("test.txt", test_lines))
    )
    return DataSet(root, classes, train_val, test)


def read_split(file: Path) -> list[tuple[int, str]]:
    """Line number and path, `class/image`, of each image in a split file, without those of the background."""
    try:
        text = read_file(file).decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise UserError(
            f"split file {file} does not exist; put the course's {file.name} there, or download it with python "
            "jobs/prepare.py"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"split file {file} cannot be read ({reason}); put the course's {file.name} there"
        ) from None
    lines: dict[str, int] = {}
    for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1):
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
        if path in lines:
            raise UserError(
                f"{file} line {number} repeats {shown(path)} of line {lines[path]}; remove one of them"
            )
        lines[path] = number
    if not lines:
        raise UserError(f"split file {file} names no images; put the course's {file.name} there")
    return [(number, path) for path, number in lines.items()]


def _samples(root: Path, split: str, lines: list[tuple[int, str]], classes: tuple[str, ...]) -> tuple[Sample, ...]:
    labels = {name: label for label, name in enumerate(classes)}
    images = {name: _image_names(root, name) for name in {path.split("/")[0] for _, path in lines}}
    samples = []
    for number, path in lines:
        name, _, image = path.partition("/")
        if image not in images[name]:
            raise UserError(f"{root / split} line {number} names {shown(path)}, {_path_problem(root, path)}")
        if name not in labels:
            raise UserError(
                f"{root / split} line {number}: class {name!r} has no image in train.txt; add some there"
            )
        samples.append(Sample(path, labels[name], number))
    return tuple(samples)


def _image_names(root: Path, class_name: str) -> frozenset[str]:
    """The files in a class folder, without links that lead out of the data folder.

    One listing instead of a look-up per image: network disks answer it faster.
    """
    folder = root / IMAGES / class_name
    try:
        if not _is_inside(root, folder):
            return frozenset()
        with os.scandir(folder) as entries:
            return frozenset(
                entry.name
                for entry in entries
                if (not entry.is_symlink() or _is_inside(root, Path(entry.path))) and entry.is_file()
            )
    except PermissionError as error:
        raise UserError(f"data folder {folder} cannot be read ({error.strerror}); make it readable") from None
    except OSError:
        return frozenset()


def _is_inside(root: Path, path: Path) -> bool:
    """Whether `path` exists and is in the data folder, or in the image folder where that is a link."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return False
    return any(real.is_relative_to(home.resolve()) for home in (root, root / IMAGES))


def _path_problem(root: Path, path: str) -> str:
    """Why a line cannot name `path`, and what to do."""
    try:
        real = (root / IMAGES / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return f"which is not in {root / IMAGES}; unpack the images again or correct the split file"
    if not _is_inside(root, real):
        return f"which leads out of the data folder to {real}; put the image itself there"
    return "which is not a file; unpack the images again or correct the split file"


def evenly(samples: tuple[Item, ...], most: int) -> tuple[Item, ...]:
    """At most `most` samples, evenly spaced so that all classes stay represented; 0 means all."""
    if most == 0 or len(samples) <= most:
        return samples
    return tuple(samples[i * len(samples) // most] for i in range(most))


@contextlib.contextmanager
def opened_image(path: Path) -> Iterator["Image.Image"]:
    """An image file, not decoded yet. Raises UnsuitableImageError if decoding it takes too much memory."""
    from PIL import Image  # imported where it is used: planning decodes no images

    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            short, long = sorted(image.size)
            if short * long > MAX_PIXELS:
                raise UnsuitableImageError(f"is larger than {MAX_PIXELS:,} pixels")
            if long > MAX_RATIO * short:
                sides = f"{image.width} x {image.height}"
                raise UnsuitableImageError(f"has {sides} pixels, one side more than {MAX_RATIO} times the other")
            yield image
    except Image.DecompressionBombError:
        raise UnsuitableImageError(f"is larger than {MAX_PIXELS:,} pixels") from None


def check_images(data: DataSet) -> list[str]:
    """Decode every image; raise UserError for the first damaged or unsuitable one.

    Returns a line if an image is in the split files twice under two names.
    """
    images = [("train", sample) for sample in data.train_val] + [("test", sample) for sample in data.test]
    places: dict[bytes, str] = {}
    copies = []
    answers = in_threads(lambda image: _check_image(data.image_path(image[1])), images)
    for (split, sample), answer in zip(images, answers, strict=True):
        if isinstance(answer, Exception):
            raise data.image_error(sample, split, answer)
        place = f"{split}.txt line {sample.line}"
        if (first := places.setdefault(answer, place)) != place:
            copies.append(f"{first} and {place}")
    if not copies:
        return []
    more = f" (and {len(copies) - 1} more)" if len(copies) > 1 else ""
    return [
        f"the same image under two names: {copies[0]}{more}; accuracies count images that are trained on, or "
        "that have two labels, unless you remove one line of each pair"
    ]


def _check_image(path: Path) -> bytes | Exception:
    """A digest of the image file, or why it cannot be used."""
    try:
        with opened_image(path) as image:
            _require_same_pixels(image)
            # Decoding a JPEG at 1/8 of its size finds truncated files just as well, three times as fast.
            image.draft("RGB", (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
            if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise UnsuitableImageError(
                    "has transparent pixels, and training would show the colours below them"
                )
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except Exception as error:  # Pillow's decoders raise anything
        return error


def _require_same_pixels(image: "Image.Image") -> None:
    """Raises UnsuitableImageError if training would see other pixels than a viewer shows."""
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a photo with a preview
        raise UnsuitableImageError("has several frames, and training would take the first")
    if image.mode[0] in "IF":  # 16 or 32 bits per channel
        raise UnsuitableImageError("has more than 8 bits per channel, and training would cut them off")
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise UnsuitableImageError("is turned by its EXIF data only, and training would not turn it")
