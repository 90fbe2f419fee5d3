"""Which runs of a study are in a queue now, told from its manifests and the queues themselves."""

from collections.abc import Sequence
from pathlib import Path

from caltech_exp.errors import UserError
from caltech_exp.results import RESULT, Damaged
from caltech_exp.study import SUBMISSIONS, Manifest, read_manifests
from jobs import local
from jobs.cluster import queued_jobs


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


def queued_runs(runs: Path, manifests: Sequence[Manifest], timeout: float) -> dict[str, str]:
    """Run id -> `queued` or `running`, for every run of the manifests that some queue holds.

    Slurm is asked once, and only if a run it was given has no result yet. Raises UserError if it is asked and
    does not answer.
    """
    found: dict[str, str] = {}
    names = {name for manifest in manifests if manifest.executor == "slurm" for name in manifest.job_names}
    slurm_jobs: dict[tuple[str, str], str] | None = None
    for manifest in manifests:
        open_tasks = [t for t in manifest.tasks if any(not (runs / r / RESULT).exists() for r in t.runs)]
        if not open_tasks:
            continue
        if manifest.executor == "local":
            alive = local.queued_tasks(runs / SUBMISSIONS / manifest.id)
            states = dict.fromkeys(alive, "queued")
        else:
            if slurm_jobs is None:
                slurm_jobs = queued_jobs(names, timeout)
            states = {job: state for (job, name), state in slurm_jobs.items() if name in manifest.job_names}
        for task in open_tasks:
            if task.job in states:
                found.update(dict.fromkeys(task.runs, states[task.job]))
    return found
