"""What prepare.py fetches, published on this machine: a small Caltech-101 of real images, and weights."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from caltech_exp.data.download import ARCHIVE, IMAGENET, INNER_ARCHIVE, SPLITS, Digest, Source
from caltech_exp.data.splits import IMAGES
from caltech_exp.submission import assets
from tests.tools.archives import image_files, tar_of, zip_of
from tests.tools.file_server import FileServer

CLASSES = ("ant", "bass", "wrench")
EACH = 6
"""Images of each class: four for training and validation, two for testing."""


@dataclass(frozen=True)
class Published:
    """The server, and the files that it serves in a folder of their own, under their published names."""

    server: FileServer
    folder: Path
    tar: bytes

    @property
    def paths(self) -> list[str]:
        """What was asked for."""
        return [request.path for request in self.server.requests]


def small_data_set(caltech101: Path, folder: Path) -> Path:
    """A few real images with split files, in the layout of Caltech-101."""
    splits: dict[str, list[str]] = {"train.txt": [], "test.txt": []}
    for name in CLASSES:
        (folder / IMAGES / name).mkdir(parents=True)
        for number in range(1, EACH + 1):
            path = f"{name}/image_{number:04d}.jpg"
            shutil.copyfile(caltech101 / IMAGES / path, folder / IMAGES / path)
            splits["test.txt" if number % 3 == 0 else "train.txt"].append(path)
    for split, paths in splits.items():
        (folder / split).write_text("".join(f"{path}\n" for path in paths))
    return folder


def publish(server: FileServer, caltech101: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Serve a small data set and weights, and have the sources say so: URLs, sizes and hashes."""
    data = small_data_set(caltech101, folder / "published")
    tar = tar_of(image_files(data))
    archive = _serve(server, ARCHIVE, zip_of(tar), "/records/caltech-101.zip", data)
    inner = replace(INNER_ARCHIVE, digest=Digest("md5", hashlib.md5(tar).hexdigest()))
    splits = tuple(
        _serve(server, source, (data / source.name).read_bytes(), f"/course/{source.name}", data)
        for source in SPLITS
    )
    for name, value in (("ARCHIVE", archive), ("INNER_ARCHIVE", inner), ("SPLITS", splits)):
        monkeypatch.setattr(assets, name, value)
    for model in IMAGENET:
        content = os.urandom(100_000)
        digits = hashlib.sha256(content).hexdigest()[:8]
        source = replace(IMAGENET[model], name=f"{model}-{digits}.pth", digest=Digest("sha256", digits))
        monkeypatch.setitem(IMAGENET, model, _serve(server, source, content, f"/models/{source.name}", data))
    shutil.rmtree(data / IMAGES)
    return Published(server, data, tar)


def _serve(server: FileServer, source: Source, content: bytes, path: str, folder: Path) -> Source:
    """Serve the content and put it into the folder; the source as it is published now."""
    server.files[path] = content
    (folder / source.name).write_bytes(content)
    digest = source.digest
    if digest.algorithm == "md5" or len(digest.digits) == 64:
        digest = Digest(digest.algorithm, hashlib.new(digest.algorithm, content).hexdigest())
    return replace(source, url=f"{server.url}{path}", size=len(content), digest=digest)


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def states(self) -> list[str]:
        """Of the items, in the table's order."""
        rows = self.out[self.out.rindex("\n----") :].splitlines()[2:]
        words = ("present", "fetched", "made", "missing", "to fetch", "to make")
        return [next(word for word in words if f"  {word}  " in row) for row in rows if "  " in row]


Here = Callable[..., Done]
