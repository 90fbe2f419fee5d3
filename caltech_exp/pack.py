"""A pack opened: its pixels mapped as a tensor, only if it is whole and up to date.

Processes that map the same pack share its pixels through the page cache.
"""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from caltech_exp.pack_index import Contents, Layout, PackIndex, pixel_file, read_index


@dataclass(frozen=True, eq=False)
class Pack:
    """An opened pack.

    pixels   uint8 [all pixels, 3], mapped from the file
    heights, widths, offsets  int64 [images]: an image's size and its first pixel
    """

    path: Path
    layout: Layout
    pixels: torch.Tensor
    heights: torch.Tensor
    widths: torch.Tensor
    offsets: torch.Tensor
    mapping: mmap.mmap

    def release(self) -> None:
        """Give the mapped pages back: in the page cache they stay, this process's memory they no longer are."""
        self.mapping.madvise(mmap.MADV_DONTNEED)


def load_pack(folder: Path, name: str, contents: Contents) -> Pack | str:
    """The pack `name` in `folder`, verified byte by byte, or why it cannot be used, in a few words."""
    index = read_index(folder, name, contents)
    if not isinstance(index, PackIndex):
        return index
    heights, widths = torch.tensor(index.heights), torch.tensor(index.widths)
    sizes = heights * widths
    path = pixel_file(folder, name)
    try:
        mapping = _map(path)
    except (OSError, ValueError) as error:
        return f"{path.name}: {error}"
    pixels = torch.frombuffer(mapping, dtype=torch.uint8).view(-1, 3)
    return Pack(path, index.layout, pixels, heights, widths, sizes.cumsum(0) - sizes, mapping)


def _map(path: Path) -> mmap.mmap:
    """The file mapped privately: torch wants memory it could write to, and the file must stay as it is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    finally:
        os.close(handle)
