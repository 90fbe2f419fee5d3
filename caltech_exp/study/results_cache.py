"""Which runs of a study have a result, and how long they took: read once, and then kept beside the study.

The results of a study of 10,000 runs are 200 MB of JSON. What states and forecasts need of them is kept in
RUNS/.cache/past_runs, a file that only saves time (caltech_exp/files.py); a result that has changed is read
again.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

from caltech_exp import config, records
from caltech_exp.bootstrap import look_again
from caltech_exp.config import CUSTOM_NETWORK, RunConfig
from caltech_exp.files import Stamp, in_processes, load_content, names_in, save_content, stamp
from caltech_exp.study import results
from caltech_exp.study.results import RESULT, Result, read_result
from caltech_exp.study.study import RUN_FOLDER

CACHE = Path(".cache") / "past_runs"
READERS = (config, results, records, results, sys.modules[__name__])


@dataclass(frozen=True, slots=True)
class PastRun:
    """What a result tells of its run's length.

    kind           what decides over the length of an epoch (kind_of)
    fingerprint    of the data set
    epochs         that were trained, of `train_images` each; `epoch_seconds` is what they took together
    wall_seconds   of the whole run, with building the network and testing it
    """

    status: Literal["finished", "diverged"]
    kind: str
    fingerprint: str
    device_type: str
    device: str
    epochs: int
    train_images: int
    epoch_seconds: float
    wall_seconds: float


_Known = dict[str, tuple[Stamp, PastRun]]


def network_of(config: RunConfig) -> tuple[str, str]:
    """A network's name, of one's own the function's; and of its file's hash the first digits."""
    own = CUSTOM_NETWORK.fullmatch(config.model)
    return (own["function"], (own["digest"] or "")[:8]) if own else (config.model, "")


def kind_of(config: RunConfig) -> str:
    """`alexnet, fast bf16, freeze=conv, augment=none`: runs alike in this take alike for an image."""
    network = " ".join(filter(None, network_of(config)))
    return f"{network}, {config.engine} {config.precision}, freeze={config.freeze}, augment={config.augment}"


def past_runs(runs: Path, fingerprint: str | None, *, keep: bool = True) -> dict[str, PastRun]:
    """Run id -> its result in short, for every run in the folder that has one on the data of `fingerprint`.

    None takes a result on any. Nothing is written unless `keep`.
    """
    known = _load(runs / CACHE)
    found: _Known = {}
    new: list[tuple[str, Stamp]] = []
    for name in run_names(runs):
        now = stamp(f"{runs}/{name}/{RESULT}")
        before = known.get(name)
        if before and before[0] == now:
            found[name] = before
        elif now:  # stamped before it is read: a file replaced since then will not match
            new.append((name, now))
    for (name, now), past in zip(new, in_processes(partial(_read, runs), [name for name, _ in new]), strict=True):
        if past:
            found[name] = (now, past)
    if keep and found != known:
        with contextlib.suppress(OSError):  # it only saves time
            _save(runs / CACHE, found)
    return {name: past for name, (_, past) in found.items() if fingerprint in (None, past.fingerprint)}


def run_names(runs: Path) -> list[str]:
    """The runs that left a folder: study.run_folders without a Path for each, which 10,000 runs notice."""
    return sorted(filter(RUN_FOLDER.fullmatch, names_in(runs))) if look_again(runs.is_dir) else []


def shortened(result: Result) -> PastRun:
    """What is kept of a result."""
    return PastRun(
        status=result.status,
        kind=kind_of(result.config),
        fingerprint=result.data.fingerprint,
        device_type=result.device.type,
        device=result.device.name,
        epochs=len(result.epochs),
        train_images=result.data.train_images,
        epoch_seconds=sum(epoch.seconds for epoch in result.epochs),
        wall_seconds=result.wall_seconds,
    )


def _read(runs: Path, name: str) -> PastRun | None:
    result = read_result(runs / name)
    return shortened(result) if isinstance(result, Result) else None


def _load(path: Path) -> _Known:
    content = load_content(path, READERS)
    if content is None:
        return {}
    texts, rows = json.loads(content)
    return {name: (Stamp(*at), PastRun(*(texts[i] for i in words), *rest)) for name, at, words, rest in rows}


def _save(path: Path, known: Mapping[str, tuple[Stamp, PastRun]]) -> None:
    """The five texts of a PastRun are written once each."""
    numbers: dict[str, int] = {}
    rows = []
    for name, (at, past) in known.items():
        values = astuple(past)
        words = [numbers.setdefault(cast(str, text), len(numbers)) for text in values[:5]]
        rows.append((name, (at.size, at.mtime, at.inode), words, values[5:]))
    save_content(path, json.dumps((list(numbers), rows)).encode(), READERS)
