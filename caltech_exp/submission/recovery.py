"""Recover orphans: jobs that are queued although sbatch did not confirm them get their tasks, or are cancelled.

The file of a task is named after its place in the submission until sbatch prints the id of its job, and after the
job from then on. If sbatch prints no id (no answer in time, or the submitting process died), a task that starts
waits a minute for its file and then ends. Such jobs are found by their comments and their files by name; nothing
is unpickled. Another user's files and jobs are not touched.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from submitit.core.utils import JobPaths

from caltech_exp.bootstrap import UntrustedError, read_own
from caltech_exp.executors.executor import open_tasks, place_of
from caltech_exp.executors.sbatch import task_file
from caltech_exp.executors.slurm import JobIndex, SlurmExecutor, index_jobs
from caltech_exp.executors.slurm_queries import QueuedJob, Slurm, grouped
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SinglePart


def recover_orphans(
    folder: StudyFolder, manifests: Sequence[Manifest], done: Collection[str], slurm: Slurm
) -> tuple[list[Manifest], list[str]]:
    """The manifests with the ids of queued jobs that they did not record, and lines on what was done.

    done  runs with a result

    The caller holds the folder's lock. A job whose task file is missing, or whose runs were submitted again since,
    is cancelled and removed from its manifest, so its runs are open again. Slurm is asked once, and only if a job
    of an open run is not recorded.
    """
    unconfirmed = {m.id for m in manifests if _has_unconfirmed_jobs(folder, m, done) and not place_of(m, slurm)}
    names = {name for manifest in manifests if manifest.id in unconfirmed for name in manifest.all_names}
    jobs = index_jobs([manifest for manifest in manifests if manifest.is_own], names, slurm)
    last_submission = {run: manifest.id for manifest in manifests for task in manifest.tasks for run in task.runs}
    recovered: list[Manifest] = []
    assigned: list[str] = []
    cancelled: list[str] = []
    for manifest in manifests:
        if manifest.id not in unconfirmed:
            recovered.append(manifest)
            continue
        resubmitted = {run for run, submission in last_submission.items() if submission != manifest.id}
        recovery = _Recovery(folder.submission(manifest.id))
        manifest = recovery.confirm(manifest, jobs, resubmitted)
        if recovery.orphaned_jobs:
            slurm.cancel(recovery.orphaned_jobs)
        if recovery.assigned_jobs or recovery.orphaned_jobs:
            folder.write_manifest(manifest)
        assigned += recovery.assigned_jobs
        cancelled += recovery.orphaned_jobs
        recovered.append(manifest)
    lines = []
    if assigned:
        ids = ", ".join(grouped(assigned))
        lines.append(f"recovered {ids}: queued although sbatch did not confirm it, now with its tasks")
    if cancelled:
        ids = ", ".join(grouped(cancelled))
        lines.append(f"cancelled {ids}: the files of its tasks are missing, or its runs were submitted again")
    return recovered, lines


def _has_unconfirmed_jobs(folder: StudyFolder, manifest: Manifest, done: Collection[str]) -> bool:
    if manifest.executor != SlurmExecutor.name or not manifest.is_own:
        return False
    tasks = open_tasks(folder, manifest, done)
    # Without open tasks the report has nothing to wait for. A report submitted alone waits for others' tasks.
    if manifest.tasks and not tasks:
        return False
    singles = (manifest.single(part) for part in get_args(SinglePart))
    return any(single and not single.job for single in singles) or any(not task.job for task in tasks)


class _Recovery:
    """Assigns the tasks in the folder of a submission to its jobs.

    assigned_jobs  ids of the jobs that have their task now
    orphaned_jobs  ids of the jobs to cancel
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.assigned_jobs: list[str] = []
        self.orphaned_jobs: list[str] = []

    def confirm(self, manifest: Manifest, jobs: JobIndex, resubmitted: Collection[str]) -> Manifest:
        """The manifest with the ids of its queued jobs, and without the orphaned ones."""
        tasks = []
        for task in manifest.tasks:
            job = None if task.job else jobs.of_task(manifest, task)
            if job is None:
                tasks.append(task)
            elif all(run in resubmitted for run in task.runs):
                self.orphaned_jobs.append(job.id)
            elif self._assign(job, task.array, task.index):
                tasks.append(task.model_copy(update={"job": job.id}))
        singles = {}
        for part in get_args(SinglePart):
            single = manifest.single(part)
            job = jobs.of_single(manifest, part) if single and not single.job else None
            if single and job:
                singles[part] = single.model_copy(update={"job": job.id}) if self._assign(job, part, 0) else None
        return manifest.model_copy(update={"tasks": tuple(tasks), **singles})

    def _assign(self, job: QueuedJob, part: int | SinglePart, index: int) -> bool:
        """Give the task's file the name that the job looks for; False if there is no such file."""
        expected, file = JobPaths(self.path, job.id).submitted_pickle, task_file(self.path, part, index)
        # The file has that name already if the submitting process died before it wrote the manifest.
        if not expected.exists():
            try:
                read_own(file)  # a node will execute its content
            except (OSError, UntrustedError):
                self.orphaned_jobs.append(job.id)
                return False
            file.rename(expected)
        self.assigned_jobs.append(job.id)
        return True
