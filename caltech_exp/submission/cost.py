"""What a submission will cost (GPU hours, time until its end), and how large its tasks are because of it."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from caltech_exp.executors.executor import Executor, JobArray
from caltech_exp.study.forecast import Throughput, count_kinds, duration, rough_throughput, seconds_until_done
from caltech_exp.study.plan import PlannedRun
from caltech_exp.submission.request import MOST_AUTO, SubmitOptions
from caltech_exp.submission.submission import TaskSize, count_of

TARGET_SECONDS = 3600.0  # of a task with runs_per_task=auto
MARGIN, START_SECONDS = 1.5, 300.0  # of time=auto over the estimate


@dataclass(frozen=True)
class Cost:
    """Seconds of all devices together, and until the last task ends; of runs with an estimate.

    late     seconds and time limit of the task that is longest compared with its limit
    unknown  kind -> runs of it without an estimate
    """

    seconds: float
    wall: float
    late: tuple[float, float]
    runs: int
    unknown: Mapping[str, int]

    @property
    def known_runs(self) -> int:
        return self.runs - sum(self.unknown.values())


def cost(
    arrays: Sequence[JobArray], throughput: Throughput, train_val_images: int | None, executor: Executor
) -> Cost:
    """The cost of the arrays. Each GPU of a task trains its share of the runs.

    Runs side by side on one GPU, or on the same cores, count as if one came after the other: how much sooner they
    end is not known.
    """
    runs = [run for array in arrays for group in array.tasks for run in group]
    estimates = throughput.estimate_runs(runs, train_val_images)
    seconds = {run.id: estimate for run, estimate in zip(runs, estimates, strict=True) if estimate is not None}
    pools, total, late = [], 0.0, (0.0, math.inf)
    for array in arrays:
        own = array.executor or executor
        gpus = own.gpus_per_task
        groups = [[seconds.get(run.id, 0.0) for run in group] for group in array.tasks]
        pool = [max(sum(group) / min(gpus, len(group)), *group) for group in groups]
        late = max(late, (max(pool), own.time_limit_seconds or math.inf), key=lambda task: task[0] / task[1])
        total += gpus * sum(pool)
        pools.append((pool, own.profile.slots))
    tasks = [task for pool, _ in pools for task in pool]
    if not executor.has_slots_per_array:
        pools = [(tasks, executor.profile.slots)]
    wall = max((seconds_until_done(pool, slots) for pool, slots in pools), default=0.0)
    return Cost(seconds=total, wall=wall, late=late, runs=len(runs), unknown=count_kinds(runs, estimates))


def choose_sizes(
    runs: Sequence[PlannedRun], options: SubmitOptions, executor: Executor, throughput: Throughput,
    images: int | None, *, room: int | None,
) -> tuple[dict[str, TaskSize], list[str]]:  # fmt: skip
    """Section -> how many runs its tasks train and what they ask for; and lines on what was chosen.

    room  the most tasks that may be queued now
    """
    sizes, lines, is_auto = {}, [], options.time == "auto"
    for section in dict.fromkeys(run.section for run in runs):
        own, members = executor.for_section(section), [run for run in runs if run.section == section]
        estimates = throughput.estimate_runs(members, images)
        longest = MARGIN * max(filter(None, estimates), default=0.0) if None not in estimates else 0.0
        at_once = MOST_AUTO if options.runs_at_once == "auto" else options.runs_at_once
        gpus, limit = own.gpus_per_task, own.time_limit_seconds
        chosen = options.runs_per_task or ("auto" if options.runs_at_once == "auto" else gpus * at_once)
        per_task = chosen if isinstance(chosen, int) else 0
        if not per_task:
            target = TARGET_SECONDS if is_auto or not limit else min(limit, TARGET_SECONDS)
            fit = gpus * int(target / longest) if longest else 1
            least = max(gpus * at_once, _least_runs(Counter(run.section for run in runs).values(), room))
            per_task = max(least, min(fit, math.ceil(len(members) / own.profile.slots)))
            reason = "" if longest else ", without an estimate"
            lines.append(f"{section}: {count_of(per_task, 'run')} in a task{reason}")
        if is_auto and longest:
            own = own.with_time_limit(START_SECONDS + longest * math.ceil(per_task / gpus))
            lines.append(f"{section}: time limit {duration(own.time_limit_seconds or 0.0)}")
        elif is_auto:
            lines.append(f"{section}: time limit {duration(limit or 0.0)}, the profile's, without an estimate")
        sizes[section] = TaskSize(per_task, own)
    return sizes, lines


def _least_runs(sections: Collection[int], room: int | None) -> int:
    """The fewest runs in a task with which all runs, so many of each section, fit into the queue."""
    if room is None:
        return 1
    free = max(len(sections), room - 2)  # without the jobs before and after the runs
    return next(size for size in count(1) if sum(math.ceil(runs / size) for runs in sections) <= free)


def cost_lines(
    arrays: Sequence[JobArray], throughput: Throughput, executor: Executor, train_val_images: int | None
) -> list[str]:
    """The estimate and what it is based on; a warning if a task will reach its time limit.

    train_val_images  images that train.txt names, None if unknown
    """
    if not arrays:
        return []
    per_array, rough = executor.has_slots_per_array, ""
    total = cost(arrays, throughput, train_val_images, executor)
    measured = rough_throughput(executor.gpu_name) if executor.profile.device_type == "cuda" else None
    if not total.known_runs and measured:
        rough, throughput = measured
        total = cost(arrays, throughput, train_val_images, executor)
    if not total.known_runs:
        return ["no time estimate yet; one appears once a run has finished an epoch"]
    part = f" for {total.known_runs:,} of {count_of(total.runs, 'run')}" if total.unknown else ""
    tasks = f"{count_of(executor.profile.slots, 'task')}{' of each array' if per_array else ''} at a time"
    words, basis = "estimated", _basis(throughput, arrays)
    if rough:
        words = f"rough estimate{'' if executor.gpu_name else f', if the GPUs are {rough}s'}:"
        basis = f"rates of one {rough} in docs/performance.md; your own count once a run has finished an epoch"
    lines = [
        f"{words} {_hours(total.seconds, executor)}{part}, {duration(total.wall)} at {tasks}, "
        f"plus queueing ({basis})",
        *_by_section(arrays, throughput, executor, train_val_images),
    ]
    if total.unknown:
        kinds = ", ".join(f"{count_of(count, 'run')} of {kind}" for kind, count in total.unknown.items())
        lines.append(f"no time estimate yet for {kinds}: none has finished an epoch")
    return lines + ([] if rough else _time_limit_warning(total.late, executor))


def _by_section(
    arrays: Sequence[JobArray], throughput: Throughput, executor: Executor, train_val_images: int | None
) -> list[str]:
    """`by section: scratch 12 GPU minutes, resnet 5 GPU minutes`, if there are several."""
    runs = [run for array in arrays for group in array.tasks for run in group]
    seconds: dict[str, float] = {}
    for run, estimate in zip(runs, throughput.estimate_runs(runs, train_val_images), strict=True):
        seconds[run.section] = seconds.get(run.section, 0.0) + (estimate or 0.0)
    parts = [f"{section} {_hours(part, executor) if part else 'unknown'}" for section, part in seconds.items()]
    return [f"by section: {', '.join(parts)}"] if len(parts) > 1 else []


def _hours(seconds: float, executor: Executor) -> str:
    """`12.5 GPU hours`, of all GPUs that the tasks hold; minutes below an hour and a half."""
    minutes, device = seconds / 60, "GPU" if executor.profile.device_type == "cuda" else "CPU task"
    if minutes < 1:
        return f"under one {device} minute"
    return f"{minutes / 60:,.1f} {device} hours" if minutes >= 90 else count_of(round(minutes), f"{device} minute")


def _basis(throughput: Throughput, arrays: Sequence[JobArray]) -> str:
    """`from 3 finished runs on A100 and images_per_second in the profile`"""
    finished = sum(throughput.models.values())
    runs = [run for array in arrays for group in array.tasks for run in group]
    sources = [
        f"{count_of(finished, 'finished run')} on {' and '.join(sorted(throughput.models))}" if finished else "",
        count_of(throughput.unfinished, "unfinished run") if throughput.unfinished else "",
        "images_per_second in the profile" if any(throughput.uses_rate(run.config) for run in runs) else "",
    ]
    return f"from {' and '.join(filter(None, sources))}{'' if throughput.starts else ', without start-up'}"


def _time_limit_warning(late: tuple[float, float], executor: Executor) -> list[str]:
    longest, limit = late
    if longest <= limit:
        return []
    if executor.requeues:
        consequence = "Slurm will requeue it there, and it resumes from its checkpoint"
    else:
        consequence = "it will end there, and the same command resumes it from its checkpoint"
    return [
        f"warning: the longest task takes about {duration(longest)}, but its time limit is "
        f"{duration(limit)}: {consequence}; to avoid that, raise time_minutes or lower runs_per_task"
    ]
