"""The logs of tasks: where they are, their last lines, and why a task refused to start."""

import os
import re
import stat
from pathlib import Path

from caltech_exp.bootstrap import refusal_name
from caltech_exp.cli import one_line, shown
from caltech_exp.executors.executor import executor_named
from caltech_exp.records import HostName, JobId, StrictRecord, TimeOrEmpty, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SingleJob, SubmittedTask

LAST_LINES = 8
TAIL_BYTES = 16_384
LONGEST_LINE = 400
STARTED = "Starting with JobEnvironment"  # submitit's first line in the log of a task
# Lines by which Slurm and submitit say that a process ended, not why.
NOISE = re.compile(
    r"srun: (error: \S+: tasks? [\d,-]+: |Terminating |launch/slurm: |Job step aborted|Force Terminated|First task"
    r"|forcing job termination|error: Timed out waiting for job step)"
    r"|slurmstepd: error: \*\*\* |submitit [A-Z]+ \("
)
KILLED = re.compile(r"\b(killed|oom|terminated|bus error|segmentation fault|memory)\b", re.IGNORECASE)


def log_path(folder: StudyFolder, manifest: Manifest, task: SubmittedTask | SingleJob) -> Path | None:
    """The standard output of a task (its errors are beside it in `.err`); the file exists once the task has begun.

    None if submitit's job id is unknown: the task on this machine has not begun, or the submission died before
    sbatch named its job.
    """
    job = _submitit_job(folder, manifest, task)
    return job_log(folder, manifest.id, job) if job else None


def _submitit_job(folder: StudyFolder, manifest: Manifest, task: SubmittedTask | SingleJob) -> str:
    return executor_named(manifest.executor).submitit_id(folder, manifest, task.job)


def job_log(folder: StudyFolder, submission: str, job: str, run: str = "") -> Path:
    """The log of a job, by the id that leases and records give; the run's own if it trained beside others."""
    own = folder.submission(submission) / f"{job}_{run}_log.out"
    return own if run and own.exists() else folder.submission(submission) / f"{job}_0_log.out"


class Refusal(StrictRecord):
    """The record of a task that was to run a damaged snapshot or another user's file (bootstrap.refuse)."""

    reason: str
    job: JobId
    host: HostName = ""
    when: TimeOrEmpty = ""

    @property
    def line(self) -> str:
        return one_line(shown(self.reason, 500))


def read_refusal(folder: StudyFolder, manifest: Manifest, task: SubmittedTask | SingleJob) -> Refusal | None:
    """Why the last start of a task was refused; None if it was not."""
    job = _submitit_job(folder, manifest, task) or executor_named(manifest.executor).queue_process
    if not job or "/" in job:
        return None
    refusal = read_record(folder.submission(manifest.id) / refusal_name(job), Refusal)
    return refusal if isinstance(refusal, Refusal) else None


def why_not_started(log: Path) -> str:
    """The last line of a batch script that ended before its task began; empty if it began or was killed."""
    try:
        with os.fdopen(os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if STARTED.encode() in file.read(2**20):
                return ""
    except OSError:
        return ""
    line = printable((tail(log.with_suffix(".err")) or tail(log) or [""])[-1])
    return "" if KILLED.search(line) else line


def last_lines(log: Path) -> list[str]:
    """The last lines of a log and of its errors (`.err`)."""
    return [*tail(log), *(tail(log.with_suffix(".err")) if log.suffix == ".out" else ())][-LAST_LINES:]


def tail(path: Path) -> list[str]:
    """The last lines of a file that are neither empty nor noise; none if it cannot be read.

    Other users may write into a study's folder: a link there could name any file, and a pipe would never end.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return []
            file.seek(max(0, status.st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = text.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not NOISE.match(line)][-LAST_LINES:]


def printable(line: str) -> str:
    """A line of a log as it may be shown: not too long, terminal codes escaped."""
    return one_line(shown(line.rstrip(), LONGEST_LINE))


def shortest(path: Path) -> str:
    """The path relative to the current folder where that is shorter to type."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
