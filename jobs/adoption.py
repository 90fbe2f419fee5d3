"""Jobs that are queued although sbatch did not say so: they are given their tasks, or cancelled.

submitit puts a task into a file of any name, and names the file after its job once sbatch has told the id. Where
that did not come about (no answer in time, or the submitting process died), a task that starts waits a minute for
its file and ends. Such jobs are known by their comment, and the files by the runs that they train.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from submitit.core.utils import DelayedSubmission, JobPaths

from caltech_exp.config import run_id
from caltech_exp.manifest import SUBMISSIONS, Manifest, SinglePart, write_manifest
from jobs.aggregate_task import AggregateTask
from jobs.cluster import QueuedJob, cancel_jobs, grouped, queued_jobs
from jobs.pack_task import PackTask
from jobs.study_jobs import JobIndex
from jobs.task import TrainTask

NOT_NAMED_YET = re.compile(r"[0-9a-f]{32}\.pkl")
"""A task's file before sbatch has told its job's id."""

Key = tuple[str, ...] | SinglePart
"""What tells a submission's tasks apart: the runs that one trains, or which single job it is."""


def adopt(
    runs: Path, manifests: Sequence[Manifest], done: Collection[str], timeout: float
) -> tuple[list[Manifest], list[str]]:
    """The manifests with the ids of jobs that are in the queue and were not known, and what to say of it.

    Such a job's file gets the name that the job looks for. Where there is no such file, the job is cancelled and
    leaves the manifest: its runs are open again. Call it with the study's lock held; Slurm is asked only if some
    job of an open run is not known, once.

    done     runs with a result
    timeout  seconds that a Slurm command may take

    Raises UserError if Slurm does not answer, OSError if the study cannot be written.
    """
    unsure = {manifest.id for manifest in manifests if _lacks_ids(manifest, done)}
    names = {name for manifest in manifests if manifest.id in unsure for name in manifest.all_names}
    jobs = JobIndex(queued_jobs(names, timeout) if names else ())
    found, given, cancelled = [], [], []
    for manifest in manifests:
        if manifest.id in unsure:
            manifest, mine, strays = _with_ids(runs / SUBMISSIONS / manifest.id, manifest, jobs)
            if strays:
                cancel_jobs(strays, timeout)
            if mine or strays:
                write_manifest(runs, manifest)
            given += mine
            cancelled += strays
        found.append(manifest)
    lines = [f"sbatch had queued {', '.join(grouped(given))} without saying so: they have their tasks"] * bool(
        given
    )
    lines += [f"cancelled {', '.join(grouped(cancelled))}: their tasks are not there any more"] * bool(cancelled)
    return found, lines


def _lacks_ids(manifest: Manifest, done: Collection[str]) -> bool:
    if manifest.executor != "slurm":
        return False
    open_tasks = [task for task in manifest.tasks if not all(run in done for run in task.runs)]
    # Then its report has nothing to wait for, or is gone. A report submitted alone waits for others' tasks.
    if manifest.tasks and not open_tasks:
        return False
    singles = (manifest.single(part) for part in get_args(SinglePart))
    return any(single and not single.job for single in singles) or any(not task.job for task in open_tasks)


def _with_ids(folder: Path, manifest: Manifest, jobs: JobIndex) -> tuple[Manifest, list[str], list[str]]:
    """The manifest with the ids of its jobs in the queue; which were added, and which have no file."""
    files: dict[Key, Path] | None = None
    given: list[str] = []
    strays: list[str] = []

    def give(job: QueuedJob, key: Key) -> bool:
        nonlocal files
        wanted = JobPaths(folder, job.id).submitted_pickle
        if not wanted.exists():  # or whoever submitted died between naming it and writing the manifest
            files = _unnamed(folder) if files is None else files
            if key not in files:
                strays.append(job.id)
                return False
            files.pop(key).rename(wanted)
        given.append(job.id)
        return True

    tasks = []
    for task in manifest.tasks:
        job = None if task.job else jobs.of_task(manifest, task)
        if job is None:
            tasks.append(task)
        elif give(job, task.runs):
            tasks.append(task.model_copy(update={"job": job.id}))
    singles = {}
    for part in get_args(SinglePart):
        single = manifest.single(part)
        job = jobs.of_single(manifest, part) if single and not single.job else None
        if single and job:
            singles[part] = single.model_copy(update={"job": job.id}) if give(job, part) else None
    return manifest.model_copy(update={"tasks": tuple(tasks), **singles}), given, strays


def _unnamed(folder: Path) -> dict[Key, Path]:
    """The files of the submission that no job's name is on, by what stands in them; unreadable ones left out."""
    found: dict[Key, Path] = {}
    for path in sorted(folder.iterdir()):
        if NOT_NAMED_YET.fullmatch(path.name):
            try:
                task = DelayedSubmission.load(path).function
            except Exception:  # whatever a pickle of another version, or half of one, raises
                continue
            if isinstance(task, TrainTask):
                found[tuple(run_id(config, seed) for config, seed in task.runs)] = path
            elif isinstance(task, PackTask | AggregateTask):
                found["preparation" if isinstance(task, PackTask) else "aggregation"] = path
    return found
