"""Memory of a process that trains on a CPU: keep what was freed, in large pages."""

import ctypes
import os

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""
TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, on Linux with glibc; elsewhere nothing changes.

    Every step allocates the same hundreds of megabytes of activations. By default each is mapped anew, and the
    page faults take longer than the smaller layers. Large pages come with it where this is called before torch is
    imported. No number of a run depends on it.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, TOP_PAD_BYTES)
