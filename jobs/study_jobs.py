"""The jobs of a study in Slurm's queue, told from its manifests."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from caltech_exp.manifest import COMMENT, Manifest, SinglePart, SubmittedTask, job_comment
from jobs.cluster import QueuedJob, queued_jobs


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


def index_jobs(manifests: Sequence[Manifest], names: Collection[str], timeout: float) -> JobIndex:
    """The jobs of these names that the manifests' users have in the queue. Slurm is asked if there is a name.

    Raises UserError if it does not answer.
    """
    uids = {manifest.owner for manifest in manifests}
    return JobIndex(queued_jobs(names, uids, timeout) if names else ())


def study_jobs(manifests: Sequence[Manifest], timeout: float) -> list[StudyJob]:
    """Every job of the manifests that Slurm holds, which is asked once, if there is anything to ask for.

    Raises UserError if it does not answer.
    """
    of_slurm = [manifest for manifest in manifests if manifest.executor == "slurm"]
    index = index_jobs(of_slurm, {name for manifest in of_slurm for name in manifest.all_names}, timeout)
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
