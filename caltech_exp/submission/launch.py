"""One submission: from open runs to queued tasks and a manifest, or to nothing at all."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from caltech_exp.bootstrap import user_name
from caltech_exp.cli import UserError
from caltech_exp.executors.executor import make_executor
from caltech_exp.executors.local import AGGREGATION, PREPARATION, LocalQueue, job_name, start_queue
from caltech_exp.executors.sbatch import check_log_folder, queue_array
from caltech_exp.executors.sbatch_errors import RefusedError, UncertainError
from caltech_exp.executors.slurm import SlurmExecutor
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.files import (
    has_exclusive_creation,
    make_own_folder,
    names_in,
    utc_now,
)
from caltech_exp.machine import host_name, local_gpus
from caltech_exp.models.custom import save_network
from caltech_exp.profiles.paths import packs_folder, torch_home_here
from caltech_exp.profiles.profile import (
    LocalProfile,
    Profile,
    SlurmProfile,
    cpu_profile,
)
from caltech_exp.profiles.sbatch_options import OF_TRAINING
from caltech_exp.provenance import CodeVersion, Snapshot
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import (
    SUBMISSIONS,
    AggregationJob,
    Manifest,
    PreparationJob,
    SinglePart,
    SubmittedTask,
    job_comment,
)
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.study import STUDY, Study, StudyData
from caltech_exp.submission.request import Request
from caltech_exp.submission.snapshot import take_snapshot, write_environment
from caltech_exp.submission.submission import Submission, submission_id
from caltech_exp.submission.tasks import AggregateTask, PackTask, TrainTask


@dataclass(frozen=True)
class Step:
    """`queue` queues a part of a submission and adds its job ids to the manifest, or raises UserError.

    part  what goes on record before that: an array by its number, a single job, or everything; None for nothing
    """

    part: int | SinglePart | Literal["everything"] | None
    queue: Callable[[Manifest], Manifest]


@dataclass(frozen=True)
class Tasks:
    """What a submission's jobs do: `arrays` as in the submission, the others where it has them."""

    arrays: tuple[tuple[TrainTask, ...], ...]
    preparation: PackTask | None
    aggregation: AggregateTask | None


def slurm_steps(
    submission: Submission, tasks: Tasks, folder: Path, profile: SlurmProfile, snapshot: Snapshot
) -> Iterator[Step]:
    """Onto Slurm: the preparation, the arrays after it, the aggregation after all of them and what was there."""
    if tasks.preparation:
        yield Step("preparation", partial(_queue_preparation, tasks.preparation, folder, profile, snapshot))
    for number, array in enumerate(tasks.arrays):
        yield Step(number, partial(_queue_training, array, number, folder, profile, submission, snapshot))
    if tasks.aggregation:
        queue = partial(_queue_aggregation, tasks.aggregation, submission.dependencies, folder, profile, snapshot)
        yield Step("aggregation", queue)


def local_steps(
    submission: Submission, tasks: Tasks, folder: Path, profile: LocalProfile, snapshot: Snapshot
) -> Iterator[Step]:
    """On this machine: all at once, by a queue process."""
    yield Step("everything", _name_local_jobs)
    yield Step(None, partial(_start_local_queue, submission, tasks, folder, profile, snapshot))


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
    submission: Submission,
    snapshot: Snapshot,
    manifest: Manifest,
) -> Manifest:
    name, comment, avoided = manifest.job_names[array], job_comment(manifest.id, array), submission.excluded_nodes
    after = [*submission.pack_jobs, *([manifest.preparation.job] if manifest.preparation else [])]
    try:
        jobs = queue_array(
            name,
            comment,
            tasks,
            folder,
            SlurmExecutor(profile).excluding(avoided).profile,
            snapshot,
            after,
            part=array,
        )
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
    submission: Submission,
    tasks: Tasks,
    folder: Path,
    profile: LocalProfile,
    snapshot: Snapshot,
    manifest: Manifest,
) -> Manifest:
    every = [task for array in tasks.arrays for task in array]
    queue = LocalQueue(
        tasks={job_name(number): task for number, task in enumerate(every)},
        slots=profile.slots,
        gpus=() if profile.device == "cpu" else local_gpus(),
        preparation=tasks.preparation,
        aggregation=tasks.aggregation,
        after=tuple(folder.parent / name for name in submission.dependencies),
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


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and a closed terminal for the moment between queueing jobs and recording their ids."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def submit(
    submission: Submission, request: Request, profile: Profile, runs: Path, data: StudyData, code: CodeVersion
) -> Manifest:
    """Queue the submission and record it. Call it with the study's lock held.

    Raises UserError if the queue takes neither runs nor a report, and then leaves nothing behind; if it takes
    some, or may have (UncertainError), that is recorded before the error is raised.
    """
    if not has_exclusive_creation(runs):
        raise UserError(
            f"runs folder {runs}: its file system creates a file a second time (O_EXCL does not hold), so two "
            "tasks could train one run; use runs= on another file system"
        )
    number = submission_id(datetime.now(UTC), names_in(runs / SUBMISSIONS))
    folder = runs / SUBMISSIONS / number
    # Decided here, not on the node: there a GPU that cannot be used looks like none.
    profile = profile.model_copy(update={"device": profile.device_type})
    if isinstance(profile, SlurmProfile):
        check_log_folder(folder)
    snapshot = take_snapshot(runs, code)
    study_before = StudyFolder(runs).study()
    planned = _manifest(number, submission, request, profile, snapshot.code)
    manifest = planned.model_copy(update={"tasks": (), "preparation": None, "aggregation": None})
    try:
        make_own_folder(folder)
        write_environment(folder)
        _write_study(request, runs, data, snapshot.code)
        for step in _steps(submission, folder, request, profile, runs, data, snapshot):
            # On record just before it is queued: whoever finds the jobs can tell what they are, and what is not on
            # record was never submitted.
            manifest = _with_part(manifest, planned, step)
            StudyFolder(runs).write_manifest(manifest)
            with _uninterrupted():
                before, manifest = manifest, step.queue(manifest)
                if manifest != before:
                    StudyFolder(runs).write_manifest(manifest)
    except UncertainError:  # all stays on record, as if this process had died here
        raise
    except BaseException as error:
        if isinstance(profile, SlurmProfile) and (kept := _only_queued(manifest)):
            with contextlib.suppress(OSError):  # the first manifest still names these jobs, by their comment
                StudyFolder(runs).write_manifest(kept)
            if isinstance(error, UserError):
                count = len(kept.tasks)
                raise UserError(
                    f"{error}; {count} tasks are queued already, the same command queues the rest"
                ) from None
            raise
        if isinstance(profile, SlurmProfile) and manifest.preparation and manifest.preparation.job:
            with contextlib.suppress(UserError):
                Slurm(profile.command_timeout_seconds).cancel([manifest.preparation.job])
        shutil.rmtree(folder, ignore_errors=True)
        snapshot.forget()
        with contextlib.suppress(OSError):
            if study_before is None:
                (runs / STUDY).unlink(missing_ok=True)
            elif StudyFolder(runs).study() != study_before:
                StudyFolder(runs).write_study(study_before)
        raise
    return manifest


def _write_study(request: Request, runs: Path, data: StudyData, code: CodeVersion) -> None:
    """Record the study when it begins, and whenever its file has changed or more ImageNet weights are replaced."""
    for network in request.networks:
        save_network(network)
    before = StudyFolder(runs).study()
    if before is None:
        study = Study(settings=request.settings, file=request.file, data=data, created=utc_now(), code=code)
    else:
        settings = before.settings.joined(request.settings)
        study = before.model_copy(update={"settings": settings, "file": request.file})
    if study != before:
        StudyFolder(runs).write_study(study)


def _with_part(manifest: Manifest, planned: Manifest, step: Step) -> Manifest:
    """The manifest with what the step queues, which has no job id yet."""
    if step.part is None:
        return manifest
    if step.part == "everything":
        return planned
    if isinstance(step.part, int):
        array = tuple(task for task in planned.tasks if task.array == step.part)
        return manifest.model_copy(update={"tasks": (*manifest.tasks, *array)})
    return manifest.model_copy(update={step.part: planned.single(step.part)})


def _only_queued(manifest: Manifest) -> Manifest | None:
    """The manifest without what did not come into the queue; None if neither runs nor a report did."""
    tasks = tuple(task for task in manifest.tasks if task.job)
    aggregation = manifest.aggregation if manifest.aggregation and manifest.aggregation.job else None
    if not tasks and not aggregation:
        return None
    return manifest.model_copy(update={"tasks": tasks, "aggregation": aggregation})


def _steps(
    submission: Submission,
    folder: Path,
    request: Request,
    profile: Profile,
    runs: Path,
    data: StudyData,
    snapshot: Snapshot,
) -> Iterator[Step]:
    packs = str(packs_folder(request.options.packs, profile))
    tasks = Tasks(
        arrays=tuple(
            tuple(_task(folder.name, group, profile, runs, packs, data, snapshot.code) for group in array.tasks)
            for array in submission.arrays
        ),
        preparation=PackTask(data.root, packs, tuple(submission.missing_packs), profile.log_mb, str(folder))
        if submission.missing_packs
        else None,
        aggregation=AggregateTask(str(runs), str(submission.report), str(folder), profile.log_mb)
        if submission.report
        else None,
    )
    if isinstance(profile, SlurmProfile):
        return slurm_steps(submission, tasks, folder, profile, snapshot)
    return local_steps(submission, tasks, folder, profile, snapshot)


def _task(
    submission: str,
    group: Sequence[PlannedRun],
    profile: Profile,
    runs: Path,
    packs: str,
    data: StudyData,
    code: CodeVersion,
) -> TrainTask:
    return TrainTask(
        submission=submission,
        runs=tuple((run.config, run.seed) for run in group),
        folder=str(runs),
        data=data.root,
        data_on_node=profile.data_on_node,
        packs=packs,
        packs_on_node=profile.packs_on_node,
        fingerprint=data.fingerprint,
        device=profile.device,
        threads=profile.cpus_per_task,
        torch_home=profile.torch_home,
        torch_home_here=torch_home_here(),
        checkpoint_minutes=profile.checkpoint_minutes,
        log_mb=profile.log_mb,
        code=code,
    )


def _manifest(
    number: str, submission: Submission, request: Request, profile: Profile, code: CodeVersion
) -> Manifest:
    tasks = [
        SubmittedTask(array=k, index=index, job="", runs=tuple(run.id for run in group))
        for k, array in enumerate(submission.arrays)
        for index, group in enumerate(array.tasks)
    ]
    report = submission.report
    of_training = make_executor(profile).excluding(submission.excluded_nodes).profile
    return Manifest(
        id=number,
        executor=profile.executor,
        job_names=tuple(array.name for array in submission.arrays),
        tasks=tuple(tasks),
        preparation=PreparationJob(
            name=submission.preparation_name, packs=tuple(str(file) for file in submission.missing_packs.values())
        )
        if submission.missing_packs
        else None,
        aggregation=AggregationJob(name=submission.aggregation_name, report=str(report)) if report else None,
        settings=request.settings,
        seeds=request.seeds,
        profile=of_training.model_dump(mode="json"),
        command=tuple(sys.argv),
        code=code,
        host=host_name(),
        created=utc_now(),
        user=user_name(os.geteuid()),
        uid=os.geteuid(),
    )
