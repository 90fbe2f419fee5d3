"""What commands take, from outside: time, processor time, memory, and how often they ask Slurm."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.cli import UserError
from caltech_exp.provenance import CHECKOUT
from tests.tools.testbed import path_with

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol")


SPAWN = Path(__file__).parent / "spawn.py"


@dataclass(frozen=True)
class Measured:
    """A command that ended well; processor seconds are of all its processes, memory is the largest one's."""

    seconds: float
    processor_seconds: float
    peak_mb: float
    printed: str

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s, {self.processor_seconds:7.2f} s of processor, {self.peak_mb:5.0f} MB"


def measured(command: Sequence[str], environment: Mapping[str, str]) -> Measured:
    """A Python command from the checkout. Raises UserError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        done = subprocess.run(
            [sys.executable, "-S", str(SPAWN), str(figures), sys.executable, *command],
            capture_output=True, text=True, cwd=CHECKOUT, env=environment, check=False,
        )  # fmt: skip
        if done.returncode:
            raise UserError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
        return Measured(**json.loads(figures.read_text()), printed=done.stdout)


def counting(folder: Path) -> tuple[str, Path]:
    """A PATH on which Slurm's commands are noted in the returned file before they are run."""
    log = folder / "asked"
    log.touch()
    for name in COMMANDS:
        path = path_with(folder, name, f'echo {name} >> {log}; exec {shutil.which(name)} "$@"')
    return path, log


def asked(log: Path) -> Counter[str]:
    """How often each command was given since the last call."""
    counts = Counter(log.read_text().split())
    log.write_text("")
    return counts


def on_disk(folder: Path) -> tuple[int, int]:
    """Files, and bytes of the blocks they take."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return len(files), sum(path.lstat().st_blocks * 512 for path in files)
