"""What can happen to the files of a pack."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from caltech_exp.data.pack_format import index_file, pixel_file

Damage = Callable[[Path, str], object]
"""Takes a folder and the name of a pack in it."""


def flip_a_bit(folder: Path, name: str) -> None:
    content = bytearray(pixel_file(folder, name).read_bytes())
    content[len(content) // 2] ^= 1
    pixel_file(folder, name).write_bytes(content)


def lengthen(folder: Path, name: str) -> None:
    with pixel_file(folder, name).open("ab") as file:
        file.write(b"\0")


def forget_the_last_image(folder: Path, name: str) -> None:
    index = json.loads(index_file(folder, name).read_text())
    kept = {key: value[:-1] if isinstance(value, list) else value for key, value in index.items()}
    index_file(folder, name).write_text(json.dumps(kept))


def blow_up_an_image(folder: Path, name: str) -> None:
    index = json.loads(index_file(folder, name).read_text())
    index["heights"][0] = 10**30
    index_file(folder, name).write_text(json.dumps(index))


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "pixels truncated": (lambda folder, name: halve(pixel_file(folder, name)), r"\.u8"),
    "a bit flipped": (flip_a_bit, "is damaged"),
    "pixels emptied": (lambda folder, name: os.truncate(pixel_file(folder, name), 0), r"\.u8"),
    "pixels too long": (lengthen, r"\.u8"),
    "pixels missing": (lambda folder, name: pixel_file(folder, name).unlink(), "No such file"),
    "index truncated": (lambda folder, name: halve(index_file(folder, name)), "its index is damaged"),
    "index emptied": (lambda folder, name: os.truncate(index_file(folder, name), 0), "its index is damaged"),
    "index missing": (lambda folder, name: index_file(folder, name).unlink(), "missing"),
    "index of something else": (
        lambda folder, name: index_file(folder, name).write_text('{"run_id": "0123456789-s0"}'),
        "its index is damaged",
    ),
    "index of an impossible size": (blow_up_an_image, ""),
    "index of fewer images": (forget_the_last_image, "its index is of other images"),
}
"""Each with the reason that is given for not using the pack."""
