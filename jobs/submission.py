"""One submission: from open runs to queued tasks and a manifest, or to nothing at all."""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from caltech_exp.clock import utc_now
from caltech_exp.errors import UserError
from caltech_exp.files import folder_if_it_succeeds
from caltech_exp.own_network import keep_network
from caltech_exp.plan import PlannedRun
from caltech_exp.provenance import CodeVersion
from caltech_exp.study import (
    STUDY,
    SUBMISSIONS,
    Manifest,
    Study,
    StudyData,
    SubmittedTask,
    job_comment,
    read_study,
    write_manifest,
    write_study,
)
from jobs.arrays import Array
from jobs.local import job_name, start_queue
from jobs.options import Request
from jobs.profiles import Profile, SlurmProfile, packs_folder
from jobs.slurm_queue import check_log_folder, queue_array
from jobs.task import TrainTask


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


@contextlib.contextmanager
def study_lock(runs: Path) -> Iterator[None]:
    """Hold the study's submission lock: two submissions at once cannot both queue the same run.

    Folders that had to be made for it are removed again if the block ends with an error and left no study.
    Raises UserError if the folder cannot be written, in the block too (disk full, no permission).
    """
    try:
        with folder_if_it_succeeds(runs / SUBMISSIONS):
            lock = _locked(runs / SUBMISSIONS / ".lock")
            try:
                yield
            except BaseException:
                if not (runs / STUDY).exists():
                    (runs / SUBMISSIONS / ".lock").unlink(missing_ok=True)
                raise
            finally:
                os.close(lock)
    except OSError as error:
        raise UserError(f"runs folder {runs} cannot be written ({error.strerror}); use another runs=") from None


def _locked(path: Path) -> int:
    """An open file on `path` with an exclusive lock, made with its folders if need be. Raises OSError."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever held it may have failed and removed the file: then this lock guards nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)


def submit(
    arrays: Sequence[Array],
    request: Request,
    profile: Profile,
    runs: Path,
    data: StudyData,
    code: CodeVersion,
) -> Manifest:
    """Queue the arrays and record the submission. Call it with the study's lock held.

    Raises UserError if the queue takes none of them, and then leaves nothing behind; if it takes some, those
    are recorded before the error is raised.
    """
    number = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    folder = runs / SUBMISSIONS / number
    packs = packs_folder(request.options.packs, profile)
    if isinstance(profile, SlurmProfile):
        check_log_folder(folder)
    folder.mkdir()
    work = [[_task(number, group, profile, runs, packs, data, code) for group in a.tasks] for a in arrays]
    tasks = [
        SubmittedTask(array=k, index=index, job="", runs=tuple(run.id for run in group))
        for k, array in enumerate(arrays)
        for index, group in enumerate(array.tasks)
    ]
    manifest = _manifest(number, tasks, arrays, request, profile, code)
    first_time = not (runs / STUDY).exists()
    queued = 0
    try:
        # Everything on record before anything is queued: whoever finds the jobs can tell what they are.
        _write_study(request, runs, data, code)
        write_manifest(runs, manifest)
        for k, array in enumerate(arrays):
            if isinstance(profile, SlurmProfile):
                with _uninterrupted():
                    jobs = queue_array(array.name, job_comment(number, k), work[k], folder, profile)
                    queued += len(jobs)
                    manifest = _with_jobs(manifest, k, jobs)
                    write_manifest(runs, manifest)
            else:
                manifest = _with_jobs(manifest, k, [job_name(queued + i) for i in range(len(work[k]))])
                queued += len(work[k])
        if not isinstance(profile, SlurmProfile):
            write_manifest(runs, manifest)
            start_queue(folder, [task for tasks in work for task in tasks], profile)
    except BaseException as error:
        if queued and isinstance(profile, SlurmProfile):
            kept = tuple(task for task in manifest.tasks if task.job)
            with contextlib.suppress(OSError):  # the first manifest still names these jobs, by their comment
                write_manifest(runs, manifest.model_copy(update={"tasks": kept}))
            if isinstance(error, UserError):
                raise UserError(
                    f"{error}; {queued} tasks are queued already, the same command queues the rest"
                ) from None
            raise
        shutil.rmtree(folder, ignore_errors=True)
        if first_time:
            (runs / STUDY).unlink(missing_ok=True)
        raise
    return manifest


def _write_study(request: Request, runs: Path, data: StudyData, code: CodeVersion) -> None:
    """Record the study when it begins, and its file whenever that has changed since."""
    for network in request.networks:
        keep_network(network)
    study = read_study(runs)
    if study is None:
        study = Study(settings=request.settings, file=request.file, data=data, created=utc_now(), code=code)
    elif study.file == request.file:
        return
    write_study(runs, study.model_copy(update={"file": request.file}))


def _with_jobs(manifest: Manifest, array: int, jobs: Sequence[str]) -> Manifest:
    tasks = [
        task.model_copy(update={"job": jobs[task.index]}) if task.array == array else task
        for task in manifest.tasks
    ]
    return manifest.model_copy(update={"tasks": tuple(tasks)})


def _task(
    submission: str,
    group: Sequence[PlannedRun],
    profile: Profile,
    runs: Path,
    packs: Path,
    data: StudyData,
    code: CodeVersion,
) -> TrainTask:
    return TrainTask(
        submission=submission,
        runs=tuple((run.config, run.seed) for run in group),
        folder=str(runs),
        data=data.root,
        data_on_node=profile.data_on_node,
        packs=str(packs),
        packs_on_node=profile.packs_on_node,
        fingerprint=data.fingerprint,
        device=profile.device,
        threads=profile.cpus_per_task,
        torch_home=profile.torch_home,
        checkpoint_minutes=profile.checkpoint_minutes,
        code=code,
    )


def _manifest(
    number: str,
    tasks: Sequence[SubmittedTask],
    arrays: Sequence[Array],
    request: Request,
    profile: Profile,
    code: CodeVersion,
) -> Manifest:
    return Manifest(
        id=number,
        executor=profile.executor,
        job_names=tuple(array.name for array in arrays),
        tasks=tuple(tasks),
        settings=request.settings,
        seeds=request.seeds,
        profile=profile.model_dump(mode="json"),
        command=tuple(sys.argv),
        code=code,
        host=socket.gethostname(),
        created=utc_now(),
    )
