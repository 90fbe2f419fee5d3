"""One function over many files, by as many processes as the machine has cores where it pays."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MANY = 500
"""So many files are read by several processes: starting them takes a second."""


def in_processes(function: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """`function` of each item, in their order; it and they are pickled."""
    processes = min(os.cpu_count() or 1, 8)
    if len(items) < MANY or processes < 2:
        return list(map(function, items))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(function, items, chunksize=100))
