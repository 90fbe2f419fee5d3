"""Which jobs of a study, and so which of its runs, are in a queue; jobs that Slurm holds are released once.

Slurm holds a job when its node could not start it, or when slurmctld or slurmd died at the wrong moment; a site or
a person may also have it requeued and held. Such a job waits for ever. A job that is held again after its release
has a lasting problem, mostly a bad node, so it is reported with that node instead.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import RootModel

from caltech_exp.cli import UserError
from caltech_exp.executors.executor import Executor, StudyJob, open_tasks, place_of, study_jobs
from caltech_exp.executors.slurm_queries import QueuedJob, Slurm, grouped
from caltech_exp.files import write_atomically
from caltech_exp.records import read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, cancelled_runs
from caltech_exp.study.run_status import QueuedTask

# Slurm's reasons for holding a job that was requeued (job_mgr.c): `launch failed requeued held`, `user env
# retrieval failed requeued held`, `launch failure limit exceeded requeued held`, `job requeued in held state`,
# `job requeued in special exit state`. A job that a person holds has JobHeldUser or JobHeldAdmin.
REASON = re.compile(r"requeued[ _](held|in[ _]held|in[ _]special)|JobHoldMaxRequeue", re.IGNORECASE)
# In the folder of a submission: the jobs of it that were released once.
RELEASED = "released.json"


def packs_in_preparation(jobs: Iterable[StudyJob], executor: Executor) -> dict[Path, str]:
    """A pack's file -> the id of the queued job that makes it, if the executor's tasks can wait for that job."""
    packs: dict[Path, str] = {}
    for study_job in jobs if executor.can_chain_jobs else ():
        preparation = study_job.manifest.preparation
        if study_job.part == "preparation" and preparation and study_job.manifest.executor == executor.name:
            packs |= {Path(file): study_job.job.id for file in preparation.packs}
    return packs


@dataclass(frozen=True)
class Queue:
    """What the queues hold of a study.

    runs         run id -> its task
    reasons      Slurm's reason for waiting -> number of training tasks that wait for it
    preparation  the job that decodes images before the runs, while it is in a queue
    """

    runs: Mapping[str, QueuedTask] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    preparation: QueuedJob | None = None


def read_queue(folder: StudyFolder, manifests: Sequence[Manifest], slurm: Slurm, done: Collection[str]) -> Queue:
    """The queues of the manifests; Slurm is asked once, and only if it was given a run that is not `done`."""
    jobs = study_jobs(folder, manifests, slurm, done)
    open_manifests = {job.manifest.id: job.manifest for job in jobs}
    places = {number: place_of(manifest, slurm) for number, manifest in open_manifests.items()}
    training = [study_job for study_job in jobs if study_job.part == "training"]
    preparing = [study_job.job for study_job in jobs if study_job.part == "preparation"]
    return Queue(
        runs=runs_elsewhere(folder, manifests, slurm, done)
        | {
            run: QueuedTask(job.manifest.id, job.job.state == "running", places[job.manifest.id])
            for job in training
            for run in job.runs
        },
        reasons=Counter(
            study_job.job.reason
            for study_job in training
            if study_job.job.state == "queued" and study_job.job.reason
        ),
        preparation=preparing[-1] if preparing else None,
    )


def runs_elsewhere(
    folder: StudyFolder, manifests: Sequence[Manifest], slurm: Slurm, done: Collection[str]
) -> dict[str, QueuedTask]:
    """The runs without a result whose last submission went to a cluster that cannot be asked; they may run."""
    clusters = {m.id: place_of(m, slurm) for m in manifests if m.cluster and open_tasks(folder, m, done)}
    if not any(clusters.values()):
        return {}
    last = {run: manifest.id for manifest in manifests for task in manifest.tasks for run in task.runs}
    cancelled = cancelled_runs(folder.path, manifests)
    return {
        run: QueuedTask(submission, is_running=True, place=cluster)
        for run, submission in last.items()
        if (cluster := clusters.get(submission)) and run not in done and run not in cancelled
    }


class _Released(RootModel[frozenset[str]]):
    """Ids of jobs."""


def release_held(folder: StudyFolder, jobs: Sequence[StudyJob], slurm: Slurm) -> list[str]:
    """Release the user's jobs that Slurm holds and that were not released before; lines on what was done."""
    held = [study_job for study_job in jobs if study_job.manifest.is_own and REASON.search(study_job.job.reason)]
    released = {submission: _read_released(folder, submission) for submission in {job.manifest.id for job in held}}
    held_again = [study_job for study_job in held if study_job.job.id in released[study_job.manifest.id]]
    newly_held = [study_job for study_job in held if study_job not in held_again]
    lines = []
    if newly_held:
        ids, reason = _job_ids(newly_held), newly_held[0].job.reason
        names = ", ".join(grouped(ids))
        try:
            slurm.release(ids)
        except UserError as error:
            lines.append(f"Slurm holds {names} ({reason}), and they could not be released: {error}")
        else:
            lines.append(f"released {names}, which Slurm held: {reason}")
            for submission, before in released.items():
                now_released = _job_ids(job for job in newly_held if job.manifest.id == submission)
                record = _Released(before.union(now_released))
                with contextlib.suppress(OSError):  # then they are released once more
                    write_atomically(folder.submission(submission) / RELEASED, record.model_dump_json())
    return [*lines, *_describe_held_again(held_again, slurm)]


def _job_ids(jobs: Iterable[StudyJob]) -> list[str]:
    return [study_job.job.id for study_job in jobs]


def _describe_held_again(held_again: Sequence[StudyJob], slurm: Slurm) -> list[str]:
    """A line for each node that such jobs were last on."""
    nodes = slurm.last_nodes(_job_ids(held_again)) if held_again else {}
    by_node: dict[str, list[StudyJob]] = {}
    for study_job in held_again:
        by_node.setdefault(nodes.get(study_job.job.id, ""), []).append(study_job)
    lines = []
    for node, jobs in sorted(by_node.items()):
        ids = grouped(_job_ids(jobs))
        where = f"on node {node}" if node else "on a node that `sinfo -R` may list"
        lines.append(
            f"not released again: {', '.join(ids)} failed {where} after being released "
            f"({jobs[0].job.reason}); once the node works, run `scontrol release {','.join(ids)}`, or run "
            f"jobs/cancel.py and submit with exclude: {node or 'NODE'} in the profile"
        )
    return lines


def _read_released(folder: StudyFolder, submission: str) -> frozenset[str]:
    released = read_record(folder.submission(submission) / RELEASED, _Released)
    return released.root if isinstance(released, _Released) else frozenset()
