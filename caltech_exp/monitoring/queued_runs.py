"""Which jobs of a study, and so which of its runs, are in a queue now."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from caltech_exp.executors import local
from caltech_exp.executors.slurm_queries import QueuedJob, Slurm
from caltech_exp.study.manifest import (
    COMMENT,
    SUBMISSIONS,
    Manifest,
    SinglePart,
    SubmittedTask,
    job_comment,
)
from caltech_exp.study.run_status import InQueue


@dataclass(frozen=True)
class StudyJob:
    """A job of the study in Slurm's queue; `runs` are those it trains, in a part that trains any."""

    job: QueuedJob
    manifest: Manifest
    part: Literal["training"] | SinglePart
    runs: tuple[str, ...] = ()


class JobIndex:
    """Jobs in the queue by what a manifest knows of them. Only jobs of its user and of its names count.

    First by the id and the comment. Then by the comment, which no other submission has, and which is there too
    where the process that submitted died before it knew the id. Then, at a site that puts comments of its own, by
    id and name; an id alone says nothing, since a cluster that was set up again counts from 1 again.
    """

    def __init__(self, jobs: Iterable[QueuedJob]) -> None:
        self._by_id: dict[tuple[int, str, str], QueuedJob] = {}
        self._by_comment: dict[tuple[int, str, str, int], QueuedJob] = {}
        for job in jobs:
            self._by_comment[job.uid, job.name, job.comment, job.index] = job
            self._by_id[job.uid, job.name, job.id] = job

    def of_task(self, manifest: Manifest, task: SubmittedTask) -> QueuedJob | None:
        """The job that is a task of the manifest."""
        name, comment = manifest.job_names[task.array], job_comment(manifest.id, task.array)
        return self._find(manifest, name, comment, task.index, task.job)

    def of_single(self, manifest: Manifest, part: SinglePart) -> QueuedJob | None:
        """The job that prepares or aggregates for the manifest."""
        single = manifest.single(part)
        return self._find(manifest, single.name, job_comment(manifest.id, part), 0, single.job) if single else None

    def _find(self, manifest: Manifest, name: str, comment: str, index: int, known: str) -> QueuedJob | None:
        by_id = self._by_id.get((manifest.owner, name, known))
        if by_id and by_id.comment == comment:
            return by_id
        by_comment = self._by_comment.get((manifest.owner, name, comment, index))
        if by_comment:
            return by_comment
        return by_id if by_id and not by_id.comment.startswith(COMMENT) else None


def index_jobs(manifests: Sequence[Manifest], names: Collection[str], slurm: Slurm) -> JobIndex:
    """The jobs of these names that the manifests' users have in the queue. Slurm is asked if there is a name.

    Raises UserError if it does not answer.
    """
    uids = {manifest.owner for manifest in manifests}
    return JobIndex(slurm.queued_jobs(names, uids) if names else ())


def study_jobs(manifests: Sequence[Manifest], slurm: Slurm) -> list[StudyJob]:
    """Every job of the manifests that Slurm holds, which is asked once, if there is anything to ask for.

    Raises UserError if it does not answer.
    """
    of_slurm = [manifest for manifest in manifests if manifest.executor == "slurm"]
    index = index_jobs(of_slurm, {name for manifest in of_slurm for name in manifest.all_names}, slurm)
    found = []
    for manifest in of_slurm:
        for part in get_args(SinglePart):
            if job := index.of_single(manifest, part):
                found.append(StudyJob(job, manifest, part))
        for task in manifest.tasks:
            if job := index.of_task(manifest, task):
                found.append(StudyJob(job, manifest, "training", task.runs))
    return found


def packs_on_their_way(jobs: Iterable[StudyJob]) -> dict[Path, str]:
    """A pack's file -> the id of the job in the queue that makes it."""
    preparing = ((found.job.id, found.manifest.preparation) for found in jobs if found.part == "preparation")
    return {Path(file): job for job, preparation in preparing if preparation for file in preparation.packs}


@dataclass(frozen=True)
class Queue:
    """What the queues hold of a study.

    runs         run id -> its task
    reasons      Slurm's reason for waiting -> tasks that train and wait for it
    preparation  the job that decodes images first, while Slurm holds it
    """

    runs: Mapping[str, InQueue]
    reasons: Counter[str] = field(default_factory=Counter)
    preparation: QueuedJob | None = None


def queued_runs(
    runs: Path, manifests: Sequence[Manifest], slurm: Slurm, done: Collection[str]
) -> Mapping[str, InQueue]:
    """`ask_queues` about the runs alone."""
    return ask_queues(runs, manifests, slurm, done).runs


def ask_queues(runs: Path, manifests: Sequence[Manifest], slurm: Slurm, done: Collection[str]) -> Queue:
    """What the queues hold of the manifests' runs and of what goes before them.

    Slurm is asked once, and only if a run it was given is not among the `done`, those with a result. Raises
    UserError if it is asked and does not answer.
    """
    open_tasks = {
        manifest.id: [task for task in manifest.tasks if not all(run in done for run in task.runs)]
        for manifest in manifests
    }
    of_slurm = [m for m in manifests if m.executor == "slurm" and open_tasks[m.id]]
    names = {name for manifest in of_slurm for name in manifest.job_names}
    names |= {manifest.preparation.name for manifest in of_slurm if manifest.preparation}
    jobs = index_jobs(of_slurm, names, slurm)
    found: dict[str, InQueue] = {}
    reasons: Counter[str] = Counter()
    preparation = None
    for manifest in manifests:
        if manifest.executor == "local" and open_tasks[manifest.id]:
            local_states = local.queued_tasks(runs / SUBMISSIONS / manifest.id)
        preparation = jobs.of_single(manifest, "preparation") or preparation
        for task in open_tasks[manifest.id]:
            if manifest.executor == "local":
                state = local_states.get(task.job)
            else:
                job = jobs.of_task(manifest, task)
                state = job.state if job else None
                if job and state == "queued":
                    reasons[job.reason] += 1
            if state:
                found.update(dict.fromkeys(task.runs, InQueue(manifest.id, state == "running")))
    return Queue(found, reasons, preparation)
