"""What the program prints and writes, kept as text: a refactor shows here, line by line, whatever it changes.

`python -m pytest tests/snapshots --snapshot-update` writes the snapshots again; the commit says why lines changed.
"""

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from tests.conftest import CHECKOUT

LIBRARIES = ("torch", "torchvision", "submitit", "pillow", "numpy")

CHANGING = (
    (r"\b\d{8}T\d{6}-[0-9a-f]{4}\b", "SUBMISSION"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:?\d\d| [A-Z]{3,5}\b)?", "TIME"),
    (r'("commit": )"[0-9a-f]{40}"', r"\1COMMIT"),
    (r'("dirty": )(true|false)', r"\1DIRTY"),
    (r'("source": )"[0-9a-f]{16}"', r"\1SOURCE"),
    (r"sources/\d+/[0-9a-f]{16}\b", "sources/UID/SOURCE"),
    (r'("uid": )\d+', r"\1UID"),
    (r'("user": )"[^"]*"', r"\1USER"),
    (r"(umask |UMASK=)0\d{3}\b", r"\1UMASK"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
)
"""What no two submissions have in common, and what stands for it."""


class TextFile(SingleFileSnapshotExtension):
    """One readable file a snapshot."""

    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.fixture
def kept(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Compares text with the file that is kept of it."""
    return snapshot.use_extension(TextFile)


@pytest.fixture
def plain(tmp_path: Path) -> Callable[[str], str]:
    """Text without what depends on the machine, the moment or the commit."""

    def replace(text: str) -> str:
        for path, name in ((tmp_path, "FOLDER"), (CHECKOUT, "CHECKOUT")):
            text = text.replace(str(path), name)
        text = text.replace(sys.executable, "PYTHON").replace(socket.gethostname(), "HOST")
        for library in LIBRARIES:
            text = text.replace(f'"{library}": "{version(library)}"', f'"{library}": VERSION')
        text = text.replace(f'"python": "{platform.python_version()}"', '"python": VERSION')
        for pattern, name in CHANGING:
            text = re.sub(pattern, name, text)
        return "".join(f"{line.rstrip()}\n" for line in text.splitlines())

    return replace


@dataclass(frozen=True)
class PretendSlurm:
    """Slurm's commands as scripts that note what they were given, and a queue that stays empty."""

    bin: Path
    notes: Path

    @property
    def path(self) -> str:
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def batch_scripts(self) -> list[str]:
        """Every batch script that sbatch was given, in order."""
        return [path.read_text() for path in sorted(self.notes.glob("*.sh"))]


@pytest.fixture
def pretend_slurm(tmp_path: Path) -> PretendSlurm:
    """A cluster that takes every job and runs none."""
    folder, notes = tmp_path / "slurm-bin", tmp_path / "notes"
    folder.mkdir()
    notes.mkdir()
    scripts = {
        "sbatch": f'n=$(ls {notes} | wc -l); for last; do :; done; cp "$last" {notes}/$n.sh; '
        'echo "Submitted batch job $((100 + n))"',
        "squeue": "exit 0",
        "scontrol": 'echo "MaxArraySize            = 1001"',
        "sinfo": "exit 0",
        "scancel": "exit 0",
        "sacct": "exit 0",
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    assert shutil.which("sbatch", path=str(folder))
    return PretendSlurm(folder, notes)
