"""How long runs take, from what others took, and when all of them have ended. Nothing but arithmetic."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean, median
from typing import Literal

from caltech_exp.config import RunConfig
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import PastRun, kind_of, network_of
from caltech_exp.study.run_status import RunState

Source = Literal["the same settings", "the same network and images", "the profile's rate"]
"""What a length was told from."""


@dataclass(frozen=True)
class Pace:
    """Of runs alike: seconds of an epoch per training image, evaluation included, and of a run besides epochs."""

    image_seconds: float
    start_seconds: float


@dataclass(frozen=True)
class Paces:
    """What is known of the lengths of runs on one type of device.

    device   `cuda` or `cpu`
    past     models of that type that past runs ran on, with how many
    configs  configuration id -> mean seconds of its past runs
    kinds    past_runs.kind_of -> pace
    rates    network -> training images per second over whole epochs, as the profile says
    """

    device: str
    past: Mapping[str, int] = field(default_factory=dict)
    configs: Mapping[str, float] = field(default_factory=dict)
    kinds: Mapping[str, Pace] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Length:
    """Seconds that a run takes, and what that was told from."""

    seconds: float
    source: Source


def learn(
    past: Mapping[str, PastRun],
    device: str,
    rates: Mapping[str, float],
    running: Iterable[tuple[RunConfig, Progress, int | None]] = (),
) -> Paces:
    """What runs tell that have a result, and those in training: (settings, progress, training images).

    Only past runs on a device of type `device` count. Those in training are taken to be on one.
    """
    of_device = {name: run for name, run in past.items() if run.device_type == device}
    configs: dict[str, list[float]] = {}
    images: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    for name, run in of_device.items():
        configs.setdefault(name.partition("-")[0], []).append(run.wall_seconds)
        if not run.epochs * run.train_images:
            continue
        images.setdefault(run.kind, []).append(run.epoch_seconds / (run.epochs * run.train_images))
        starts.setdefault(run.kind, []).append(max(0.0, run.wall_seconds - run.epoch_seconds))
    for config, progress, train_images in running:
        if train_images and progress.seconds_left and progress.epoch < progress.epochs:
            an_epoch = progress.seconds_left / (progress.epochs - progress.epoch)
            images.setdefault(kind_of(config), []).append(an_epoch / train_images)
    return Paces(
        device=device,
        past=Counter(run.device for run in of_device.values()),
        configs={config: fmean(seconds) for config, seconds in configs.items()},
        kinds={kind: Pace(median(each), median(starts.get(kind, [0.0]))) for kind, each in images.items()},
        rates=rates,
    )


def train_images(config: RunConfig, train_val_images: int) -> int | None:
    """How many images an epoch has: every other one of train.txt, or max_images.

    None where classes are cut to max_per_class, since nothing here counts them.
    """
    if config.max_per_class:
        return None
    everything = (train_val_images + 1) // 2
    return min(config.max_images or everything, everything)


def length(config: RunConfig, images: int | None, paces: Paces) -> Length | None:
    """How long a run takes: what others of the same settings took; or an epoch of the same network, engine, layers
    and transforms, by epochs and images; or the profile's rate. None where nothing tells.

    images  training images of an epoch, None where that is not known
    """
    if config.id in paces.configs:
        return Length(paces.configs[config.id], "the same settings")
    pace, rate = paces.kinds.get(kind_of(config)), paces.rates.get(network_of(config)[0])
    if images and pace:
        return Length(
            pace.start_seconds + config.epochs * images * pace.image_seconds, "the same network and images"
        )
    if images and rate:
        return Length(config.epochs * images / rate, "the profile's rate")
    return None


def lengths(runs: Iterable[PlannedRun], paces: Paces, train_val_images: int | None) -> list[Length | None]:
    """The length of each run, None where it cannot be told; of each configuration once: its seeds take alike.

    train_val_images  that train.txt names, None where that is not known
    """
    known: dict[str, Length | None] = {}
    found = []
    for run in runs:
        key = run.id.partition("-")[0]
        if key not in known:
            images = train_images(run.config, train_val_images) if train_val_images else None
            known[key] = length(run.config, images, paces)
        found.append(known[key])
    return found


def ended_after(lengths: Iterable[float], at_once: int, busy: Sequence[float] = ()) -> float:
    """Seconds until all tasks have ended, each started in turn when one of `at_once` places is free.

    busy  seconds for which places are taken by tasks that run already
    """
    ends = sorted(busy) + [0.0] * max(0, at_once - len(busy))
    heapq.heapify(ends)
    last = max(ends, default=0.0)
    for seconds in lengths:
        end = heapq.heappop(ends) + seconds
        heapq.heappush(ends, end)
        last = max(last, end)
    return last


def left_of(state: RunState, whole: Length | None, now: datetime) -> float | None:
    """Seconds that a run in training has left: by its own estimate, less the time since.

    Before its first epoch has ended, its `whole` length; None where nothing tells.
    """
    progress = state.progress
    if progress and progress.seconds_left is not None:
        since = now - datetime.fromisoformat(progress.when)
        return max(0.0, progress.seconds_left - since.total_seconds())
    return whole.seconds if whole else None
