"""How long runs take, estimated from finished runs, and when a study will have ended. Arithmetic only."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean, median

from caltech_exp.config import RunConfig, split_run_id
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import PastRun, network_name, run_kind
from caltech_exp.study.run_status import RunStatus

MOST_SECONDS = 1e10
"""The longest estimate, which any time can be added to."""


@dataclass(frozen=True)
class Speed:
    """Of runs of one kind: seconds per training image and epoch, evaluation included, and outside epochs."""

    image_seconds: float
    start_seconds: float


@dataclass(frozen=True)
class Throughput:
    """How fast runs train on one type of device.

    device   `cuda` or `cpu`
    models   model of that device -> finished runs on it
    configs  configuration id -> mean seconds of its finished runs
    kinds    run_kind -> speed
    rates    network -> training images per second over whole epochs, from the profile
    """

    device: str
    models: Mapping[str, int] = field(default_factory=dict)
    configs: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, Speed] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)

    def estimate(self, config: RunConfig, images: int | None) -> float | None:
        """Seconds of a run with `images` training images per epoch (None if unknown); None without a basis.

        Runs of the same settings decide, otherwise runs of the same kind, otherwise the profile's rate.
        """
        if config.id in self.configs:
            return self.configs[config.id]
        speed, rate = self.kinds.get(run_kind(config)), self.rates.get(network_name(config)[0])
        if images and speed:
            return min(speed.start_seconds + config.epochs * images * speed.image_seconds, MOST_SECONDS)
        return min(config.epochs * images / rate, MOST_SECONDS) if images and rate else None

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
    running: Iterable[tuple[RunConfig, Progress, int | None]] = (),
) -> Throughput:
    """From runs with a result on a device of that type, and runs in training: settings, progress, training images.

    Runs in training are assumed to be on such a device.
    """
    on_device = {run_id: run for run_id, run in past.items() if run.device_type == device}
    configs: dict[str, list[float]] = {}
    images: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    for run_id, run in on_device.items():
        configs.setdefault(split_run_id(run_id)[0], []).append(run.wall_seconds)
        if run.epochs and run.train_images:
            images.setdefault(run.kind, []).append(run.epoch_seconds / (run.epochs * run.train_images))
            starts.setdefault(run.kind, []).append(max(0.0, run.wall_seconds - run.epoch_seconds))
    for config, progress, image_count in running:
        if image_count and progress.seconds_left and progress.epoch < progress.epochs:
            epoch_seconds = progress.seconds_left / (progress.epochs - progress.epoch)
            images.setdefault(run_kind(config), []).append(epoch_seconds / image_count)
    return Throughput(
        device=device,
        models=Counter(run.device for run in on_device.values()),
        configs={config_id: fmean(seconds) for config_id, seconds in configs.items()},
        kinds={kind: Speed(median(seconds), median(starts.get(kind, [0.0]))) for kind, seconds in images.items()},
        rates=rates,
    )


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
    seconds_left     until all queued and running runs have ended, if `slots` run at a time
    pending_seconds  of all runs together that were not submitted
    """

    eta: Mapping[str, datetime] = field(default_factory=dict)
    seconds_left: float | None = None
    slots: int = 1
    pending_seconds: float | None = None


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

    def estimate_state(state: str) -> tuple[list[PlannedRun], list[float | None]]:
        runs = [run for run in plan if statuses[run.id].state == state]
        return runs, throughput.estimate_runs(runs, train_val_images)

    running = {
        run.id: run_seconds_left(statuses[run.id], estimate, now)
        for run, estimate in zip(*estimate_state("running"), strict=True)
    }
    seconds_left = {run_id: seconds for run_id, seconds in running.items() if seconds is not None}
    queued, pending = (_all_seconds(estimate_state(state)[1]) for state in ("queued", "pending"))
    slots = len(running) or slots
    is_known = queued is not None and len(seconds_left) == len(running) and bool(running or queued)
    until_done = seconds_until_done(queued or (), slots, tuple(seconds_left.values()))
    return Forecast(
        eta={run_id: now + timedelta(seconds=seconds) for run_id, seconds in seconds_left.items()},
        seconds_left=min(until_done, MOST_SECONDS) if is_known else None,
        slots=slots,
        pending_seconds=sum(pending) if pending else None,
    )


def _all_seconds(estimates: Sequence[float | None]) -> list[float] | None:
    """The seconds of all estimates, None if one is unknown."""
    seconds = [estimate for estimate in estimates if estimate is not None]
    return seconds if len(seconds) == len(estimates) else None


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24:,} d {hours % 24} h"
