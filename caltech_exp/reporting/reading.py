"""The states of all runs of a folder, reading only the results that were not read before."""

import contextlib
import os
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

from caltech_exp.files import in_processes, stamp
from caltech_exp.reporting.outcome import Outcome, outcome_of
from caltech_exp.reporting.result_cache import MOST_PARTS, Kept, Known, add, load, save
from caltech_exp.study.results import RESULT
from caltech_exp.study.run_status import run_status
from caltech_exp.study.study import RUN_FOLDER


class Seen(NamedTuple):
    """The state of a run as its files tell it (caltech_exp.study.run_status), and its outcome if it has one."""

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
    before = load(cache) if cache else Kept()
    paths = {name: f"{folder}/{name}/{RESULT}" for name in names}
    stamps = {name: stamp(path) for name, path in paths.items()}
    seen: dict[str, Seen] = {}
    known: Known = {}
    for name, path in paths.items():
        entry = before.known.get(path)
        if entry and entry[0] == stamps[name]:
            known[path] = entry
            seen[name] = Seen(entry[1].status, outcome=entry[1])
    unknown = [name for name in names if name not in seen]
    seen |= _read(folder, unknown, submitted)
    new: Known = {}
    for name in unknown:
        found, one = stamps[name], seen[name].outcome
        if found and one:  # stamped before it was read: a file replaced since then will not match
            new[paths[name]] = (found, one)
    if cache and new:
        with contextlib.suppress(OSError):  # it only saves time
            _keep(cache, before, known, new)
    return {name: seen[name] for name in names}


def _keep(cache: Path, before: Kept, known: Known, new: Known) -> None:
    """Add what is new, or write all of it where too much of the file has become useless. Raises OSError."""
    if before.whole and 0 < before.parts < MOST_PARTS and 2 * len(known) >= len(before.known):
        add(cache, new)
    else:
        save(cache, known | new)


def _read(folder: Path, names: list[str], submitted: Collection[str]) -> dict[str, Seen]:
    return dict(in_processes(partial(_see, folder), [(name, name in submitted) for name in names]))


def _see(folder: Path, pair: tuple[str, bool]) -> tuple[str, Seen]:
    name, submitted = pair
    state = run_status(folder / name, queue=None, submitted=submitted)
    outcome = outcome_of(state.result) if state.result else None
    return name, Seen(state.state, state.detail, outcome)
