"""Call sbatch on one job or array: read the id, and tell a refusal from an answer that did not come.

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

OF_HOW_MANY = re.compile(
    r"MaxSubmitJob|MaxJobs|GrpSubmitJob|GrpJobs|temporarily unable to accept job|job array", re.IGNORECASE
)
"""In complaints of limits on how many jobs may be queued: of an association or QOS (sacctmgr(1), MaxSubmitJobs),
of the cluster (slurm.conf(5), MaxJobCount), of an array (MaxArraySize, max_array_tasks)."""
OF_SIZE = re.compile(r"\b(?:QOS|Assoc)\w*(?:Max|Min|Grp)\w+", re.IGNORECASE)
"""Any other limit of an association or QOS, as squeue(1) calls it: QOSMaxWallDurationPerJobLimit, QOSMinGRES."""
OF_EITHER = re.compile(r"job submit limit", re.IGNORECASE)
"""Where sbatch does not name the limit: `Job violates accounting/QOS policy (job submit limit, user's size and/or
time limits)`."""
SUBMISSION_FAILED = "batch job submission failed: "
"""What sbatch writes before the reason, once it has asked the controller."""
OF_CONTROLLER = tuple(
    line.strip()
    for line in """
        access denied to requested reservation
        access/permission denied
        burst buffer permission denied
        burst buffer request invalid
        burst buffer resource limit exceeded
        circular job dependency
        cpu count specification invalid
        duplicate generic resource
        duplicate job id
        environment is missing in job
        error generating job credential
        i/o error writing script/environment to file
        invalid --nice value
        invalid account or account/partition combination
        invalid feature specification
        invalid generic resource (gres) specification
        invalid gres specification
        invalid group id
        invalid job array specification
        invalid license specification
        invalid mcs_label specified
        invalid node name specified
        invalid node state specified
        invalid partition name specified
        invalid qos specification
        invalid time specified
        invalid time-min specification
        invalid trackable resource (tres) specification
        invalid user id
        invalid wckey specification
        job --batch option is invalid
        job cannot be submitted without the current working directory
        job dependency problem
        job script not specified
        job size specification needs to be provided
        job violates accounting/qos policy
        licenses currently unavailable
        maxjobcount limit reached
        memory required by task is not available
        more processors requested than permitted
        multiple knl numa and/or mcdram constraints
        multiple partition job request not supported
        no partition specified or system default partition
        node count specification invalid
        only batch jobs are accepted or processed
        partition in down state
        pathname of a file, directory or other parameter too long
        rate limit exceeded
        requested account has breached requested qos usage threshold
        requested gres option unsupported
        requested node configuration is not available
        requested nodes are busy
        requested nodes not in this partition
        requested operation is presently disabled
        requested operation not supported on this system
        requested partition configuration not available now
        requested reservation
        requested time limit is invalid
        required node not available
        required partition not available
        requires more ports than can be reserved
        resource temporarily unavailable
        system submissions disabled
        task count specification invalid
        task distribution specification invalid
        unable to contact slurm controller (connect failure)
        unknown error
        unspecified error
        user's group not permitted to use this partition
        x11 forwarding not available
    """.strip().splitlines()
)
"""How the reasons begin with which the controller refuses a job (slurm_errno.c), and that of one not reached.
`Unspecified error` and numbers without words are what a site's job_submit plugin refuses with."""
OF_SBATCH = re.compile(
    r"unrecognized option|invalid option|option '.*' (is ambiguous|requires an argument|doesn't allow an argument)"
    r"|invalid (--)?[-\w ]+( \(gres\))? specification|invalid numeric value|unrecognized --\S+ argument"
    r"|is not (a )?valid|(unable to|could not) open (user environment )?file"
    r"|batch script (is empty|contains)|does not look like a batch script|does not allow scripts that"
    r"|script (file .* is too large|.* is too big)|cli_filter plugin terminated",
    re.IGNORECASE,
)
"""In complaints about the command line or the script, before sbatch asks the controller (sbatch.c, opt.c)."""

NOT_REACHED = re.compile(
    r"unable to contact slurm controller|rate limit exceeded|backup controller", re.IGNORECASE
)
"""In complaints of a controller that was not reached, or did not listen."""

WAIT = (
    "the cluster limits how many jobs may be queued: give the same command again when some have ended, or "
    "set max_array_size lower in the profile, or runs_per_task higher"
)
LESS = (
    "the site limits what a job may ask for: change time_minutes, mem_gb, cpus_per_task or the GPUs in the "
    "profile, or name another qos or partition"
)


def remedy(reason: str) -> str:
    """What ends the error of a refusal with this complaint of sbatch's."""
    if OF_HOW_MANY.search(reason):
        return WAIT
    if named := OF_SIZE.search(reason):
        return f"{named[0]}: {LESS}"
    if OF_EITHER.search(reason):
        return f"{WAIT}; or {LESS}"
    if NOT_REACHED.search(reason):
        return "look at `scontrol ping` and try again"
    return "correct the profile or ask Slurm"


def is_refusal(complaint: str) -> bool:
    """Whether the complaint of an sbatch that failed says for certain that the job was not taken.

    Any other may come after the controller has taken the job: its answer did not arrive or was not understood, or
    a wrapper around sbatch failed at something of its own.
    """
    text = " ".join(complaint.lower().split())
    _, asked, reason = text.rpartition(SUBMISSION_FAILED)
    return reason.startswith(OF_CONTROLLER) if asked else OF_SBATCH.search(text) is not None


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
