"""The states of all runs of a folder, reading only the results that were not read before."""

import contextlib
import os
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from caltech_exp.results import RESULT
from caltech_exp.states import run_state
from caltech_exp.study import RUN_FOLDER
from reports.outcome import Outcome, outcome_of
from reports.result_cache import Known, load, save, stamp

MANY = 500
"""So many files are read by several processes: starting them takes a second."""


@dataclass(frozen=True)
class Seen:
    """The state of a run as its files tell it (caltech_exp.states), and its outcome if it has one."""

    state: str
    detail: str = ""
    outcome: Outcome | None = None


def run_names(folder: Path) -> set[str]:
    """The runs that left a folder: study.run_folders without a Path for each, which 12,000 runs notice."""
    return set(filter(RUN_FOLDER.fullmatch, os.listdir(folder))) if folder.is_dir() else set()  # noqa: PTH208


def read_runs(
    folder: Path, names: Collection[str], submitted: Collection[str], cache: Path | None
) -> dict[str, Seen]:
    """Run id -> what is seen of it, for `names` in their order; `cache` keeps what was read, if it is given."""
    known = load(cache) if cache else {}
    paths = {name: f"{folder}/{name}/{RESULT}" for name in names}
    stamps = {name: stamp(path) for name, path in paths.items()}
    seen: dict[str, Seen] = {}
    kept: Known = {}
    for name, path in paths.items():
        before = known.get(path)
        if before and before[0] == stamps[name]:
            kept[path] = before
            seen[name] = Seen(before[1].status, outcome=before[1])
    new = [name for name in names if name not in seen]
    seen |= _read(folder, new, submitted)
    for name in new:
        found, one = stamps[name], seen[name].outcome
        if found and one:  # stamped before it was read: a file replaced since then will not match
            kept[paths[name]] = (found, one)
    if cache and (len(kept) != len(known) or any(seen[name].outcome for name in new)):
        with contextlib.suppress(OSError):  # it only saves time
            save(cache, kept)
    return {name: seen[name] for name in names}


def _read(folder: Path, names: list[str], submitted: Collection[str]) -> dict[str, Seen]:
    pairs = [(name, name in submitted) for name in names]
    processes = min(os.cpu_count() or 1, 8)
    if len(pairs) < MANY or processes < 2:
        return dict(map(partial(_see, folder), pairs))
    with ProcessPoolExecutor(processes) as pool:
        return dict(pool.map(partial(_see, folder), pairs, chunksize=100))


def _see(folder: Path, pair: tuple[str, bool]) -> tuple[str, Seen]:
    name, submitted = pair
    state = run_state(folder / name, queue=None, submitted=submitted)
    outcome = outcome_of(state.result) if state.result else None
    return name, Seen(state.state, state.detail, outcome)
