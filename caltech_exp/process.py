"""How processes of one machine know each other: by number, and by when they started."""

from pathlib import Path


def machine() -> str:
    """This boot of this machine and this name space of process numbers; empty where Linux does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_of(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None if there is none, or only its remains (a
    zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
