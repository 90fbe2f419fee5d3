"""How processes of one machine know each other: by number, and by when they started."""

import os
import re
import socket
from pathlib import Path


def host_name(name: str | None = None) -> str:
    """A machine's name as a record holds it (record.HostName): this one's where none is given."""
    return re.sub(r"[^\w.:()-]", "_", socket.gethostname() if name is None else name)[:255]


def machine() -> str:
    """This boot of this machine and this name space of process numbers; empty where Linux does not tell.

    Machines that were cloned while they ran have the same: compare the host's name too.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 (text, not a path)
            return ""  # the /proc of another name space: its numbers are not ours
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def is_alive(pid: int, started: int) -> bool | None:
    """Whether the process `pid` that started then still lives on this machine; None if that cannot be known.

    A /proc that is mounted with hidepid shows no processes of other users, whether they live or not.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's, perhaps one that has the number now
        pass
    state, start = _stat(pid) or ("", 0)
    if not state:
        return None
    return state not in "ZX" and start == started


def start_of(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if there is none to be seen, or only its remains
    (a zombie)."""
    state, start = _stat(pid) or ("X", 0)
    return None if state in "ZX" else start


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process, None if /proc does not show it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return (fields[0], int(fields[19])) if len(fields) > 19 else None
