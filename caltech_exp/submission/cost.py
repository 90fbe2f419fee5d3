"""What a submission will cost: GPU hours, time until its end, and tasks longer than their time limit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from caltech_exp.config import RunConfig
from caltech_exp.executors.executor import Executor, JobArray
from caltech_exp.study.forecast import Throughput, count_kinds, duration, measure_throughput, seconds_until_done
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import PastRun
from caltech_exp.submission.submission import count_of


@dataclass(frozen=True)
class Cost:
    """Seconds of all tasks together, of the longest task, and until the last ends; of runs with an estimate.

    unknown  kind -> runs of it without an estimate
    """

    seconds: float
    longest: float
    wall: float
    runs: int
    unknown: Mapping[str, int]

    @property
    def known_runs(self) -> int:
        return self.runs - sum(self.unknown.values())


def cost(
    arrays: Sequence[JobArray],
    throughput: Throughput,
    train_val_images: int | None,
    at_once: int,
    *,
    each_array: bool,
) -> Cost:
    """The cost of the arrays if `at_once` tasks run at a time, of each array or of all together."""
    runs = [run for array in arrays for group in array.tasks for run in group]
    estimates = throughput.estimate_runs(runs, train_val_images)
    seconds = {run.id: estimate for run, estimate in zip(runs, estimates, strict=True) if estimate is not None}
    pools = [[sum(seconds.get(run.id, 0.0) for run in group) for group in array.tasks] for array in arrays]
    tasks = [task for pool in pools for task in pool]
    return Cost(
        seconds=sum(tasks),
        longest=max(tasks, default=0.0),
        wall=max((seconds_until_done(pool, at_once) for pool in (pools if each_array else [tasks])), default=0.0),
        runs=len(runs),
        unknown=count_kinds(runs, estimates),
    )


def cost_lines(
    arrays: Sequence[JobArray],
    past: Mapping[str, PastRun],
    executor: Executor,
    train_val_images: int | None,
    unfinished: Iterable[tuple[RunConfig, Progress, int | None]] = (),
) -> list[str]:
    """The estimate and what it is based on; a warning if a task will reach its time limit.

    past              the results of the study
    train_val_images  images that train.txt names, None if unknown
    unfinished        as measure_throughput takes it
    """
    if not arrays:
        return []
    throughput = measure_throughput(
        past, executor.profile.device_type, executor.profile.images_per_second, unfinished
    )
    per_array = executor.has_slots_per_array
    total = cost(arrays, throughput, train_val_images, executor.profile.slots, each_array=per_array)
    if not total.known_runs:
        return ["no time estimate yet; one appears once a run has finished an epoch"]
    part = f" for {total.known_runs:,} of {count_of(total.runs, 'run')}" if total.unknown else ""
    tasks = f"{count_of(executor.profile.slots, 'task')}{' of each array' if per_array else ''} at a time"
    lines = [
        f"estimated {_hours(total.seconds, executor)}{part}, {duration(total.wall)} at {tasks}, "
        f"plus queueing ({_basis(throughput, arrays)})"
    ]
    if total.unknown:
        kinds = ", ".join(f"{count_of(count, 'run')} of {kind}" for kind, count in total.unknown.items())
        lines.append(f"no time estimate yet for {kinds}: none has finished an epoch")
    return lines + _time_limit_warning(total, executor)


def _hours(seconds: float, executor: Executor) -> str:
    """`12.5 GPU hours`, of all GPUs that the tasks hold; minutes below an hour and a half."""
    on_gpu = executor.profile.device_type == "cuda"
    minutes, device = seconds / 60 * (executor.gpus_per_task if on_gpu else 1), "GPU" if on_gpu else "CPU task"
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


def _time_limit_warning(total: Cost, executor: Executor) -> list[str]:
    limit = executor.time_limit_seconds
    if limit is None or total.longest <= limit:
        return []
    if executor.requeues:
        consequence = "Slurm will requeue it there, and it resumes from its checkpoint"
    else:
        consequence = "it will end there, and the same command resumes it from its checkpoint"
    return [
        f"warning: the longest task takes about {duration(total.longest)}, but its time limit is "
        f"{duration(limit)}: {consequence}; to avoid that, raise time_minutes or lower runs_per_task"
    ]
