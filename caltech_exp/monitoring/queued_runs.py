"""Which jobs of a study, and so which of its runs, are in a queue now."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caltech_exp.executors.executor import Executor, StudyJob, study_jobs
from caltech_exp.executors.slurm_queries import QueuedJob, Slurm
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.run_status import InQueue


def packs_on_their_way(jobs: Iterable[StudyJob], executor: Executor) -> dict[Path, str]:
    """A pack's file -> the id of the queued job that makes it, if the executor's tasks can wait for that job."""
    preparing = [
        (found.job.id, found.manifest.preparation)
        for found in jobs
        if found.part == "preparation" and found.manifest.executor == executor.name and executor.can_chain_jobs
    ]
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
    jobs = study_jobs(StudyFolder(runs), manifests, slurm, done)
    training = [job for job in jobs if job.part == "training"]
    preparation = [job.job for job in jobs if job.part == "preparation"]
    return Queue(
        runs={run: InQueue(job.manifest.id, job.job.state == "running") for job in training for run in job.runs},
        reasons=Counter(job.job.reason for job in training if job.job.state == "queued" and job.job.reason),
        preparation=preparation[-1] if preparation else None,
    )
