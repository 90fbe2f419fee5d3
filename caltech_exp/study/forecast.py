"""How long runs take, estimated from finished runs, and when a study will have ended. Arithmetic only."""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, median

from caltech_exp.config import RunConfig, choices, split_run_id
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import PastRun, network_name, run_kind
from caltech_exp.study.run_status import RunStatus

MEASURED_RATES = Path(__file__).with_name("measured_rates.toml")
GPU_SLICE = re.compile(r"\dg\.\d+gb", re.IGNORECASE)
"""In the name of a part of a GPU (MIG)."""
MOST_SECONDS = 1e10
"""The longest estimate, which any time can be added to."""
EpochKey = tuple[str, int, int]
"""What decides how long an epoch takes: run_kind, max_images and max_per_class."""


@dataclass(frozen=True)
class Throughput:
    """How fast runs train on one type of device, evaluation included.

    device      `cuda` or `cpu`
    models      model of that device -> finished runs on it
    unfinished  runs without a result that have finished an epoch
    configs     configuration id -> mean seconds of its finished runs
    epochs      seconds of an epoch
    kinds       run_kind -> seconds of an epoch per training image
    starts      run_kind -> seconds of a finished run outside epochs; "" is all kinds together
    rates       network -> training images per second over whole epochs, from the profile
    """

    device: str
    models: Mapping[str, int] = field(default_factory=dict)
    unfinished: int = 0
    configs: Mapping[str, float] = field(default_factory=dict)
    epochs: Mapping[EpochKey, float] = field(default_factory=dict)
    kinds: Mapping[str, float] = field(default_factory=dict)
    starts: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)

    def estimate(self, config: RunConfig, images: int | None) -> float | None:
        """Seconds of a run with `images` training images per epoch (None if unknown); None without a basis.

        Runs of the same settings decide, otherwise runs of the same kind, otherwise the profile's rate.
        """
        if config.id in self.configs:
            return self.configs[config.id]
        kind, rate = run_kind(config), self.rates.get(network_name(config)[0])
        seconds = self.epochs.get(_epoch_key(config))
        if images and kind in self.kinds:
            seconds = images * self.kinds[kind]
        elif images and rate and seconds is None:
            seconds = images / rate
        start = self.starts.get(kind, self.starts.get("", 0.0))
        return None if seconds is None else min(start + config.epochs * seconds, MOST_SECONDS)

    def uses_rate(self, config: RunConfig) -> bool:
        """Whether the profile's rate decides the estimate."""
        is_measured = (
            config.id in self.configs or run_kind(config) in self.kinds or _epoch_key(config) in self.epochs
        )
        return not is_measured and network_name(config)[0] in self.rates

    def estimate_runs(self, runs: Sequence[PlannedRun], train_val_images: int | None) -> list[float | None]:
        """`estimate` of each run; `train_val_images` are in train.txt, None if unknown."""
        estimates: dict[str, float | None] = {}  # by configuration: its seeds take the same time
        for run in runs:
            if run.config.id not in estimates:
                images = train_images(run.config, train_val_images) if train_val_images else None
                estimates[run.config.id] = self.estimate(run.config, images)
        return [estimates[run.config.id] for run in runs]


def measure_throughput(
    past: Mapping[str, PastRun],
    device: str,
    rates: Mapping[str, float],
    unfinished: Iterable[tuple[RunConfig, Progress, int | None]] = (),
) -> Throughput:
    """From runs with a result on a device of that type, and runs without one: settings, progress, training images.

    Runs without a result are assumed to have been on such a device.
    """
    on_device = {run_id: run for run_id, run in past.items() if run.device_type == device}
    configs: dict[str, list[float]] = {}
    epochs: dict[EpochKey, list[float]] = {}
    images: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    count = 0
    for run_id, run in on_device.items():
        configs.setdefault(split_run_id(run_id)[0], []).append(run.wall_seconds)
        if run.epochs and run.train_images:
            seconds = run.epoch_seconds / run.epochs
            epochs.setdefault((run.kind, run.max_images, run.max_per_class), []).append(seconds)
            images.setdefault(run.kind, []).append(seconds / run.train_images)
            for kind in (run.kind, ""):
                starts.setdefault(kind, []).append(max(0.0, run.wall_seconds - run.epoch_seconds))
    for config, progress, image_count in unfinished:
        if progress.seconds_left and progress.epoch < progress.epochs:
            count += 1
            seconds = progress.seconds_left / (progress.epochs - progress.epoch)
            epochs.setdefault(_epoch_key(config), []).append(seconds)
            if image_count:
                images.setdefault(run_kind(config), []).append(seconds / image_count)
    return Throughput(
        device=device,
        models=Counter(run.device for run in on_device.values()),
        unfinished=count,
        configs={config_id: fmean(each) for config_id, each in configs.items()},
        epochs={key: median(each) for key, each in epochs.items()},
        kinds={kind: median(each) for kind, each in images.items()},
        starts={kind: median(each) for kind, each in starts.items()},
        rates=rates,
    )


def rough_throughput(gpu: str) -> tuple[str, Throughput] | None:
    """The device of MEASURED_RATES that a GPU's name is of, and its rates; of a nameless GPU, the first device's.

    Random transforms take their time besides. Frozen layers are not taken off: they were not measured.
    """
    import tomllib  # only a study without results needs it

    devices = tomllib.loads(MEASURED_RATES.read_text(encoding="utf-8"))
    names = [name for name in devices if name.lower() in gpu.lower() and not GPU_SLICE.search(gpu)]
    name = next(iter(names if gpu else devices), None)
    if name is None:
        return None
    rates = devices[name]
    inputs = {"none": 0.0} | {augment: 1 / rate for augment, rate in rates["inputs_per_second"].items()}
    kinds = {
        f"{network}, freeze={freeze}, augment={augment}": seconds / rates["images"] + inputs[augment]
        for network, seconds in rates["epoch_seconds"].items()
        for augment in (inputs if "fast" in network else ["none"])
        for freeze in (*choices("freeze"), "conv frozen_batchnorm=eval")
    }
    return name, Throughput(device="cuda", kinds=kinds, starts={"": rates["start_seconds"]})


def _epoch_key(config: RunConfig) -> EpochKey:
    return run_kind(config), config.max_images, config.max_per_class


def unfinished_runs(
    plan: Iterable[PlannedRun], statuses: Mapping[str, RunStatus], train_val_images: int | None
) -> list[tuple[RunConfig, Progress, int | None]]:
    """Of each run of the plan that is in training, or was: settings, progress, training images."""
    return [
        (run.config, progress, train_images(run.config, train_val_images) if train_val_images else None)
        for run in plan
        if (progress := statuses[run.id].progress)
    ]


def train_images(config: RunConfig, train_val_images: int) -> int | None:
    """Training images of an epoch: every second one of train.txt, up to max_images.

    None with max_per_class, because classes are not counted here.
    """
    if config.max_per_class:
        return None
    images = (train_val_images + 1) // 2
    return min(config.max_images or images, images)


def seconds_until_done(tasks: Iterable[float], slots: int, busy: Sequence[float] = ()) -> float:
    """Seconds until all tasks have ended, each started in turn when one of the slots is free.

    busy  seconds for which slots are taken by tasks that run already
    """
    ends = sorted(busy) + [0.0] * max(0, slots - len(busy))
    heapq.heapify(ends)
    last = max(ends, default=0.0)
    for seconds in tasks:
        end = heapq.heappop(ends) + seconds
        heapq.heappush(ends, end)
        last = max(last, end)
    return last


def run_seconds_left(status: RunStatus, estimate: float | None, now: datetime) -> float | None:
    """Seconds that a run in training has left; the whole estimate before its first epoch has ended."""
    progress = status.progress
    if progress and progress.seconds_left is not None:
        age = now - datetime.fromisoformat(progress.when)
        return max(0.0, progress.seconds_left - age.total_seconds())
    return estimate


@dataclass(frozen=True)
class Forecast:
    """When a study will have ended; None is unknown.

    eta              run in training -> when it ends, where that is known
    known_seconds    until the queued and running runs with an estimate have ended, if `slots` run at a time
    unknown          kind -> queued and running runs of it, without an estimate
    pending_seconds  of all runs together that were not submitted, but `pending_unknown` of them
    """

    eta: Mapping[str, datetime] = field(default_factory=dict)
    known_seconds: float | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)
    slots: int = 1
    pending_seconds: float | None = None
    pending_unknown: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Until all queued and running runs have ended."""
        return None if self.unknown else self.known_seconds


def forecast(
    plan: Sequence[PlannedRun],
    statuses: Mapping[str, RunStatus],
    throughput: Throughput,
    train_val_images: int,
    *,
    slots: int,
    now: datetime,
) -> Forecast:
    """When the plan's runs will have ended if as many run at a time as run now, or `slots` if none does."""

    runs = {
        state: [run for run in plan if statuses[run.id].state == state]
        for state in ("running", "queued", "pending")
    }
    estimates = {state: throughput.estimate_runs(runs[state], train_val_images) for state in runs}
    estimates["running"] = [
        run_seconds_left(statuses[run.id], estimate, now)
        for run, estimate in zip(runs["running"], estimates["running"], strict=True)
    ]
    running, queued, pending = ([each for each in of_state if each is not None] for of_state in estimates.values())
    slots = len(runs["running"]) or slots
    return Forecast(
        eta={
            run.id: now + timedelta(seconds=seconds)
            for run, seconds in zip(runs["running"], estimates["running"], strict=True)
            if seconds is not None
        },
        known_seconds=min(seconds_until_done(queued, slots, running), MOST_SECONDS) if queued or running else None,
        unknown=count_kinds(runs["running"], estimates["running"])
        + count_kinds(runs["queued"], estimates["queued"]),
        slots=slots,
        pending_seconds=sum(pending) if pending else None,
        pending_unknown=len(runs["pending"]) - len(pending),
    )


def count_kinds(runs: Iterable[PlannedRun], estimates: Iterable[float | None]) -> Counter[str]:
    """Kind in short -> its runs without an estimate."""
    pairs = zip(runs, estimates, strict=True)
    return Counter(_short_kind(run.config) for run, seconds in pairs if seconds is None)


def _short_kind(config: RunConfig) -> str:
    """`alexnet freeze=conv`: run_kind without what is usual."""
    usual = run_kind(RunConfig()).split(", ")[1:]
    words = [word for word in run_kind(config).split(", ") if word not in usual]
    return " ".join([*words, *([f"max_per_class={config.max_per_class}"] if config.max_per_class else [])])


def duration(seconds: float) -> str:
    """`under a minute`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return "under a minute"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d {hours % 24} h"
