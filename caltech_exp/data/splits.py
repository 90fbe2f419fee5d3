"""A data set on disk: the split files, the labels, and whether every image exists. No torch.

Caltech-101 has its classes in 101_ObjectCategories, a data set of the user's own in the data folder itself.
"""

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field

from caltech_exp.cli import UserError, shown
from caltech_exp.files import in_threads, read_file
from caltech_exp.records import StrictRecord

if TYPE_CHECKING:
    from PIL import Image

Item = TypeVar("Item")

IMAGES = "101_ObjectCategories"
BACKGROUND = "BACKGROUND_Google"  # clutter, which neither split uses (report, Data preparation)
STAND_IN_MARK = "STAND_IN.txt"  # marks a data folder as a generated stand-in
SPLIT_FILES = ("train.txt", "test.txt")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".ppm", ".tif", ".tiff", ".webp")  # of FORMATS
LEAST_IMAGES = 3  # of a class that is split at random: one for each of training, validation and test
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")  # others may start programs (EPS)
MAX_PIXELS = 2**26  # of an image, which takes 3 bytes for each in memory
MAX_RATIO = 100  # of an image's sides: resizing the shorter side lengthens the longer one
ORIENTATION = 0x0112  # tag of EXIF; 1 stands for upright

warnings.filterwarnings("ignore", r"Image size \(")  # Pillow's about large images: `opened_image` refuses them


class UnsuitableImageError(ValueError):
    """An image is not damaged, but training would change it or take too much memory for it."""


class Split(StrictRecord):
    """A random split: the share of each class's images that are tested on, and the seed that draws them."""

    test: float = Field(gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)


# Of the options split= and split_seed=.
_SHARE = "share of each class's images to test on, drawn at random, where data= has no train.txt and test.txt"
TestShare = Annotated[float | None, Field(gt=0, lt=1, description=_SHARE)]
SplitSeed = Annotated[int, Field(ge=0, lt=2**32, description="seed of split=")]


def make_split(share: float | None, seed: int) -> Split | None:
    """What split= and split_seed= ask for; None without split=."""
    if seed and share is None:
        raise UserError(f"split_seed={seed} is the seed of split=; add split=0.3")
    return None if share is None else Split(test=share, seed=seed)


@dataclass(frozen=True)
class Sample:
    """One image: path relative to the image folder, label from 0, line number in its split file, 0 without one."""

    path: str
    label: int
    line: int


@dataclass(frozen=True)
class DataSet:
    """The two splits of a data folder, read and checked. train_val has the images of training and validation.

    images  the folder of the classes: 101_ObjectCategories in `root`, or `root` itself
    split   how the images were split, None for split files
    """

    root: Path
    classes: tuple[str, ...]
    train_val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    images: Path
    split: Split | None = None

    @property
    def train(self) -> tuple[Sample, ...]:
        """Even positions of train.txt (report, section 1)."""
        return self.train_val[0::2]

    @property
    def val(self) -> tuple[Sample, ...]:
        """Odd positions of train.txt."""
        return self.train_val[1::2]

    @property
    def is_own(self) -> bool:
        """Whether it is the user's own, and no Caltech-101: runs name it in their ids and have its classes."""
        return self.images == self.root or self.split is not None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the data set gives to every run; none if it is Caltech-101."""
        return {"classes": len(self.classes), "data_set": self.fingerprint} if self.is_own else {}

    @property
    def stand_in(self) -> bool:
        return (self.root / STAND_IN_MARK).exists()

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits: a hash of both splits, and of the path and size of every image."""
        digest = hashlib.sha256(f"{len(self.classes)} classes\n".encode() if self.is_own else b"")
        for split, samples in (("train", self.train_val), ("test", self.test)):
            digest.update(f"{split}.txt\n".encode())
            for sample in samples:
                size = self.image_status(sample, split).st_size
                digest.update(f"{sample.path} {sample.label} {size}\n".encode())
        return digest.hexdigest()[:16]

    def image_path(self, sample: Sample) -> Path:
        return self.images / sample.path

    def image_status(self, sample: Sample, split: str) -> os.stat_result:
        """Size and times of an image of `train` or `test`."""
        try:
            return os.stat(f"{self.images}/{sample.path}")  # noqa: PTH116 (three times as fast as Path.stat)
        except OSError as error:
            raise self.image_error(sample, split, error.strerror) from None

    def image_error(self, sample: Sample, split: str, problem: object) -> UserError:
        """An error that names the image and the line of its split file, `train` or `test`."""
        line = f" ({split}.txt line {sample.line})" if sample.line else ""
        place = f"image {self.image_path(sample)}{line}"
        if isinstance(problem, UnsuitableImageError):
            return UserError(f"{place} {problem}; replace the image or remove {'the line' if line else 'it'}")
        reason = shown(str(problem)) or type(problem).__name__
        return UserError(f"damaged {place}: {reason}; {'restore it' if self.is_own else 'unpack it again'}")


def is_own(root: Path, split: Split | None) -> bool:
    """Whether the folder holds a data set of the user's own: the classes of its train.txt, or a random split."""
    train = root / SPLIT_FILES[0]
    try:
        if not root.is_dir() or split or (root / IMAGES).is_dir() or not train.exists():
            return split is not None and root.is_dir()
    except (OSError, RuntimeError, UnicodeEncodeError):  # read_data_set says what is wrong
        return False
    return any((root / name).is_dir() for name in _class_names(read_split(train)))


def read_data_set(root: Path, split: Split | None = None) -> DataSet:
    """The data set in the folder `root`, if every image of its split files exists and is inside the folder.

    Labels number the sorted class names, as torchvision's ImageFolder does, without BACKGROUND_Google. The image
    folder itself may be a link to another disk.

    split  draws the splits of a folder without split files
    """
    try:
        str(root.resolve()).encode()
        if not root.is_dir():
            raise UserError(
                f"data folder {root} does not exist; set data=DIR or CALTECH101_ROOT to the Caltech-101 folder, "
                "or download it with python jobs/prepare.py"
            )
        images = root / IMAGES
        if not images.is_dir():
            if not is_own(root, split):
                raise UserError(
                    f"data folder {root} has no folder {IMAGES}; unpack the Caltech-101 images there, or download "
                    "them with python jobs/prepare.py. A data set of your own has train.txt and test.txt, or "
                    "split=0.3"
                )
            images = root
    except UnicodeEncodeError:  # JSON records could not hold it
        raise UserError(f"the name of data folder {root} is not UTF-8; rename it") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = error.strerror if isinstance(error, OSError) else "its links form a loop"
        raise UserError(f"data folder {root} cannot be read ({reason}); make it readable") from None
    data = _split_at_random(root, images, split) if split else _read_lists(root, images)
    if data.is_own and len(data.classes) < 2:
        raise UserError(
            f"data folder {root} has images of {'one' if data.classes else 'no'} class, and training needs two; "
            "give each class a folder of its own"
        )
    return data


def _read_lists(root: Path, images: Path) -> DataSet:
    remedy = "write a line class/image.jpg into it for each image" if images == root else ""
    train_lines, test_lines = (read_split(root / name, remedy) for name in SPLIT_FILES)
    trained = {path: number for number, path in train_lines}
    for number, path in test_lines:
        if path in trained:
            raise UserError(
                f"{root / 'test.txt'} line {number} names {shown(path)}, as train.txt line {trained[path]} does: "
                "an image that is trained on cannot test; remove one of the lines"
            )
    classes = tuple(sorted(_class_names(train_lines)))
    train_val, test = (
        _samples(images, root / name, lines, classes)
        for name, lines in zip(SPLIT_FILES, (train_lines, test_lines), strict=True)
    )
    return DataSet(root, classes, train_val, test, images)


def _class_names(lines: Iterable[tuple[int, str]]) -> set[str]:
    return {path.split("/")[0] for _, path in lines}


def _split_at_random(root: Path, images: Path, split: Split) -> DataSet:
    """Split each class by a hash of the seed and the image's path: the order of a listing changes nothing."""
    for name in SPLIT_FILES:
        if (root / name).exists():
            raise UserError(f"split={split.test:g}: {root / name} exists; leave split= out, or move the file away")
    try:
        folders = [path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"data folder {images} cannot be read ({error.strerror}); make it readable") from None
    classes = tuple(sorted(name for name in folders if name != BACKGROUND))
    splits: tuple[list[Sample], list[Sample]] = ([], [])
    for label, name in enumerate(classes):
        names = (image for image in _image_names(images, root, name) if not image.startswith("."))
        paths = [f"{name}/{image}" for image in names if image.lower().endswith(SUFFIXES)]
        if len(paths) < LEAST_IMAGES:
            raise UserError(
                f"class {images / name} has {len(paths)} images, and a random split takes {LEAST_IMAGES} of each; "
                "add some or move the folder away"
            )
        try:
            paths.sort(key=lambda path: hashlib.sha256(f"{split.seed} {path}".encode()).digest())
        except UnicodeEncodeError:
            raise UserError(f"class {images / name}: a name is not UTF-8; rename the folder or image") from None
        tested = min(max(1, round(split.test * len(paths))), len(paths) - 2)
        for samples, chosen in zip(splits, (paths[tested:], paths[:tested]), strict=True):
            samples += [Sample(path, label, 0) for path in chosen]
    return DataSet(root, classes, tuple(splits[0]), tuple(splits[1]), images, split)


def read_split(file: Path, remedy: str = "") -> list[tuple[int, str]]:
    """Line number and path, `class/image`, of each image in a split file, without those of the background.

    remedy  what to do if there is none, where it is not the course's
    """
    course = f"put the course's {file.name} there"
    try:
        text = read_file(file).decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise UserError(
            f"split file {file} does not exist; "
            f"{remedy or f'{course}, or download it with python jobs/prepare.py'}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"split file {file} cannot be read ({reason}); {remedy or course}") from None
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
        raise UserError(f"split file {file} names no images; {remedy or course}")
    return [(number, path) for path, number in lines.items()]


def _samples(
    folder: Path, file: Path, lines: list[tuple[int, str]], classes: tuple[str, ...]
) -> tuple[Sample, ...]:
    labels = {name: label for label, name in enumerate(classes)}
    images = {name: _image_names(folder, file.parent, name) for name in _class_names(lines)}
    samples = []
    for number, path in lines:
        name, _, image = path.partition("/")
        if image not in images[name]:
            problem = _path_problem(folder, file.parent, path)
            raise UserError(f"{file} line {number} names {shown(path)}, {problem}")
        if name not in labels:
            raise UserError(f"{file} line {number}: class {name!r} has no image in train.txt; add some there")
        samples.append(Sample(path, labels[name], number))
    return tuple(samples)


def _image_names(images: Path, root: Path, class_name: str) -> frozenset[str]:
    """The files in a class folder, without links that lead out of the data folder.

    One listing instead of a look-up per image: network disks answer it faster.
    """
    folder = images / class_name
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


def _path_problem(images: Path, root: Path, path: str) -> str:
    """Why a line cannot name `path`, and what to do."""
    name = path.partition("/")[0]
    if images == root and not (images / name).is_dir():
        return f"whose class has no folder in {images}; make the folder {name} there or correct the line"
    restore = "add the image" if images == root else "unpack the images again"
    try:
        real = (images / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return f"which is not in {images}; {restore} or correct the split file"
    if not _is_inside(root, real):
        return f"which leads out of the data folder to {real}; put the image itself there"
    return f"which is not a file; {restore} or correct the split file"


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
