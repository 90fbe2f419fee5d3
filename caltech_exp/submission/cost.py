"""What a submission will cost: GPU hours, time until its end, and tasks longer than their time limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from caltech_exp.executors.executor import Executor, JobArray
from caltech_exp.study.forecast import Throughput, duration, measure_throughput, seconds_until_done
from caltech_exp.study.results_cache import PastRun
from caltech_exp.submission.submission import count_of


@dataclass(frozen=True)
class Cost:
    """Seconds of all tasks together, of the longest task, and until the last ends; of runs with an estimate."""

    seconds: float
    longest: float
    wall: float
    runs: int
    unknown: int

    @property
    def is_known(self) -> bool:
        return self.unknown < self.runs


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
        unknown=len(runs) - len(seconds),
    )


def cost_lines(
    arrays: Sequence[JobArray], past: Mapping[str, PastRun], executor: Executor, train_val_images: int | None
) -> list[str]:
    """The estimate and what it is based on; a warning if a task will reach its time limit.

    past              the results of the study
    train_val_images  images that train.txt names, None if unknown
    """
    if not arrays:
        return []
    throughput = measure_throughput(past, executor.device_type, executor.profile.images_per_second)
    per_array = executor.has_slots_per_array
    total = cost(arrays, throughput, train_val_images, executor.slots, each_array=per_array)
    if not total.is_known:
        return ["no time estimate yet; one appears once a run has finished"]
    least = "at least " if total.unknown else ""
    tasks = f"{count_of(executor.slots, 'task')}{' of each array' if per_array else ''} at a time"
    lines = [
        f"estimated {least}{_hours(total.seconds, executor)}, {least}{duration(total.wall)} at {tasks}, "
        f"plus queueing ({_basis(throughput)})"
    ]
    if total.unknown:
        lines.append(
            f"no time estimate yet for {total.unknown:,} of {count_of(total.runs, 'run')}; one appears once a run "
            "of the same network, frozen layers and augmentation has finished"
        )
    return lines + _time_limit_warning(total, executor)


def _hours(seconds: float, executor: Executor) -> str:
    """`12.5 GPU hours`, of all GPUs that the tasks hold; at least 0.01."""
    on_gpu = executor.device_type == "cuda"
    hours = max(seconds / 3600 * (executor.gpus_per_task if on_gpu else 1), 0.01)
    return f"{hours:,.{1 if hours >= 0.95 else 2}f} {'GPU hours' if on_gpu else 'CPU task hours'}"


def _basis(throughput: Throughput) -> str:
    results = sum(throughput.models.values())
    if not results:
        return "from images_per_second in the profile, without start-up"
    return f"from {count_of(results, 'finished run')} on {' and '.join(sorted(throughput.models))}"


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
