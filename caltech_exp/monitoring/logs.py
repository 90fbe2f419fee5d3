"""The logs of tasks: where they are, their last lines, and why a task refused to start."""

import errno
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from caltech_exp.bootstrap import refusal_name
from caltech_exp.cli import one_line, shown
from caltech_exp.executors.executor import executor_named
from caltech_exp.files import open_file
from caltech_exp.records import HostName, JobId, StrictRecord, TimeOrEmpty, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SingleJob, SubmittedTask

LAST_LINES = 8
TAIL_BYTES = 16_384
LONGEST_LINE = 400
MOST_READ = 2**20
STARTED = "Starting with JobEnvironment"  # submitit's first line in the log of a task
# Lines by which Slurm and submitit say that a process ended, not why.
NOISE = re.compile(
    r"srun: (error: \S+: tasks? [\d,-]+: |Terminating |launch/slurm: |Job step aborted|Force Terminated|First task"
    r"|forcing job termination|error: Timed out waiting for job step)"
    r"|slurmstepd: error: \*\*\* |submitit [A-Z]+ \("
)
KILLED = re.compile(r"\b(killed|oom|terminated|bus error|segmentation fault|memory)\b", re.IGNORECASE)


def log_path(
    folder: StudyFolder, manifest: Manifest, task: SubmittedTask | SingleJob, run: str = ""
) -> Path | None:
    """The standard output of a task, or of its run (errors are in `.err` beside it); it exists once it has begun.

    None if submitit's job id is unknown: the task on this machine has not begun, or the submission died before
    sbatch named its job.
    """
    job = _submitit_job(folder, manifest, task)
    return job_log(folder, manifest.id, job, run) if job else None


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
        with _open_log(log) as file:
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
    """The last lines of a file that are neither empty nor noise; none if it cannot be read."""
    try:
        with _open_log(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = text.replace("\r", "\n").splitlines()
    return [line for line in lines if line.strip() and not NOISE.match(line)][-LAST_LINES:]


def _open_log(path: Path) -> BufferedReader:
    """Open a log to read. Raises OSError.

    Other users may write into a study's folder: a link there could name any file, and a pipe would never end.
    """
    if stat.S_ISLNK(path.lstat().st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return open_file(path)


class LogReader:
    """Reads what was added to a log since it was read last, in whole lines; another log from its beginning."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._offset, self._last = 0, b""

    def read(self, path: Path) -> str:
        """The new lines, empty if there are none or the log cannot be read now."""
        if path != self.path:
            self.path, self._offset, self._last = path, 0, b""
        try:
            with _open_log(path) as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # its middle was left out (log_mb)
                    content = file.read()
                    place = content.rfind(self._last)
                    self._offset = len(content) if place < 0 else place + len(self._last)
                file.seek(self._offset)
                lines, newline, _ = file.read(MOST_READ).rpartition(b"\n")
        except OSError:
            return ""
        self._offset += len(lines + newline)
        self._last = (self._last + lines + newline)[-TAIL_BYTES:]
        return (lines + newline).decode(errors="replace").replace("\r", "\n")


def printable(line: str) -> str:
    """A line of a log as it may be shown: not too long, terminal codes escaped."""
    return one_line(shown(line.rstrip(), LONGEST_LINE))


def shortest(path: Path) -> str:
    """The path relative to the current folder where that is shorter to type."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
