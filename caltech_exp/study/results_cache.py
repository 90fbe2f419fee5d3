"""Results in short, kept in RUNS/.cache/past_runs.

The results of a study of 10,000 runs are 200 MB of JSON. The cache holds what run states and forecasts need of
them. It only saves time: a result that has changed is read again.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from operator import attrgetter
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
# The modules that decide what the cache holds: it is rebuilt when one of them changes.
READERS = (config, records, results, sys.modules[__name__])


@dataclass(frozen=True, slots=True)
class PastRun:
    """A result in short.

    kind           run_kind of its settings
    fingerprint    of the data set
    epochs         that were trained, on `train_images` each; `epoch_seconds` is their total time
    wall_seconds   of the whole run, including building and testing the network
    max_*          its settings
    val_accuracy   after the last epoch; None if it diverged
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
    max_images: int = 0
    max_per_class: int = 0
    val_accuracy: float | None = None


_Cached = dict[str, tuple[Stamp, PastRun]]
_values = attrgetter(*(field.name for field in fields(PastRun)))  # dataclasses.astuple copies each value, slowly


def network_name(config: RunConfig) -> tuple[str, str]:
    """A network's name and, for a custom network, the first digits of its file's hash."""
    custom = CUSTOM_NETWORK.fullmatch(config.model)
    return (custom["function"], (custom["digest"] or "")[:8]) if custom else (config.model, "")


def run_kind(config: RunConfig) -> str:
    """`alexnet, fast bf16, freeze=conv, augment=none`: runs of one kind take the same time per image."""
    network = " ".join(filter(None, network_name(config)))
    is_fixed = config.settings.get("frozen_batchnorm") == "eval"
    freeze = f"{config.freeze} frozen_batchnorm=eval" if is_fixed else config.freeze
    return f"{network}, {config.engine} {config.precision}, freeze={freeze}, augment={config.augment}"


def past_runs(runs: Path, fingerprint: str | None, *, keep: bool = True) -> dict[str, PastRun]:
    """Run id -> its result in short, for every run in the folder with a result on the data of `fingerprint`.

    None accepts results on any data. The cache is written only if `keep`.
    """
    cached = _load(runs / CACHE)
    current: _Cached = {}
    new: list[tuple[str, Stamp]] = []
    for name in run_names(runs):
        file_stamp = stamp(f"{runs}/{name}/{RESULT}")
        entry = cached.get(name)
        if entry and entry[0] == file_stamp:
            current[name] = entry
        elif file_stamp:  # taken before the file is read: a file replaced since then will not match
            new.append((name, file_stamp))
    summaries = in_processes(partial(_read, runs), [name for name, _ in new])
    current |= {name: (file_stamp, past) for (name, file_stamp), past in zip(new, summaries, strict=True) if past}
    if keep and current != cached:
        with contextlib.suppress(OSError):
            _save(runs / CACHE, current)
    return {name: past for name, (_, past) in current.items() if fingerprint in (None, past.fingerprint)}


def run_names(runs: Path) -> list[str]:
    """The ids of all runs that left a folder, sorted; without a Path for each, which 10,000 runs notice."""
    return sorted(filter(RUN_FOLDER.fullmatch, names_in(runs))) if look_again(runs.is_dir) else []


def summarize(result: Result) -> PastRun:
    return PastRun(
        status=result.status,
        kind=run_kind(result.config),
        fingerprint=result.data.fingerprint,
        device_type=result.device.type,
        device=result.device.name,
        epochs=len(result.epochs),
        train_images=result.data.train_images,
        epoch_seconds=sum(epoch.seconds for epoch in result.epochs),
        wall_seconds=result.wall_seconds,
        max_images=result.config.max_images,
        max_per_class=result.config.max_per_class,
        val_accuracy=result.val_accuracy,
    )


def _read(runs: Path, name: str) -> PastRun | None:
    result = read_result(runs / name)
    return summarize(result) if isinstance(result, Result) else None


def _load(path: Path) -> _Cached:
    content = load_content(path, READERS)
    if content is None:
        return {}
    texts, rows = json.loads(content)
    return {
        name: (Stamp(*file_stamp), PastRun(*(texts[number] for number in numbers), *values))
        for name, file_stamp, numbers, values in rows
    }


def _save(path: Path, runs: Mapping[str, tuple[Stamp, PastRun]]) -> None:
    """Each text is written once: a row refers to the five of its PastRun by number."""
    numbers: dict[str, int] = {}
    rows = []
    for name, (file_stamp, past) in runs.items():
        values = _values(past)
        texts = [numbers.setdefault(cast(str, text), len(numbers)) for text in values[:5]]
        rows.append((name, tuple(file_stamp), texts, values[5:]))
    save_content(path, json.dumps((list(numbers), rows)).encode(), READERS)
