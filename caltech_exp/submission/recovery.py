"""Jobs that are queued although sbatch did not say so: they get their tasks, or are cancelled.

A task's file is named after its place in the submission until sbatch prints the id of its job, and after the job
from then on. Where sbatch prints none (no answer in time, or the submitting process died), a task that starts
waits a minute for its file and ends. Such jobs are found by their comment, and their files by name: nothing is
unpickled. Only the user who submitted does this. Another user's files are not touched, and their jobs stay as they
are.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from submitit.core.utils import JobPaths

from caltech_exp.bootstrap import UntrustedError, read_own
from caltech_exp.executors.sbatch import task_file
from caltech_exp.executors.slurm import JobIndex, index_jobs
from caltech_exp.executors.slurm_queries import QueuedJob, Slurm, grouped
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, Manifest, SinglePart


def adopt(
    runs: Path, manifests: Sequence[Manifest], done: Collection[str], slurm: Slurm
) -> tuple[list[Manifest], list[str]]:
    """The manifests with the ids of jobs that are in the queue and were not known, and what to say of it.

    Such a job's file gets the name that the job looks for. Where there is no such file, or its runs were submitted
    again meanwhile, the job is cancelled and leaves the manifest: its runs are open again. Hold the study's lock.
    Slurm is asked once, and only if a job of an open run is not known.

    done  runs with a result

    Raises UserError if Slurm does not answer, OSError if the study cannot be written.
    """
    unsure = {manifest.id for manifest in manifests if _lacks_ids(manifest, done)}
    names = {name for manifest in manifests if manifest.id in unsure for name in manifest.all_names}
    jobs = index_jobs([manifest for manifest in manifests if manifest.is_own], names, slurm)
    latest = {run: manifest.id for manifest in manifests for task in manifest.tasks for run in task.runs}
    found, given, cancelled = [], [], []
    for manifest in manifests:
        if manifest.id in unsure:
            again = {run for run, submission in latest.items() if submission != manifest.id}
            folder = runs / SUBMISSIONS / manifest.id
            manifest, mine, strays = _with_ids(folder, manifest, jobs, again)
            if strays:
                slurm.cancel(strays)
            if mine or strays:
                StudyFolder(runs).write_manifest(manifest)
            given += mine
            cancelled += strays
        found.append(manifest)
    lines = []
    if given:
        lines.append(
            f"found {', '.join(grouped(given))} in the queue, which sbatch had not named: they have their tasks"
        )
    if cancelled:
        lines.append(
            f"cancelled {', '.join(grouped(cancelled))}: "
            "the files of their tasks are missing, or their runs were submitted again"
        )
    return found, lines


def _lacks_ids(manifest: Manifest, done: Collection[str]) -> bool:
    if manifest.executor != "slurm" or not manifest.is_own:
        return False
    open_tasks = [task for task in manifest.tasks if not all(run in done for run in task.runs)]
    # Then its report has nothing to wait for, or is gone. A report submitted alone waits for others' tasks.
    if manifest.tasks and not open_tasks:
        return False
    singles = (manifest.single(part) for part in get_args(SinglePart))
    return any(single and not single.job for single in singles) or any(not task.job for task in open_tasks)


def _with_ids(
    folder: Path, manifest: Manifest, jobs: JobIndex, again: Collection[str]
) -> tuple[Manifest, list[str], list[str]]:
    """The manifest with the ids of its jobs in the queue; which were added, and which are to be cancelled.

    again  runs that were submitted later too
    """
    given: list[str] = []
    strays: list[str] = []

    def give(job: QueuedJob, part: int | SinglePart, index: int) -> bool:
        wanted, file = JobPaths(folder, job.id).submitted_pickle, task_file(folder, part, index)
        if not wanted.exists():  # or whoever submitted died between naming it and writing the manifest
            try:
                read_own(file)  # a node will run what is in it
            except (OSError, UntrustedError):
                strays.append(job.id)
                return False
            file.rename(wanted)
        given.append(job.id)
        return True

    tasks = []
    for task in manifest.tasks:
        job = None if task.job else jobs.of_task(manifest, task)
        if job is None:
            tasks.append(task)
        elif all(run in again for run in task.runs):
            strays.append(job.id)
        elif give(job, task.array, task.index):
            tasks.append(task.model_copy(update={"job": job.id}))
    singles = {}
    for part in get_args(SinglePart):
        single = manifest.single(part)
        job = jobs.of_single(manifest, part) if single and not single.job else None
        if single and job:
            singles[part] = single.model_copy(update={"job": job.id}) if give(job, part, 0) else None
    return manifest.model_copy(update={"tasks": tuple(tasks), **singles}), given, strays
