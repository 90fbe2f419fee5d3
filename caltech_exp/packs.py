"""Where packs lie, and having one there: open what is whole, make what is missing, one process at a time."""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.errors import UserError
from caltech_exp.files import file_system_time, locked, new_file
from caltech_exp.pack import Pack, load_pack
from caltech_exp.pack_index import Contents, index_file, pixel_file
from caltech_exp.packing import write_pack

LEFT_SECONDS = 600.0
"""After so long without a write a temporary file is a killed process's: whoever writes adds image after image."""


@dataclass(frozen=True)
class PackPlace:
    """The folder that all tasks share, and a folder on the node's own disk to copy packs to, if there is one."""

    shared: Path
    on_node: Path | None = None


def open_pack(place: PackPlace, contents: Contents) -> Pack:
    """The verified pack of these images, made or copied first where it is missing or damaged.

    Raises UserError if the folder cannot be written or an image cannot be decoded.
    """
    if place.on_node:
        try:
            return _copied_pack(place.shared, place.on_node, contents)
        except OSError as error:
            print(f"packs on the node, {place.on_node}: {error.strerror}; using {place.shared}", flush=True)
    return shared_pack(place.shared, contents)


def shared_pack(folder: Path, contents: Contents) -> Pack:
    """The verified pack in a folder, made there if need be. Raises UserError as `open_pack` does."""
    try:
        return _have(folder, contents, write_pack)
    except OSError as error:
        raise UserError(
            f"packs folder {folder}: {error.strerror}; make room there, name another folder by packs: in the "
            "profile, or make the packs where it can be written, with python jobs/prepare.py"
        ) from None


def _copied_pack(shared: Path, on_node: Path, contents: Contents) -> Pack:
    """The pack on the node's own disk, copied from the shared folder if need be. Raises OSError."""

    def copy(folder: Path, name: str, contents: Contents) -> None:
        shared_pack(shared, contents)
        for part in (pixel_file, index_file):
            with part(shared, name).open("rb") as source, new_file(part(folder, name)) as target:
                shutil.copyfileobj(source, target, 2**22)

    return _have(on_node, contents, copy)


def _have(folder: Path, contents: Contents, bring: Callable[[Path, str, Contents], None]) -> Pack:
    """Load the pack; where it cannot be used, one process brings it under a lock and the others wait.

    Where locks have no effect (Lustre without flock, NFS with nolock) several may bring it at once. No harm is
    done: each writes files of its own that take the pack's names when they are whole, pixels first, and a pack is
    used only if its pixels are its index's, byte by byte. A damaged one is not removed: it may be whole by now.
    """
    name = contents.name
    _remove_left(folder, name)
    pack = load_pack(folder, name, contents)
    if isinstance(pack, Pack):
        return pack
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{name}.lock"):
        pack = load_pack(folder, name, contents)  # perhaps another process brought it meanwhile
        if isinstance(pack, Pack):
            return pack
        if pack != "not there":
            print(f"pack {folder / name}: {pack}; it is made anew", flush=True)
        bring(folder, name, contents)
        pack = load_pack(folder, name, contents)
    if isinstance(pack, str):
        raise UserError(f"pack {folder / name} cannot be used right after it was written ({pack}); check the disk")
    return pack


def _remove_left(folder: Path, name: str) -> None:
    """Remove the pack's temporary files that nobody writes any more."""
    with contextlib.suppress(OSError):  # it is about room alone, and the folder may be for reading only
        left = [*folder.glob(f".{name}.u8.*"), *folder.glob(f".{name}.json.*")]
        now = file_system_time(folder) if left else 0.0
        for path in left:
            if now - path.stat().st_mtime > LEFT_SECONDS:
                path.unlink()
