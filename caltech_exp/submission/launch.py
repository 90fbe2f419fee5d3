"""Queue one submission and record it: all of it, or nothing at all."""

import contextlib
import os
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime

from caltech_exp.bootstrap import user_name
from caltech_exp.cli import UserError
from caltech_exp.executors.executor import Executor, SubmissionJobs, SubmissionRecord, make_executor
from caltech_exp.executors.sbatch_errors import UncertainError
from caltech_exp.executors.slurm import SlurmExecutor
from caltech_exp.files import has_exclusive_creation, make_own_folder, names_in, utc_now, write_atomically
from caltech_exp.machine import host_name
from caltech_exp.models.custom import save_network
from caltech_exp.models.weights import read_origins
from caltech_exp.profiles.paths import packs_folder, torch_home_here
from caltech_exp.provenance import CodeVersion, code_version
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, AggregationJob, Manifest, PreparationJob, SubmittedTask
from caltech_exp.study.study import STUDY, Study
from caltech_exp.submission.snapshot import take_snapshot, write_environment
from caltech_exp.submission.submission import Submission, all_queued, submission_id
from caltech_exp.submission.tasks import AggregateTask, PackTask, TrainTask


def launch(submission: Submission, folder: StudyFolder, executor: Executor) -> Manifest:
    """Queue the submission and record it. The caller holds the folder's lock.

    Raises UserError if neither runs nor a report are queued, and then leaves nothing behind. Jobs that are queued
    nevertheless, or may be (UncertainError), are recorded before the error is raised.
    """
    if not has_exclusive_creation(folder.path):
        raise UserError(
            f"runs folder {folder.path}: its file system creates a file a second time (O_EXCL does not hold), so "
            "two tasks could train one run; use runs= on another file system"
        )
    # The device is decided here: on the node a GPU that cannot be used looks like none.
    executor = make_executor(executor.profile.model_copy(update={"device": executor.profile.device_type}))
    snapshot = take_snapshot(folder.path, code_version())
    study_before = folder.study()
    number = submission_id(datetime.now(UTC), names_in(folder.path / SUBMISSIONS))
    record = SubmissionRecord(folder, _manifest(number, submission, executor, snapshot.code))
    try:
        make_own_folder(record.path)
        write_environment(record.path)
        _write_study(submission, folder, snapshot.code)
        executor.submit(_jobs(submission, record, executor), record, snapshot)
    except UncertainError:  # everything stays on record, as if this process had died here
        raise
    except BaseException as error:
        if record.has_runs_or_report:
            with contextlib.suppress(OSError):  # the manifest on disk finds these jobs by their comments
                folder.write_manifest(record.manifest)
            queued = f"{len(record.manifest.tasks)} tasks are queued already, the same command queues the rest"
            if isinstance(error, UserError):
                raise UserError(f"{error}; {queued}") from None
            if isinstance(error, KeyboardInterrupt):
                is_whole = len(record.manifest.tasks) == len(record.planned.tasks)
                raise KeyboardInterrupt(all_queued(record.manifest) if is_whole else queued) from None
            raise
        shutil.rmtree(record.path, ignore_errors=True)
        snapshot.forget()
        with contextlib.suppress(OSError):
            if study_before is None:
                (folder.path / STUDY).unlink(missing_ok=True)
            elif folder.study() != study_before:
                folder.write_study(study_before)
        raise
    if sweep := submission.request.sweep:
        with contextlib.suppress(OSError):  # study.json has the text too
            write_atomically(sweep.path, sweep.text)
    return record.manifest


def _write_study(submission: Submission, folder: StudyFolder, code: CodeVersion) -> None:
    """Record the study when it begins, and when its file has changed or more ImageNet weights are replaced."""
    request = submission.request
    for network in request.networks:
        save_network(network)
    before = folder.study()
    if before is None:
        assert submission.data
        study = Study(
            settings=request.settings, file=request.file, data=submission.data, created=utc_now(), code=code
        )
    else:
        settings = folder.joined_settings(before, request.settings)
        study = before.model_copy(update={"settings": settings, "file": request.file})
    origins = read_origins(study.settings.imagenet_weights.values())
    study = study.model_copy(update={"weights_origins": study.weights_origins | origins})
    if study != before:
        folder.write_study(study)


def _jobs(submission: Submission, record: SubmissionRecord, executor: Executor) -> SubmissionJobs:
    profile, data = executor.profile, submission.data
    assert data
    packs = str(packs_folder(submission.request.options.packs, profile))
    runs, logs = str(record.folder.path), str(record.path)
    task = TrainTask(
        submission=record.planned.id,
        runs=(),
        folder=runs,
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
        code=record.planned.code,
        at_once=submission.request.options.runs_at_once,
        max_failures=submission.request.options.max_failures,
        split=data.split,
        keep_weights=submission.request.options.keep_weights,
        again=submission.request.trains_again,
    )
    profiles = [(array.executor or executor).profile for array in submission.arrays]
    jobs = SubmissionJobs(
        arrays=tuple(
            tuple(
                replace(task, runs=tuple((run.config, run.seed) for run in group), threads=own.cpus_per_task)
                for group in array.tasks
            )
            for own, array in zip(profiles, submission.arrays, strict=True)
        ),
        profiles=tuple(own.model_copy(update={"device": profile.device}) for own in profiles),
        pack_jobs=submission.pack_jobs,
        dependencies=submission.dependencies,
        excluded_nodes=submission.excluded_nodes,
    )
    if submission.missing_packs:
        pack_task = PackTask(data.root, packs, tuple(submission.missing_packs), profile.log_mb, logs, data.split)
        jobs = replace(jobs, preparation=pack_task)
    if submission.report:
        jobs = replace(jobs, aggregation=AggregateTask(runs, str(submission.report), logs, profile.log_mb))
    return jobs


def _manifest(number: str, submission: Submission, executor: Executor, code: CodeVersion) -> Manifest:
    """The manifest of the whole submission, without job ids."""
    preparation, aggregation = None, None
    if submission.missing_packs:
        files = tuple(str(file) for file in submission.missing_packs.values())
        preparation = PreparationJob(name=submission.preparation_name, packs=files)
    if submission.report:
        aggregation = AggregationJob(name=submission.aggregation_name, report=str(submission.report))
    return Manifest(
        id=number,
        executor=executor.name,
        job_names=tuple(array.name for array in submission.arrays),
        tasks=tuple(
            SubmittedTask(array=number, index=index, job="", runs=tuple(run.id for run in group))
            for number, array in enumerate(submission.arrays)
            for index, group in enumerate(array.tasks)
        ),
        preparation=preparation,
        aggregation=aggregation,
        settings=submission.request.settings,
        seeds=tuple(sorted(set().union(*submission.request.seeds.values()))),
        requests=dict(submission.request.seeds),
        again=submission.request.trains_again,
        profile=executor.excluding(submission.excluded_nodes).profile.model_dump(mode="json"),
        command=(sys.argv[0], *submission.request.words),
        code=code,
        host=host_name(),
        cluster=executor.slurm.cluster() if executor.name == SlurmExecutor.name else "",
        created=utc_now(),
        user=user_name(os.geteuid()),
        uid=os.geteuid(),
    )
