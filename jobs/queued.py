"""Which runs of a study are in a queue now, told from its manifests and the queues themselves."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from caltech_exp.errors import UserError
from caltech_exp.results import Damaged
from caltech_exp.study import SUBMISSIONS, Manifest, SubmittedTask, job_comment, read_manifests
from jobs import local
from jobs.cluster import QueuedJob, queued_jobs


def sound_manifests(runs: Path) -> list[Manifest]:
    """Every submission into the study, oldest first. Raises UserError if one cannot be read.

    Its jobs may be in a queue: submitting past it could train a run twice.
    """
    found = read_manifests(runs)
    for manifest in found:
        if isinstance(manifest, Damaged):
            raise UserError(
                f"{manifest.path} is damaged ({manifest.reason}), so what it queued cannot be told; "
                f"remove {manifest.path.parent} once no job of it is left"
            )
    return [manifest for manifest in found if isinstance(manifest, Manifest)]


def queued_runs(
    runs: Path, manifests: Sequence[Manifest], timeout: float, done: Collection[str]
) -> dict[str, str]:
    """Run id -> `queued` or `running`, for every run of the manifests that some queue holds.

    Slurm is asked once, and only if a run it was given is not among the `done`, those with a result. Raises
    UserError if it is asked and does not answer.
    """
    open_tasks = {
        manifest.id: [task for task in manifest.tasks if not all(run in done for run in task.runs)]
        for manifest in manifests
    }
    of_slurm = [m for m in manifests if m.executor == "slurm" and open_tasks[m.id]]
    names = {name for manifest in of_slurm for name in manifest.job_names}
    jobs = _Jobs(queued_jobs(names, timeout) if of_slurm else ())
    found: dict[str, str] = {}
    for manifest in manifests:
        if manifest.executor == "local" and open_tasks[manifest.id]:
            local_states = local.queued_tasks(runs / SUBMISSIONS / manifest.id)
        for task in open_tasks[manifest.id]:
            if manifest.executor == "local":
                state = local_states.get(task.job)
            else:
                job = jobs.of(manifest, task)
                state = job.state if job else None
            if state:
                found.update(dict.fromkeys(task.runs, state))
    return found


def held_after_failed_launch(manifests: Sequence[Manifest], timeout: float) -> list[str]:
    """Ids of the manifests' jobs that Slurm could not start and holds since, as after its controller died.

    They would wait for ever. Jobs that a person holds are not among them. Raises UserError as `queued_runs` does.
    """
    of_slurm = [manifest for manifest in manifests if manifest.executor == "slurm"]
    names = {name for manifest in of_slurm for name in manifest.job_names}
    held = _Jobs([job for job in queued_jobs(names, timeout) if "requeued held" in job.reason] if names else ())
    jobs = (held.of(manifest, task) for manifest in of_slurm for task in manifest.tasks)
    return sorted({job.id for job in jobs if job})


class _Jobs:
    """The jobs of a queue, found by the task they are.

    By job id and name, since a cluster set up anew counts from 1 again; by the comment, where the process that
    submitted them died before it knew their ids.
    """

    def __init__(self, jobs: Iterable[QueuedJob]) -> None:
        self._by_id: dict[tuple[str, str], QueuedJob] = {}
        self._by_comment: dict[tuple[str, int], QueuedJob] = {}
        for job in jobs:
            self._by_id[job.id, job.name] = job
            self._by_comment[job.comment, job.index] = job

    def of(self, manifest: Manifest, task: SubmittedTask) -> QueuedJob | None:
        job = self._by_comment.get((job_comment(manifest.id, task.array), task.index))
        return self._by_id.get((task.job, manifest.job_names[task.array]), job) if task.job else job
