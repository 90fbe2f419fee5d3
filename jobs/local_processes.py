"""Tasks of a submission on this machine whose queue process is gone: found, and told to end.

A process is known by its command line, which names the submission's folder, and not by a number that may have
become another's: the number is pinned (pidfd), then looked at, then signalled.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

TASK = b"submitit.core._submit"


def end_orphans(folder: Path) -> int:
    """Tell the tasks of a submission to end (SIGTERM); how many processes were told."""
    told = 0
    if not hasattr(os, "pidfd_open"):  # not Linux, where these tasks run
        return told
    for pid in _numbers():
        try:
            pinned = os.pidfd_open(pid)
        except OSError:  # it has ended, or an old kernel (before Linux 5.3)
            continue
        try:
            if _is_task(pid, folder):
                signal.pidfd_send_signal(pinned, signal.SIGTERM)
                told += 1
        except (OSError, ProcessLookupError):  # it has ended, or is another user's
            continue
        finally:
            os.close(pinned)
    return told


def has_orphans(folder: Path) -> bool:
    """Whether a task of the submission runs on this machine."""
    return any(_is_task(pid, folder) for pid in _numbers())


def _numbers() -> Iterator[int]:
    """Of the processes of this machine; none where /proc does not tell (macOS)."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        names = []
    return (int(name) for name in names if name.isdigit())


def _is_task(pid: int, folder: Path) -> bool:
    """`python -u -m submitit.core._submit FOLDER`, whatever path the folder was named by."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if len(words) < 2 or words[-2] != TASK:
            return False
        named = Path(os.fsdecode(words[-1]))
        return named.name == folder.name and named.samefile(folder)
    except OSError:
        return False
