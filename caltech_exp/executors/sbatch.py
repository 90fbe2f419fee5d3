"""Call sbatch on one job or array: read the id, and tell a refusal from an answer that did not come.

submitit writes the batch script and the file that holds a task. It waits for sbatch without end and understands
one sentence of it, so sbatch is called here.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import DelayedSubmission, JobPaths

from caltech_exp.child_environment import slurm_environment
from caltech_exp.cli import UserError, shown
from caltech_exp.executors.sbatch_errors import RefusedError, UncertainError, hint, is_refusal
from caltech_exp.executors.slurm_queries import NO_CONNECTION, Slurm
from caltech_exp.files import closed_to_others, umask
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.profiles.sbatch_options import NEVER_FROM_ENVIRONMENT, REQUEUE, options_of, variables
from caltech_exp.provenance import Snapshot

QUEUE_AGAIN = 75
"""Exit status of a task that cannot call scontrol, as in a container; then the batch script does (EX_TEMPFAIL)."""
ENDED = 128 + signal.SIGTERM
"""Exit status of a task that was told to end."""
THIS_JOB = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
"""The job's own id, in shell: `1234_5` in an array. One of its tasks has the id of them all as SLURM_JOB_ID."""


TASK_PROCESS = "caltech_exp.executors.task_process"

TIME_LIMITS = 1000
"""How often a task may reach its time limit and be queued again; each time it goes on from its checkpoint."""


_AT_THE_END = (
    "caltech_exp_keep() { caltech_exp_theirs=${3-}; }",
    'eval "caltech_exp_keep $(trap -p EXIT)"',
    "caltech_exp_end() {",
    "  set +e",
    '  if [ -n "$caltech_exp_theirs" ]; then (trap "$caltech_exp_theirs" EXIT; exit "$1"); fi',
    f"  case $1 in {QUEUE_AGAIN}) scontrol requeue {THIS_JOB};; {ENDED}) "
    f'scontrol show job {THIS_JOB} | grep -q "PreemptTime=[0-9]" && scontrol requeue {THIS_JOB};; esac',
    "}",
    "trap 'caltech_exp_end $?' EXIT",
    '[ -z "$caltech_exp_theirs" ] || [ -n "$(trap -p TERM)" ] || trap : TERM',
)
"""What a batch script does at its end. It runs the trap on EXIT that `setup` has set, if any. Then it has the task
queued again where the task could not do that itself, in a container without scontrol
(submission/signal_handler.py).

The user's trap comes first, since being queued again ends the batch script. It runs in a subshell, so that an
`exit` in it ends nothing else. Only with a trap on TERM does a shell wait for the task before it ends: the user's
trap must not remove what the task uses while it saves where it is.
"""


CPUS_OF_THE_STEP = (
    'if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; '
    "else unset SRUN_CPUS_PER_TASK; fi"
)
"""From Slurm 22.05 on srun does not ask for the job's --cpus-per-task by itself, and binds a task to one core. The
value of a job that submitted this one must not stay."""


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


@dataclass(frozen=True)
class BatchJob:
    """A job, or an array of several tasks, for sbatch.

    name, comment  shown by squeue; they find the job if sbatch does not print its id
    part           the number of the array in its submission, or which single job it is; names the tasks' files
    after          ids of jobs and arrays that must have ended first, however they end; Slurm ignores unknown ids
    unset          sbatch options that environment variables may not add, beside those that the profile sets
    """

    name: str
    comment: str
    tasks: Sequence[Callable[[], None]]
    folder: Path
    part: int | str = 0
    after: Sequence[str] = ()
    unset: Sequence[str] = ()


def queue_array(batch: BatchJob, profile: SlurmProfile, snapshot: Snapshot) -> list[str]:
    """Submit the tasks, which run the snapshot; their job ids in order (`1234_0`, or `1234` for a single task).

    Raises RefusedError if sbatch refuses, UncertainError if jobs may be queued or not, and UserError if sbatch
    cannot be started.
    """
    script = BatchScript(batch.folder, python=task_python(profile, snapshot), max_num_timeout=TIME_LIMITS)
    parameters = sbatch_parameters(batch.name, profile, batch.after)
    script.update_parameters(**parameters, comment=batch.comment)
    # sbatch puts a variable of the environment above what the script says.
    options = {*NEVER_FROM_ENVIRONMENT, *batch.unset, *options_of(profile)}
    seconds = profile.command_timeout_seconds
    try:
        with closed_to_others():
            path = script.write(batch.tasks, batch.part)
            answer = call_sbatch(path, seconds, slurm_environment(variables(options)))
    except OSError as error:
        raise UserError(f"sbatch could not be called for the array {batch.name}: {error}") from None
    job = answer.job
    if job is None:
        failure = _why_not(batch.name, answer, seconds)
        job = _find_job(batch.name, batch.comment, Slurm(seconds)) if isinstance(failure, UncertainError) else None
        if job is None:
            raise failure
    try:
        return script.name_files(path, batch.part, job)
    except OSError as error:
        raise UncertainError(f"job {job} is queued, but its files could not be renamed ({error})") from None


def _why_not(name: str, answer: Answer, seconds: float) -> UncertainError | RefusedError:
    """What it means that sbatch named no job."""
    if answer.status is None:
        return UncertainError(
            f"sbatch did not end within {seconds:g} s; it waits where the cluster has all the jobs it may have"
        )
    if answer.status == 0:
        said = shown(" ".join(answer.output.split()) or "nothing", 300)
        return UncertainError(f"sbatch did not name the job of the array {name}; it printed: {said}")
    reason = " ".join(answer.complaint.split()).removeprefix("sbatch: error: ")
    if is_refusal(reason):
        return RefusedError(f"sbatch refused the array {name}: {reason}; {hint(reason)}")
    if NO_CONNECTION.search(reason):
        return UncertainError(f"Slurm does not answer (sbatch: {reason})")
    said = shown(reason, 300) if reason else "and did not say why"
    return UncertainError(f"sbatch failed for the array {name} with exit status {answer.status}: {said}")


def _find_job(name: str, comment: str, slurm: Slurm) -> str | None:
    """The id of the user's job or array with that name and comment in the queue; None if Slurm tells of none."""
    try:
        jobs = slurm.queued_jobs({name}, {os.geteuid()})
    except UserError:
        return None
    found = {job.array for job in jobs if job.comment == comment}
    return found.pop() if len(found) == 1 else None


def task_python(profile: SlurmProfile, snapshot: Snapshot) -> str:
    """The shell command that starts a task; submitit adds `-u -m submitit.core._submit FOLDER`."""
    words = shlex.join(snapshot.command(TASK_PROCESS))
    return f"{profile.python or shlex.quote(sys.executable)} {words}"


def sbatch_parameters(name: str, profile: SlurmProfile, after: Sequence[str] = ()) -> dict[str, Any]:
    """A profile in the terms of submitit's SlurmExecutor, which quotes every value as a shell would read it."""
    given = {
        "job_name": name,
        "time": profile.time_minutes,
        "array_parallelism": profile.max_parallel,
        "cpus_per_task": profile.cpus_per_task,
        "gpus_per_node": profile.gpus_per_node,
        "gres": profile.gres,
        "mem": None if profile.mem_gb is None else f"{round(profile.mem_gb * 1024)}M",
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "dependency": f"afterany:{':'.join(after)}" if after else None,
        "signal_delay_s": profile.signal_delay_seconds,
        "srun_args": profile.srun_args or None,
        "additional_parameters": _further_options(profile),
        "setup": [
            # The user's own, by which a group may share results: sbatch is called with a umask that forbids that.
            f"umask {umask():04o}",
            f"export SLURM_UMASK={umask():04o}",
            *profile.setup,
            "export PYTHONSAFEPATH=1",  # or the folder that the command was given in would come first
            *_AT_THE_END,
            CPUS_OF_THE_STEP,
            "export SLURM_EXPORT_ENV=ALL",  # or with --export=NONE srun would pass on nothing of all this
        ],
    }
    shell = ("setup", "srun_args")
    parameters = {
        key: value if key in shell else _for_sbatch(value) for key, value in given.items() if value is not None
    }
    if profile.sbatch.get("wckey") is False:
        parameters["wckey"] = None  # or submitit writes one
    return parameters


def _for_sbatch(value: Any) -> Any:
    """The value with backslashes doubled: sbatch reads `\\` as an escape within single quotes too, unlike a shell.

    (Slurm's src/sbatch/opt.c, _get_argument.)
    """
    if isinstance(value, dict):
        return {name: _for_sbatch(entry) for name, entry in value.items()}
    return value.replace("\\", "\\\\") if isinstance(value, str) else value


def _further_options(profile: SlurmProfile) -> dict[str, Any]:
    """The profile's own, and --requeue where the profile does not say otherwise and the site's default may."""
    given = {name: value for name, value in profile.sbatch.items() if value is not False}
    is_decided = any(name in given for name in REQUEUE) or profile.sbatch.get("requeue") is False
    return given if is_decided else {**given, "requeue": True}
