"""The size of a task's log is limited while it runs.

Slurm (on this machine submitit's controller) opens `<job>_0_log.out` and `.err` for appending as the task's
standard output and error. So whatever Python, C++ or a child process prints is in the file at once, and a SIGKILL
loses nothing. A thread of the task checks the size of both files every second and shortens one that is too large:
its head and tail stay, with a line between them that says how much was removed.

A pipe to a process that writes the files would bound them exactly. But it would copy every line, lose its content
when the task's cgroup is killed, and stop the task when that process dies. Here a log may exceed the limit for a
second, and lines printed at the very moment of shortening may be missing or stand before the line.
"""

import fcntl
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Collection

LOG_CHECK_SECONDS = 1.0
OMITTED = re.compile(rb"\n\.\.\. ([\d,]+) bytes of this log were left out here \.\.\.\n")
MAX_LINE_BYTES = 4096  # head and tail are cut at the end of a line if there is one within so many bytes


def limit_logs(megabytes: float) -> None:
    """Keep standard output and error of this process below `megabytes` each until it ends.

    A stream that is not a regular file opened for appending is not limited; a line says so.
    """
    limit = round(megabytes * 1e6)
    files = [fd for fd in (1, 2) if _can_be_shortened(fd)]
    if len(files) < 2:
        print("not a log file opened for appending: its size is not limited", file=sys.stderr, flush=True)
    threading.Thread(target=_watch, args=(files, limit), name="log-limit", daemon=True).start()


def shorten(fd: int, limit: int) -> None:
    """Remove the middle of a file of more than `limit` bytes; about half the limit stays.

    `fd` is opened for appending, and the file may grow meanwhile. Raises OSError.
    """
    size = os.fstat(fd).st_size
    if size <= limit:
        return
    file = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        head, removed_before = _head(file, limit // 8)
        start = size - 3 * limit // 8
        tail = os.pread(file, size - start, start)
        tail = tail[tail.find(b"\n", 0, MAX_LINE_BYTES) + 1 :]
        removed = removed_before + size - len(tail) - head
        tail += os.pread(file, limit, size)  # what was printed meanwhile
        os.ftruncate(file, head)
        os.write(file, b"\n... %s bytes of this log were left out here ...\n" % f"{removed:,}".encode() + tail)
    finally:
        os.close(file)


def _head(file: int, length: int) -> tuple[int, int]:
    """Bytes of the head that stay, and bytes that were removed after it before, less the line that says so."""
    text = os.pread(file, length + MAX_LINE_BYTES, 0)
    earlier = OMITTED.search(text)
    if earlier:
        number = int(earlier[1].replace(b",", b""))
        return earlier.start(), number - len(earlier[0])
    end = text.rfind(b"\n", 0, length)
    return (end if end >= length - MAX_LINE_BYTES and end > 0 else length), 0


def _can_be_shortened(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:
        return False


def _watch(files: Collection[int], limit: int) -> None:
    while True:
        time.sleep(LOG_CHECK_SECONDS)
        for fd in files:
            try:
                shorten(fd, limit)
            except OSError:  # the disk cannot be written at the moment
                continue
