"""Which runs of a study are in a queue now, told from its manifests and the queues themselves."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caltech_exp.errors import UserError
from caltech_exp.manifest import SUBMISSIONS, Manifest, read_manifests
from caltech_exp.results import Damaged
from caltech_exp.states import InQueue
from jobs import local
from jobs.cluster import QueuedJob
from jobs.study_jobs import index_jobs


def sound_manifests(runs: Path) -> list[Manifest]:
    """Every submission into the study, oldest first. Raises UserError if one cannot be read.

    Its jobs may be in a queue: submitting past it could train a run twice.
    """
    found = read_manifests(runs)
    for manifest in found:
        if isinstance(manifest, Damaged):
            remedy = f"what it queued is unknown: remove {manifest.path.parent} once no job of it is left"
            raise UserError(manifest.complaint(remedy))
    return [manifest for manifest in found if isinstance(manifest, Manifest)]


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
    runs: Path, manifests: Sequence[Manifest], timeout: float, done: Collection[str]
) -> Mapping[str, InQueue]:
    """`ask_queues` about the runs alone."""
    return ask_queues(runs, manifests, timeout, done).runs


def ask_queues(runs: Path, manifests: Sequence[Manifest], timeout: float, done: Collection[str]) -> Queue:
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
    jobs = index_jobs(of_slurm, names, timeout)
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
