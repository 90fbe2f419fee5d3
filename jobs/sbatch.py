"""Call sbatch on one job or array, and read the job's id from whatever sbatch or a site's wrapper prints.

submitit writes the batch script and the file that holds a task. It waits for sbatch without end and understands
one sentence of it, so sbatch is called here.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import DelayedSubmission, JobPaths

from jobs.refusals import is_refusal

SENTENCE = re.compile(r"\bSubmitted batch job ([0-9]+)\b")
"""What sbatch prints; ` on cluster NAME` may follow."""
BARE_ID = re.compile(r"([0-9]+)(?:;\S+)?")
"""A line of `sbatch --parsable`, which some sites' wrappers print: the id, and the cluster if it says one."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SECONDS_TO_DIE = 5.0


@dataclass(frozen=True)
class Answer:
    """What sbatch printed, and its exit status: None if it did not end in time and was killed."""

    output: str
    complaint: str
    status: int | None

    @property
    def job(self) -> str | None:
        """The id of the job that is named, whatever else is printed; None if no job is, or several are.

        It counts whatever the status is: a wrapper may fail after sbatch took the job.
        """
        found = set(SENTENCE.findall(f"{self.output}\n{self.complaint}"))
        if not found and not (self.status and is_refusal(self.complaint)):  # then a number is something else
            lines = (BARE_ID.fullmatch(COLOURS.sub("", line).strip()) for line in self.output.splitlines())
            found = {line[1] for line in lines if line}
        return found.pop() if len(found) == 1 else None


def call_sbatch(script: Path, seconds: float, environment: Mapping[str, str]) -> Answer:
    """Have sbatch queue the script, and kill it with all that it started after so many seconds. Raises OSError."""
    # Into files: a process that outlives sbatch would keep a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaint:
        process = subprocess.Popen(
            ["sbatch", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaint,
            start_new_session=True,
            env=environment,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.returncode is None:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # a wrapper may run as root
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait(SECONDS_TO_DIE)
        texts = []
        for file in (output, complaint):
            file.seek(0)
            texts.append(file.read().decode(errors="replace").strip())
    return Answer(texts[0], texts[1], status)


def task_file(folder: Path, part: int | str, index: int) -> Path:
    """Where a task is kept until its job's id is known: by its array, or which single job it is, and its place.

    So a job that is found in the queue gets its task without anybody reading the file.
    """
    return folder / f"{part}-{index}.pkl"


class BatchScript(submitit.SlurmExecutor):
    """The batch script of one job or array, and the files of its tasks, as submitit writes and reads them."""

    def write(self, tasks: Sequence[Callable[[], None]], part: int | str) -> Path:
        """Write the tasks and the script; the script's path. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for index, task in enumerate(tasks):
            submission = DelayedSubmission(task)
            submission.set_timeout(self.parameters["time"], self.max_num_timeout)
            submission.dump(_new_file(task_file(self.folder, part, index)))
        if len(tasks) > 1:
            self.parameters["map_count"] = len(tasks)
        script = _new_file(self.folder / f".submission_file_{part}.sh")
        script.write_text(self._make_submission_file_text(self._submitit_command_str, str(part)))
        return script

    def name_files(self, script: Path, part: int | str, job: str) -> list[str]:
        """Give the files the names that the job looks for; the ids of its tasks, in order. Raises OSError."""
        count = self.parameters.get("map_count")
        ids = [f"{job}_{index}" for index in range(count)] if count else [job]
        for index, task_id in enumerate(ids):
            task_file(self.folder, part, index).rename(JobPaths(self.folder, task_id).submitted_pickle)
        script.rename(JobPaths(self.folder, ids[0]).submission_file)
        return ids


def _new_file(path: Path) -> Path:
    """The path with an empty file there. A node runs what will be in it, so nobody else may ever write it."""
    path.unlink(missing_ok=True)  # of an earlier job of the same folder that was not queued
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    return path
