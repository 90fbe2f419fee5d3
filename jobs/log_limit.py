"""Logs that do not fill a disk: of one that grows too long, the middle is left out in place.

submitit has Slurm (or its own controller, on this machine) open `<job>_0_log.out` and `.err` for appending, as
the task's standard output and error themselves. So whatever is printed, by Python, by C++ or by a child, is in the
file at once, and a SIGKILL loses nothing. A thread of the task looks at the size of both files every second and
shortens one that is too long: its head stays, then a line says how much was left out, then its tail.

A pipe to a process that writes the files would bound them to the byte, but costs every line a copy, loses what is
in the pipe when the task's cgroup is killed, and stops the task when that process dies. Here a task that prints
without end is above the limit for at most a second, and of lines that are written in the very moment of shortening
some may be missing or stand before the line.
"""

import fcntl
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Collection

LOOK_SECONDS = 1.0
OMITTED = re.compile(rb"\n\.\.\. ([\d,]+) bytes of this log were left out here \.\.\.\n")
LONGEST_LINE = 4096
"""Where head and tail are cut at a line's end: within that many bytes."""


def limit_logs(megabytes: float) -> None:
    """Keep standard output and error of this process below `megabytes` each, from now on to its end.

    Each must be a regular file opened for appending; anything else is left as it is, with a line that says so.
    """
    limit = round(megabytes * 1e6)
    files = [fd for fd in (1, 2) if _can_be_shortened(fd)]
    if len(files) < 2:
        print("not a log file opened for appending: its size is not limited", file=sys.stderr, flush=True)
    threading.Thread(target=_watch, args=(files, limit), name="log-limit", daemon=True).start()


def shorten(fd: int, limit: int) -> None:
    """Leave out the middle of the file if it is longer than `limit` bytes; about half as many are kept.

    `fd` is opened for appending, and the file may be appended to meanwhile. Raises OSError.
    """
    size = os.fstat(fd).st_size
    if size <= limit:
        return
    file = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        head, before = _head(file, limit // 8)
        start = size - 3 * limit // 8
        tail = os.pread(file, size - start, start)
        tail = tail[tail.find(b"\n", 0, LONGEST_LINE) + 1 :]
        left_out = before + size - len(tail) - head
        more = os.pread(file, limit, size)  # what was printed meanwhile
        tail += more
        os.ftruncate(file, head)
        os.write(file, b"\n... %s bytes of this log were left out here ...\n" % f"{left_out:,}".encode() + tail)
    finally:
        os.close(file)


def _head(file: int, length: int) -> tuple[int, int]:
    """Bytes of the head that stay, and how many were left out after it before, less the line that says so."""
    text = os.pread(file, length + LONGEST_LINE, 0)
    earlier = OMITTED.search(text)
    if earlier:
        number = int(earlier[1].replace(b",", b""))
        return earlier.start(), number - len(earlier[0])
    end = text.rfind(b"\n", 0, length)
    return (end if end >= length - LONGEST_LINE and end > 0 else length), 0


def _can_be_shortened(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:
        return False


def _watch(files: Collection[int], limit: int) -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        for fd in files:
            try:
                shorten(fd, limit)
            except OSError:  # a disk that cannot be written, for now
                continue
