"""Archives like CaltechDATA's, a tar.gz of images in a zip; and the hash of a file."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from caltech_exp.data.splits import IMAGES

INNER = f"caltech-101/{IMAGES}.tar.gz"


def tar_of(files: Mapping[str, bytes], more: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    """A tar.gz of the files by name, and of what `more` adds."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_060_000_000
            tar.addfile(member, io.BytesIO(data))
        if more:
            more(tar)
    return content.getvalue()


def zip_of(tar: bytes, name: str = INNER) -> bytes:
    """A zip with the tar.gz among other files, those that a Mac adds too."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as outer:
        outer.writestr("__MACOSX/caltech-101/._101_ObjectCategories.tar.gz", b"\0\5\26\7")
        outer.writestr(name, tar)
        outer.writestr("caltech-101/Annotations.tar", b"annotations")
    return content.getvalue()


def image_files(root: Path) -> dict[str, bytes]:
    """The images of a data folder by their names in an archive."""
    paths = sorted(path for path in (root / IMAGES).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
