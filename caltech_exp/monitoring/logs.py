"""Where the output of tasks lies, by submitit's names, and why a task refused to start."""

from pathlib import Path

from caltech_exp.bootstrap import refusal_name
from caltech_exp.executors.executor import executor_named
from caltech_exp.records import HostName, JobId, StrictRecord, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, Manifest, SingleJob, SubmittedTask


def log_path(runs: Path, manifest: Manifest, task: SubmittedTask | SingleJob) -> Path | None:
    """What a task prints (`.out`; its errors lie beside it in `.err`); the file is there once the task has begun.

    None where submitit's job id is not known: of a task on this machine that has not begun, or of a job whose
    submission died before it heard of it.
    """
    job = _submitit_job(runs, manifest, task)
    return log_of_job(runs, manifest.id, job) if job else None


def _submitit_job(runs: Path, manifest: Manifest, task: SubmittedTask | SingleJob) -> str:
    return executor_named(manifest.executor).submitit_id(StudyFolder(runs), manifest, task.job)


class Refusal(StrictRecord):
    """What a process left that was to run a damaged snapshot or another user's file (bootstrap.refuse)."""

    reason: str
    job: JobId
    host: HostName = ""
    when: str = ""


def refusal(runs: Path, manifest: Manifest, task: SubmittedTask | SingleJob) -> Refusal | None:
    """Why the last start of a task was refused; None if it was not."""
    job = _submitit_job(runs, manifest, task) or executor_named(manifest.executor).queue_process
    if not job or "/" in job:
        return None
    found = read_record(runs / SUBMISSIONS / manifest.id / refusal_name(job), Refusal)
    return found if isinstance(found, Refusal) else None


def log_of_job(runs: Path, submission: str, job: str) -> Path:
    """The log of the job that trains or trained a run, as its lease and its records name it."""
    return runs / SUBMISSIONS / submission / f"{job}_0_log.out"


def shortest(path: Path) -> str:
    """The path as it is shortest to type from where the command was given."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
