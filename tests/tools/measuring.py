"""What commands take, from outside: time, processor time, memory, and how often they ask Slurm."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.provenance import CHECKOUT
from tests.tools.testbed import path_with

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol")


@dataclass(frozen=True)
class Measured:
    """A command that ended well; processor seconds are those of its children too, memory is its own."""

    seconds: float
    processor_seconds: float
    peak_mb: float
    printed: str

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s, {self.processor_seconds:7.2f} s of processor, {self.peak_mb:5.0f} MB"


def measured(command: tuple[str, ...], environment: dict[str, str]) -> Measured:
    """A Python command from the checkout, which must succeed."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *command], stdout=out, stderr=errors, cwd=CHECKOUT, env=environment
        )
        peak_mb, ended = 0.0, 0
        while not ended:  # what wait4 tells of memory is never less than this process's own
            time.sleep(0.02)
            peak_mb = max(peak_mb, _peak_mb(process.pid))
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        assert process.returncode == 0, errors.read()
        return Measured(seconds, usage.ru_utime + usage.ru_stime, peak_mb, out.read())


def _peak_mb(pid: int) -> float:
    """The most memory that the process has had, as long as it lives."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


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
