"""Writers killed at every system call that matters: a reader finds what was there before, or all that is new."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from caltech_exp.records import read_record, write_record
from caltech_exp.study.results import PROGRESS, Progress
from caltech_exp.study.run_status import remove_half_written
from caltech_exp.training.checkpoint import read_checkpoint, write_checkpoint

CALLS = ("openat", "write", "lseek", "fsync", "chmod,fchmod,fchmodat", "rename,renameat,renameat2", "close")
"""The system calls of which each one is a moment to die in."""
RECORD = Progress(
    run_id="r",
    epoch=1,
    epochs=9,
    images_per_second=1.0,
    submission="s",
    job="j",
    host="h",
    when="2026-01-01T12:00:00Z",
)


def dies_at(strace: str, calls: str, number: int, write: Callable[[], object], log: Path) -> bool:
    """Whether a child process that calls write() is killed at its call `number` of these; it may make fewer."""
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        write()
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    command = [strace, "-f", "-p", str(child), f"-einject={calls}:signal=KILL:when={number}", "-o", str(log)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    first = tracer.stderr.readline()
    assert "attached" in first, first
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    tracer.communicate(timeout=30)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def kill_everywhere(strace: str, write: Callable[[], object], check: Callable[[], object], log: Path) -> int:
    """Kill write() at each call of every kind, and check() after each; how many times that was."""
    deaths = 0
    for calls in CALLS:
        number = 1
        while dies_at(strace, calls, number, write, log):
            check()
            number += 1
            deaths += 1
    return deaths


def test_a_record(strace: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_record(folder, PROGRESS, RECORD)
    seen = set()

    def check() -> None:
        found = read_record(folder / PROGRESS, Progress)
        assert isinstance(found, Progress)
        seen.add(found.epoch)
        write_record(folder, PROGRESS, RECORD)
        remove_half_written(folder)
        assert [path.name for path in folder.iterdir()] == [PROGRESS]

    new = RECORD.model_copy(update={"epoch": 2, "run_id": "r" * 100_000})
    deaths = kill_everywhere(strace, lambda: write_record(folder, PROGRESS, new), check, tmp_path / "log")
    assert (
        deaths >= 8
    )  # two files opened, written, flushed, its mode set, renamed, the folder flushed, both closed
    assert seen == {1, 2}


def test_the_first_record_of_a_run(strace: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()

    def check() -> None:
        assert isinstance(read_record(folder / PROGRESS, Progress), Progress | None)
        for path in folder.iterdir():
            path.unlink()

    assert kill_everywhere(strace, lambda: write_record(folder, PROGRESS, RECORD), check, tmp_path / "log") >= 8


def test_a_checkpoint(strace: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    old: dict[str, Any] = {"epoch": 1, "weights": torch.zeros(100_000)}
    write_checkpoint(path, old)
    seen = set()

    def check() -> None:
        found = read_checkpoint(path)
        assert isinstance(found, dict)
        assert torch.equal(found["weights"], torch.full((100_000,), float(found["epoch"] - 1)))
        seen.add(found["epoch"])
        write_checkpoint(path, old)
        remove_half_written(path.parent)
        assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]

    new = {"epoch": 2, "weights": torch.ones(100_000)}
    deaths = kill_everywhere(strace, lambda: write_checkpoint(path, new), check, tmp_path / "log")
    assert deaths >= 10
    assert seen == {1, 2}


def test_the_log_of_a_kill_names_it(strace: str, tmp_path: Path) -> None:
    """The tool does what the tests above take it to do."""
    log = tmp_path / "log"
    assert dies_at(strace, "write", 1, lambda: (tmp_path / "a").write_text("text"), log)
    assert "killed by SIGKILL" in log.read_text()
    assert (tmp_path / "a").read_text() == ""  # opened, and killed before the call took place
    assert not dies_at(strace, "write", 2, lambda: (tmp_path / "a").write_text("x"), log)
