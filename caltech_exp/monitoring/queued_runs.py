"""Which jobs of a study, and so which of its runs, are in a queue."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caltech_exp.executors.executor import Executor, StudyJob, study_jobs
from caltech_exp.executors.slurm_queries import QueuedJob, Slurm
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.run_status import QueuedTask


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
    training = [study_job for study_job in jobs if study_job.part == "training"]
    preparing = [study_job.job for study_job in jobs if study_job.part == "preparation"]
    return Queue(
        runs={
            run: QueuedTask(study_job.manifest.id, study_job.job.state == "running")
            for study_job in training
            for run in study_job.runs
        },
        reasons=Counter(
            study_job.job.reason
            for study_job in training
            if study_job.job.state == "queued" and study_job.job.reason
        ),
        preparation=preparing[-1] if preparing else None,
    )
