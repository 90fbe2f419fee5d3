"""Where the output of tasks lies, by submitit's names."""

from pathlib import Path

from caltech_exp.manifest import SUBMISSIONS, Manifest, SingleJob, SubmittedTask
from jobs.local import submitit_jobs


def log_path(runs: Path, manifest: Manifest, task: SubmittedTask | SingleJob) -> Path | None:
    """What a task prints (`.out`; its errors lie beside it in `.err`); the file is there once the task has begun.

    None where submitit's job id is not known: of a task on this machine that has not begun, or of a job whose
    submission died before it heard of it.
    """
    local = submitit_jobs(runs / SUBMISSIONS / manifest.id) if manifest.executor == "local" else None
    job = task.job if local is None else local.get(task.job, "")
    return log_of_job(runs, manifest.id, job) if job else None


def log_of_job(runs: Path, submission: str, job: str) -> Path:
    """The log of the job that trains or trained a run, as its lease and its records name it."""
    return runs / SUBMISSIONS / submission / f"{job}_0_log.out"


def shortest(path: Path) -> str:
    """The path as it is shortest to type from where the command was given."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
