"""The jobs of a study in Slurm's queue, told from its manifests."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from caltech_exp.manifest import COMMENT, Manifest, SinglePart, SubmittedTask, job_comment
from jobs.cluster import QueuedJob, queued_jobs


@dataclass(frozen=True)
class StudyJob:
    """A job of the study in Slurm's queue; `runs` are those it trains, in a part that trains any."""

    job: QueuedJob
    submission: str
    part: Literal["training"] | SinglePart
    runs: tuple[str, ...] = ()

    @property
    def whole(self) -> str:
        """The id of its array, or its own where it is in none."""
        return self.job.id.partition("_")[0]


class JobIndex:
    """Jobs in the queue by what a manifest knows of them.

    First by the comment, which no other submission has, and which is there too where the process that submitted
    died before it knew the id. Then, at a site that puts comments of its own, by id and name; an id alone says
    nothing, since a cluster set up anew counts from 1 again.
    """

    def __init__(self, jobs: Iterable[QueuedJob]) -> None:
        self._by_id: dict[tuple[str, str], QueuedJob] = {}
        self._by_comment: dict[tuple[str, int], QueuedJob] = {}
        for job in jobs:
            self._by_comment[job.comment, job.index] = job
            if not job.comment.startswith(COMMENT):
                self._by_id[job.id, job.name] = job

    def of_task(self, manifest: Manifest, task: SubmittedTask) -> QueuedJob | None:
        """The job that is a task of the manifest."""
        comment = job_comment(manifest.id, task.array)
        return self._by_comment.get((comment, task.index)) or self._by_id.get(
            (task.job, manifest.job_names[task.array])
        )

    def of_single(self, manifest: Manifest, part: SinglePart) -> QueuedJob | None:
        """The job that prepares or aggregates for the manifest."""
        single = manifest.single(part)
        if single is None:
            return None
        return self._by_comment.get((job_comment(manifest.id, part), 0)) or self._by_id.get(
            (single.job, single.name)
        )


def study_jobs(manifests: Sequence[Manifest], timeout: float) -> list[StudyJob]:
    """Every job of the manifests that Slurm holds, which is asked once, if there is anything to ask for.

    Raises UserError if it does not answer.
    """
    of_slurm = [manifest for manifest in manifests if manifest.executor == "slurm"]
    names = {name for manifest in of_slurm for name in manifest.all_names}
    index = JobIndex(queued_jobs(names, timeout) if names else ())
    found = []
    for manifest in of_slurm:
        for part in get_args(SinglePart):
            if job := index.of_single(manifest, part):
                found.append(StudyJob(job, manifest.id, part))
        for task in manifest.tasks:
            if job := index.of_task(manifest, task):
                found.append(StudyJob(job, manifest.id, "training", task.runs))
    return found


def held_after_failed_launch(jobs: Iterable[StudyJob]) -> list[str]:
    """Ids of those that Slurm could not start and holds since, as after its controller died.

    They would wait for ever. Jobs that a person holds are not among them.
    """
    return sorted({found.job.id for found in jobs if "requeued held" in found.job.reason})
