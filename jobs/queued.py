"""Which runs of a study are in a queue now, told from its manifests and the queues themselves."""

from collections.abc import Iterable
from pathlib import Path

from caltech_exp.results import RESULT, Damaged
from caltech_exp.study import SUBMISSIONS, Manifest
from jobs import local
from jobs.cluster import queued_jobs


def queued_runs(runs: Path, manifests: Iterable[Manifest | Damaged], timeout: float) -> dict[str, str]:
    """Run id -> `queued` or `running`, for every run of the manifests that some queue holds.

    Slurm is asked once, and only if a run it was given has no result yet. Raises UserError if it is asked and
    does not answer.
    """
    found: dict[str, str] = {}
    slurm_jobs: dict[tuple[str, str], str] | None = None
    for manifest in manifests:
        if isinstance(manifest, Damaged):
            continue
        open_tasks = [t for t in manifest.tasks if any(not (runs / r / RESULT).exists() for r in t.runs)]
        if not open_tasks:
            continue
        if manifest.executor == "local":
            alive = local.queued_tasks(runs / SUBMISSIONS / manifest.id)
            states = dict.fromkeys(alive, "queued")
        else:
            if slurm_jobs is None:
                slurm_jobs = queued_jobs(timeout)
            states = {job: state for (job, name), state in slurm_jobs.items() if name in manifest.job_names}
        for task in open_tasks:
            if task.job in states:
                found.update(dict.fromkeys(task.runs, states[task.job]))
    return found
