"""Pictures inside the page: data URIs, so that the page is one file."""

import base64
import contextlib
import hashlib
import io
from pathlib import Path

from caltech_exp.files import write_atomically
from caltech_exp.reporting.blocks import Picture

LARGE = 256 * 1024
"""Bytes of an SVG up to which it is embedded as it is. A larger one holds photographs, which its PNG shows as well
and WebP makes some seven times smaller."""
WEBP = {"quality": 88, "method": 1}


def data_uri(picture: Picture, folder: Path, cache: Path) -> str:
    """The picture whose files lie in `folder`; what was made smaller is kept in `cache`. Raises OSError."""
    svg = (folder / picture.svg).read_bytes()
    if len(svg) <= LARGE:
        return _uri("svg+xml", svg)
    return _uri("webp", _as_webp(folder / picture.png, cache))


def _as_webp(path: Path, cache: Path) -> bytes:
    """A PNG as WebP: kept under its name and digest, made anew where that is not there or not whole."""
    png = path.read_bytes()
    digest = hashlib.blake2b(png + repr(WEBP).encode(), digest_size=16).hexdigest()
    kept = cache / f"{path.stem}.{digest}.webp"
    with contextlib.suppress(OSError):
        content = kept.read_bytes()
        if _is_whole(content):
            return content
    from PIL import Image

    smaller = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(smaller, "WEBP", **WEBP)
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.glob(f"{path.stem}.*.webp"):
        old.unlink()
    write_atomically(kept, smaller.getvalue())
    return smaller.getvalue()


def _is_whole(webp: bytes) -> bool:
    """A WebP file tells its length: `RIFF`, four bytes of length, and as many bytes."""
    return webp[:4] == b"RIFF" and int.from_bytes(webp[4:8], "little") == len(webp) - 8


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
