"""Which runs of a study are in a queue now, told from its manifests and the queues themselves."""

from collections.abc import Sequence
from pathlib import Path

from caltech_exp.errors import UserError
from caltech_exp.results import Damaged, Result, read_result
from caltech_exp.study import SUBMISSIONS, Manifest, job_comment, read_manifests
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
    runs: Path, manifests: Sequence[Manifest], timeout: float, fingerprint: str | None
) -> dict[str, str]:
    """Run id -> `queued` or `running`, for every run of the manifests that some queue holds.

    Slurm is asked once, and only if a run it was given has no result yet. Raises UserError if it is asked and
    does not answer.
    """
    found: dict[str, str] = {}
    names = {name for manifest in manifests if manifest.executor == "slurm" for name in manifest.job_names}
    slurm_jobs: list[QueuedJob] | None = None
    for manifest in manifests:
        open_tasks = [
            task for task in manifest.tasks if not all(_is_done(runs / run, fingerprint) for run in task.runs)
        ]
        if not open_tasks:
            continue
        if manifest.executor == "local":
            states = local.queued_tasks(runs / SUBMISSIONS / manifest.id)
            in_queue = {(t.array, t.index): states[t.job] for t in open_tasks if t.job in states}
        else:
            if slurm_jobs is None:
                slurm_jobs = queued_jobs(names, timeout)
            in_queue = {place: job.state for place, job in _places(manifest, slurm_jobs).items()}
        for task in open_tasks:
            if (task.array, task.index) in in_queue:
                found.update(dict.fromkeys(task.runs, in_queue[task.array, task.index]))
    return found


def held_after_failed_launch(manifests: Sequence[Manifest], timeout: float) -> list[str]:
    """Ids of the manifests' jobs that Slurm could not start and holds since, as after its controller died.

    They would wait for ever. Jobs that a person holds are not among them. Raises UserError as `queued_runs` does.
    """
    of_slurm = [manifest for manifest in manifests if manifest.executor == "slurm"]
    names = {name for manifest in of_slurm for name in manifest.job_names}
    held = [job for job in queued_jobs(names, timeout) if "requeued held" in job.reason] if names else []
    return sorted({job.id for manifest in of_slurm for job in _places(manifest, held).values()})


def _places(manifest: Manifest, jobs: Sequence[QueuedJob]) -> dict[tuple[int, int], QueuedJob]:
    """(array, index) -> the job, for the manifest's tasks that are among the jobs.

    By job id and name, since a cluster set up anew counts from 1 again; by the comment, where the process that
    submitted them died before it knew their ids.
    """
    by_id = {(job.id, job.name): job for job in jobs}
    by_comment = {(job.comment, job.index): job for job in jobs}
    places: dict[tuple[int, int], QueuedJob] = {}
    for task in manifest.tasks:
        job = by_comment.get((job_comment(manifest.id, task.array), task.index))
        if task.job:
            job = by_id.get((task.job, manifest.job_names[task.array]), job)
        if job:
            places[task.array, task.index] = job
    return places


def _is_done(folder: Path, fingerprint: str | None) -> bool:
    result = read_result(folder)
    return isinstance(result, Result) and fingerprint in (None, result.data.fingerprint)
