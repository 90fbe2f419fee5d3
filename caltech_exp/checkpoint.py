"""A checkpoint on disk: one file, whole or not there, with a checksum, that executes nothing when read."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from caltech_exp.files import look_again, new_file

MARK = b"caltech_exp checkpoint 1 sha256 "
"""Begins the file's last bytes; the checksum, in 64 hex digits, follows. Before it stands what torch.save
wrote."""
TRAILER = len(MARK) + 64


class _Hashing(io.RawIOBase):
    """Passes on what is written, hashes it, and remembers what went wrong: torch.save tells something else."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` by `state` (tensors, numbers, texts, lists, dicts) in one step. Raises OSError."""
    with new_file(path) as file:
        hashing = _Hashing(file)
        try:
            torch.save(state, cast("IO[bytes]", hashing))
        except RuntimeError:
            if hashing.error:
                raise hashing.error from None
            raise
        file.write(MARK + hashing.digest.hexdigest().encode())


def read_checkpoint(path: Path) -> dict[str, Any] | str | None:
    """The state in `path` on the CPU, None if there is no such file, or in a few words why it cannot be used.

    Raises OSError if the file cannot be read now: it may be whole, and is not to be written over.
    """
    try:
        content = look_again(path.read_bytes)
    except FileNotFoundError:
        return None
    if len(content) < TRAILER or content[-TRAILER:-64] != MARK:
        return "it is not a whole checkpoint of this version"
    if hashlib.sha256(memoryview(content)[:-TRAILER]).hexdigest().encode() != content[-64:]:
        return "its checksum is wrong"
    # The checksum says that it is what was written; weights_only, that nothing in it is executed.
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return "it holds something else than numbers and tensors"
    return state if isinstance(state, dict) else "it holds no run"
