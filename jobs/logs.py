"""Where the output of tasks lies, by submitit's names."""

from pathlib import Path

from caltech_exp.study import SUBMISSIONS, Manifest, SubmittedTask

QUEUE_LOG = "queue.log"
"""What a queue on this machine itself has to say; in the submission's folder."""


def log_path(runs: Path, manifest: Manifest, task: SubmittedTask) -> Path:
    """The log of a Slurm task; a task on this machine gets the id in its log's name only when it starts."""
    return log_of_job(runs, manifest.id, task.job)


def log_of_job(runs: Path, submission: str, job: str) -> Path:
    """The log of the job that trains or trained a run, as its lease and its records name it."""
    return runs / SUBMISSIONS / submission / f"{job}_0_log.out"


def shortest(path: Path) -> str:
    """The path as it is shortest to type from where the command was given."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
