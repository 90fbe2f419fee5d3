"""Checkpoints on disk."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.training import checkpoint
from caltech_exp.training.checkpoint import TRAILER, read_checkpoint, write_checkpoint
from tests.conftest import Disk

STATE: dict[str, Any] = {
    "weights": torch.arange(50_000.0),
    "epochs": [{"epoch": 1, "val_loss": None}],
    "rate": 0.1,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, STATE)
    return path


def test_checkpoint_returns_the_state(path: Path) -> None:
    found = read_checkpoint(path)
    assert isinstance(found, dict)
    assert torch.equal(found.pop("weights"), STATE["weights"])
    assert found == {"epochs": STATE["epochs"], "rate": 0.1}


def test_missing_checkpoint_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "checkpoint.pt") is None


@pytest.mark.parametrize("length", [0, 1, TRAILER, TRAILER + 1, 1000, 100_000])
def test_part_of_a_checkpoint_is_refused(length: int, path: Path) -> None:
    content = path.read_bytes()
    assert length < len(content)
    for part in (content[:length], content[len(content) - length :]):
        path.write_bytes(part)
        assert isinstance(read_checkpoint(path), str)


@pytest.mark.parametrize("where", [0, 2_000, 100_000, -TRAILER, -1])
def test_flipped_bit_is_noticed(where: int, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    assert isinstance(read_checkpoint(path), str)


def test_checkpoint_cannot_run_code(tmp_path: Path, path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "evil"),))

    write_checkpoint(path, {"net": Evil()})  # with a checksum that is right
    assert read_checkpoint(path) == "it holds more than numbers and tensors"
    assert not (tmp_path / "evil").exists()


def test_unreadable_checkpoint_raises_oserror(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(_path: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(checkpoint, "open_file", stale)
    with pytest.raises(OSError, match="Stale file handle"):
        read_checkpoint(path)


def test_checkpoint_that_is_a_pipe_or_sparse_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_checkpoint(tmp_path / "pipe") == "it is a pipe or a device, not a file"
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40)
    assert read_checkpoint(tmp_path / "sparse") == "it is not a whole checkpoint of this version"


def test_full_disk_leaves_the_checkpoint_before(small_disk: Disk) -> None:
    path = small_disk.path / "checkpoint.pt"
    write_checkpoint(path, STATE)
    more = {"weights": torch.zeros(400_000)}
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, more)
    assert [file.name for file in small_disk.path.iterdir()] == ["checkpoint.pt"]
    found = read_checkpoint(path)
    assert isinstance(found, dict)
    assert torch.equal(found["weights"], STATE["weights"])
    small_disk.change("size=4m")
    write_checkpoint(path, more)
    assert isinstance(read_checkpoint(path), dict)
