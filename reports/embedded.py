"""Pictures inside the page: data URIs, so that the page is one file."""

import base64
import io
from pathlib import Path

from reports.blocks import Picture

LARGE = 256 * 1024
"""Bytes of an SVG up to which it is embedded as it is. A larger one holds photographs, which its PNG shows as well
and WebP makes some five times smaller."""
WEBP_QUALITY = 88


def data_uri(picture: Picture, folder: Path) -> str:
    """The picture whose files lie in `folder`. Raises OSError."""
    svg = (folder / picture.svg).read_bytes()
    if len(svg) <= LARGE:
        return _uri("svg+xml", svg)
    from PIL import Image

    content = io.BytesIO()
    with Image.open(folder / picture.png) as image:
        image.convert("RGB").save(content, "WEBP", quality=WEBP_QUALITY, method=1)
    return _uri("webp", content.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
