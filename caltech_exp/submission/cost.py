"""What a submission will cost, in words: GPU hours, time until its end, and tasks longer than their time limit."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caltech_exp.monitoring.render import duration
from caltech_exp.profiles.profile import Profile, SlurmProfile, device_type, tasks_at_once
from caltech_exp.study.forecast import Paces, Source, ended_after, learn, lengths
from caltech_exp.study.results_cache import PastRun, kind_of
from caltech_exp.submission.submission import Array


@dataclass(frozen=True)
class Cost:
    """What tasks cost that are not queued yet; of the runs whose length can be told.

    seconds  of all tasks together; `longest` of the longest one, `wall` until the last has ended
    sources  how many runs were told from what
    unknown  kind -> how many runs' length cannot be told
    """

    seconds: float
    longest: float
    wall: float
    sources: Mapping[Source, int]
    unknown: Mapping[str, int]


MOST_KINDS = 4
"""Kinds of runs that a line names; there may be more."""


def cost_lines(
    arrays: Sequence[Array], past: Mapping[str, PastRun], profile: Profile, train_val_images: int | None
) -> list[str]:
    """What queueing the arrays costs and what that was told from; a warning if a task meets its time limit.

    past              the study's results (past_runs)
    train_val_images  that train.txt names, None where that is not known
    """
    if not arrays:
        return []
    paces = learn(past, device_type(profile), profile.images_per_second)
    at_once, of_slurm = tasks_at_once(profile), isinstance(profile, SlurmProfile)
    total = cost(arrays, paces, train_val_images, at_once, each_array=of_slurm)
    lines = []
    if total.sources:
        least = "at least " if total.unknown else "about "
        tasks = f"{at_once:,} {'task' if at_once == 1 else 'tasks'}{' of each array' if of_slurm else ''}"
        lines.append(
            f"{least}{_hours(total.seconds, profile, paces.device)}, {duration(total.wall)} with {tasks} "
            f"at a time and no waiting for others' jobs; told from {_sources(total, paces)}"
        )
    if total.unknown:
        lines.append(_unknown(total, paces, train_val_images))
    return lines + _over_the_limit(total, profile)


def _hours(seconds: float, profile: Profile, device: str) -> str:
    """`12.5 GPU hours`, of all GPUs that the tasks hold; never none."""
    gpus = profile.gpus if isinstance(profile, SlurmProfile) else 1
    hours = max(seconds / 3600 * (gpus if device == "cuda" else 1), 0.01)
    return f"{hours:,.{1 if hours >= 0.95 else 2}f} {'GPU hours' if device == 'cuda' else 'hours of CPU tasks'}"


def _sources(total: Cost, paces: Paces) -> str:
    """`3 results of this study on NVIDIA A100 (30 runs by the same settings, 18 by ...)`."""
    parts = [
        f"{count:,} {_plural(count)} by {source}"
        for source, count in sorted(total.sources.items(), key=lambda one: -one[1])
    ]
    results = sum(paces.past.values())
    if not results:
        return "the profile's images_per_second, start-up left out"
    models = " and ".join(sorted(paces.past))
    many = f"{results:,} {'result' if results == 1 else 'results'} of this study on {models}"
    return f"{many} ({', '.join(parts)})"


def _plural(count: int) -> str:
    return "run" if count == 1 else "runs"


def _unknown(total: Cost, paces: Paces, train_val_images: int | None) -> str:
    """Which runs' length cannot be told yet, and after what it can."""
    kinds = [f"{count:,} {_plural(count)} of {kind}" for kind, count in list(total.unknown.items())[:MOST_KINDS]]
    more = ", and others" if len(total.unknown) > MOST_KINDS else ""
    after = "the first result of each" if len(total.unknown) > 1 else "the first such result"
    data = "" if train_val_images else ", or with the data set at hand"
    return (
        f"how long it takes cannot be told yet of {'; '.join(kinds)}{more}: it can after {after} in this study on "
        f"{'a GPU' if paces.device == 'cuda' else 'a CPU'}, or with images_per_second in the profile{data}"
    )


def _over_the_limit(total: Cost, profile: Profile) -> list[str]:
    if not isinstance(profile, SlurmProfile) or total.longest <= 60 * profile.time_minutes:
        return []
    if profile.sbatch.get("no-requeue"):
        then = "there it ends, and the same command goes on from its checkpoint"
    else:
        then = "there it is queued again, and goes on from its checkpoint"
    return [
        f"warning: the longest task takes about {duration(total.longest)}, its time limit is "
        f"{duration(60.0 * profile.time_minutes)}: {then}; for one go raise time_minutes or lower runs_per_task"
    ]


def cost(
    arrays: Sequence[Array], paces: Paces, train_val_images: int | None, at_once: int, *, each_array: bool
) -> Cost:
    """What the arrays cost if `at_once` tasks run at a time: of each array, or of all together."""
    runs = [run for array in arrays for group in array.tasks for run in group]
    told = dict(zip((run.id for run in runs), lengths(runs, paces, train_val_images), strict=True))
    seconds = {name: one.seconds if one else 0.0 for name, one in told.items()}
    pools = [[sum(seconds[run.id] for run in group) for group in array.tasks] for array in arrays]
    everything = [seconds for pool in pools for seconds in pool]
    return Cost(
        seconds=sum(everything),
        longest=max(everything, default=0.0),
        wall=max((ended_after(pool, at_once) for pool in (pools if each_array else [everything])), default=0.0),
        sources=Counter(one.source for one in told.values() if one),
        unknown=Counter(kind_of(run.config) for run in runs if not told[run.id]),
    )
