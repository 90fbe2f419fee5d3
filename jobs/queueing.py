"""The steps that bring a submission's tasks into a queue; after each the manifest tells what is queued so far."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from caltech_exp.manifest import Manifest, SinglePart, job_comment
from jobs.aggregate_task import AggregateTask
from jobs.capacity import tasks_at_once
from jobs.cpu_jobs import cpu_profile
from jobs.local import AGGREGATION, PREPARATION, LocalQueue, job_name, start_queue
from jobs.local_gpus import local_gpus
from jobs.pack_task import PackTask
from jobs.profiles import LocalProfile, SlurmProfile
from jobs.retry import avoiding
from jobs.sbatch_options import OF_TRAINING
from jobs.slurm_queue import RefusedError, queue_array
from jobs.snapshot import Snapshot
from jobs.task import TrainTask
from jobs.work import Work


@dataclass(frozen=True)
class Step:
    """`queue` queues a part of a submission and adds its job ids to the manifest, or raises UserError.

    part  what goes on record before that: an array by its number, a single job, or everything; None for nothing
    """

    part: int | SinglePart | Literal["everything"] | None
    queue: Callable[[Manifest], Manifest]


@dataclass(frozen=True)
class Tasks:
    """What a submission's jobs do: `arrays` as they stand in the work, the others where it has them."""

    arrays: tuple[tuple[TrainTask, ...], ...]
    preparation: PackTask | None
    aggregation: AggregateTask | None


def slurm_steps(
    work: Work, tasks: Tasks, folder: Path, profile: SlurmProfile, snapshot: Snapshot
) -> Iterator[Step]:
    """Onto Slurm: the preparation, the arrays after it, the aggregation after all of them and what was there."""
    if tasks.preparation:
        yield Step("preparation", partial(_queue_preparation, tasks.preparation, folder, profile, snapshot))
    for number, array in enumerate(tasks.arrays):
        yield Step(number, partial(_queue_training, array, number, folder, profile, work, snapshot))
    if tasks.aggregation:
        queue = partial(_queue_aggregation, tasks.aggregation, work.after, folder, profile, snapshot)
        yield Step("aggregation", queue)


def local_steps(
    work: Work, tasks: Tasks, folder: Path, profile: LocalProfile, snapshot: Snapshot
) -> Iterator[Step]:
    """On this machine: all at once, by a queue process."""
    yield Step("everything", _name_local_jobs)
    yield Step(None, partial(_start_local_queue, work, tasks, folder, profile, snapshot))


def _queue_preparation(
    task: PackTask, folder: Path, profile: SlurmProfile, snapshot: Snapshot, manifest: Manifest
) -> Manifest:
    """Runs decode the images by themselves where sbatch refuses a job without a GPU."""
    if manifest.preparation is None:
        return manifest
    name, comment = manifest.preparation.name, job_comment(manifest.id, "preparation")
    try:
        (job,) = queue_array(
            name, comment, [task], folder, cpu_profile(profile), snapshot, unset=OF_TRAINING, part="preparation"
        )
    except RefusedError as error:
        print(f"{error} (cpu_jobs in it says where jobs without a GPU run); the first run decodes the images")
        return manifest.model_copy(update={"preparation": None})
    return manifest.model_copy(update={"preparation": manifest.preparation.model_copy(update={"job": job})})


def _queue_training(
    tasks: Sequence[TrainTask],
    array: int,
    folder: Path,
    profile: SlurmProfile,
    work: Work,
    snapshot: Snapshot,
    manifest: Manifest,
) -> Manifest:
    name, comment, avoided = manifest.job_names[array], job_comment(manifest.id, array), work.avoided
    after = [*work.preparing, *([manifest.preparation.job] if manifest.preparation else [])]
    try:
        jobs = queue_array(name, comment, tasks, folder, avoiding(profile, avoided), snapshot, after, part=array)
    except RefusedError as error:
        if avoided:
            nodes = ",".join(avoided)
            raise RefusedError(
                f"{error}; nodes left out because of failed runs: {nodes}; avoid_nodes=false uses them"
            ) from None
        raise
    return _with_jobs(manifest, array, jobs)


def _queue_aggregation(
    task: AggregateTask,
    waited_for: Sequence[str],
    folder: Path,
    profile: SlurmProfile,
    snapshot: Snapshot,
    manifest: Manifest,
) -> Manifest:
    if manifest.aggregation is None:
        return manifest
    name, comment = manifest.aggregation.name, job_comment(manifest.id, "aggregation")
    arrays = (task.job.partition("_")[0] for task in manifest.tasks)
    after = tuple(dict.fromkeys((*arrays, *waited_for)))
    (job,) = queue_array(
        name, comment, [task], folder, cpu_profile(profile), snapshot, after, OF_TRAINING, part="aggregation"
    )
    return manifest.model_copy(update={"aggregation": manifest.aggregation.model_copy(update={"job": job})})


def _name_local_jobs(manifest: Manifest) -> Manifest:
    changes = {}
    for part, name in (("preparation", PREPARATION), ("aggregation", AGGREGATION)):
        single = getattr(manifest, part)
        changes[part] = single and single.model_copy(update={"job": name})
    named = tuple(task.model_copy(update={"job": job_name(n)}) for n, task in enumerate(manifest.tasks))
    return manifest.model_copy(update={"tasks": named, **changes})


def _start_local_queue(
    work: Work, tasks: Tasks, folder: Path, profile: LocalProfile, snapshot: Snapshot, manifest: Manifest
) -> Manifest:
    every = [task for array in tasks.arrays for task in array]
    queue = LocalQueue(
        tasks={job_name(number): task for number, task in enumerate(every)},
        slots=tasks_at_once(profile),
        gpus=() if profile.device == "cpu" else local_gpus(),
        preparation=tasks.preparation,
        aggregation=tasks.aggregation,
        after=tuple(folder.parent / submission for submission in work.after),
    )
    start_queue(folder, queue, snapshot)
    return manifest


def _with_jobs(manifest: Manifest, array: int, jobs: Sequence[str]) -> Manifest:
    """The manifest with the job ids of one of its arrays."""
    tasks = [
        task.model_copy(update={"job": jobs[task.index]}) if task.array == array else task
        for task in manifest.tasks
    ]
    return manifest.model_copy(update={"tasks": tuple(tasks)})
