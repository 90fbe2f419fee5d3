"""Submit one job or array through sbatch.

submitit writes the batch script and the files of the tasks. It would wait for sbatch without a limit and
understand only one of its answers, so sbatch is called here.
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

from caltech_exp.child_environment import slurm_environment, start_problem
from caltech_exp.cli import UserError, shown
from caltech_exp.executors.sbatch_errors import RefusedError, UncertainError, hint, is_refusal
from caltech_exp.executors.slurm_queries import NO_CONNECTION, Slurm
from caltech_exp.files import closed_to_others, umask
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.profiles.sbatch_options import NEVER_FROM_ENVIRONMENT, REQUEUE, options_of, variables
from caltech_exp.provenance import Snapshot

TASK_PROCESS = "caltech_exp.executors.task_process"
QUEUE_AGAIN = 75  # exit status of a task that cannot call scontrol, so that the batch script requeues it
ENDED = 128 + signal.SIGTERM  # exit status of a task that was told to end
TIME_LIMITS = 1000  # how often a task may reach its time limit and be requeued
KILL_SECONDS = 5.0

# The job's own id, in shell: `1234_5` in an array, where SLURM_JOB_ID may be the id of the whole array.
THIS_JOB = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
# What the batch script does at its end: first it runs the trap on EXIT that `setup` has set, if any, since a
# requeue ends the script. The trap runs in a subshell, so that its `exit` ends nothing else. Then the script
# requeues the task if the task could not do so itself, in a container without scontrol
# (submission/signal_handler.py). Only with a trap on TERM does a shell wait for the task: the user's trap must not
# remove what a task uses while it saves.
EXIT_TRAP = (
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
# From Slurm 22.05 on srun does not inherit the job's --cpus-per-task and binds a task to one core. The value of a
# job that submitted this one must not stay.
SRUN_CPUS = (
    'if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"; '
    "else unset SRUN_CPUS_PER_TASK; fi"
)

SENTENCE = re.compile(r"\bSubmitted batch job ([0-9]+)\b")
# A line of `sbatch --parsable`, which some sites' wrappers print: the id, and perhaps the cluster.
BARE_ID = re.compile(r"([0-9]+)(?:;\S+)?")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Answer:
    """What sbatch printed, and its exit status: None if it did not end in time and was killed."""

    output: str
    complaint: str
    status: int | None

    @property
    def job(self) -> str | None:
        """The id of the job, whatever else is printed; None without an id, or with several.

        The exit status does not matter: a wrapper may fail after sbatch took the job.
        """
        ids = set(SENTENCE.findall(f"{self.output}\n{self.complaint}"))
        if not ids and not (self.status and is_refusal(self.complaint)):  # in a refusal a number is no id
            lines = (BARE_ID.fullmatch(COLOURS.sub("", line).strip()) for line in self.output.splitlines())
            ids = {line[1] for line in lines if line}
        return ids.pop() if len(ids) == 1 else None


def call_sbatch(script: Path, seconds: float, environment: Mapping[str, str]) -> Answer:
    """Run sbatch; after so many seconds it is killed with all that it started. Raises OSError."""
    # Its output goes into files: a process that outlives sbatch would keep a pipe open.
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
                    process.wait(KILL_SECONDS)
        texts = []
        for file in (output, complaint):
            file.seek(0)
            texts.append(file.read().decode(errors="replace").strip())
    return Answer(texts[0], texts[1], status)


def task_file(folder: Path, part: int | str, index: int) -> Path:
    """The file of a task until its job's id is known. Its name tells the place, so nobody has to unpickle it."""
    return folder / f"{part}-{index}.pkl"


class BatchScript(submitit.SlurmExecutor):
    """The batch script of one job or array, and the files of its tasks, in submitit's formats."""

    def write(self, tasks: Sequence[Callable[[], None]], part: int | str) -> Path:
        """Write the tasks and the script, whose path is returned. Raises OSError."""
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
        """Give the files the names that the job looks for, and return its tasks' ids in order. Raises OSError."""
        count = self.parameters.get("map_count")
        ids = [f"{job}_{index}" for index in range(count)] if count else [job]
        for index, task_id in enumerate(ids):
            task_file(self.folder, part, index).rename(JobPaths(self.folder, task_id).submitted_pickle)
        script.rename(JobPaths(self.folder, ids[0]).submission_file)
        return ids


def _new_file(path: Path) -> Path:
    """Create an empty file that only the user may write: a node executes what will be in it."""
    path.unlink(missing_ok=True)  # left by an earlier job of the same folder that was not queued
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
    cannot be started, OSError if the script cannot be written.
    """
    script = BatchScript(batch.folder, python=task_python(profile, snapshot), max_num_timeout=TIME_LIMITS)
    parameters = sbatch_parameters(batch.name, profile, batch.after)
    script.update_parameters(**parameters, comment=batch.comment)
    # sbatch gives environment variables precedence over the script.
    options = {*NEVER_FROM_ENVIRONMENT, *batch.unset, *options_of(profile)}
    seconds = profile.command_timeout_seconds
    with closed_to_others():
        path = script.write(batch.tasks, batch.part)
    try:
        answer = call_sbatch(path, seconds, slurm_environment(variables(options)))
    except OSError as error:
        raise UserError(start_problem("sbatch", error)) from None
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
    """The error for an sbatch that printed no job id."""
    if answer.status is None:
        return UncertainError(
            f"sbatch did not end within {seconds:g} s; it waits while the cluster's queue is full"
        )
    if answer.status == 0:
        output = shown(" ".join(answer.output.split()) or "nothing", 300)
        return UncertainError(f"sbatch did not name the job of the array {name}; it printed: {output}")
    reason = " ".join(answer.complaint.split()).removeprefix("sbatch: error: ")
    if is_refusal(reason):
        return RefusedError(f"sbatch refused the array {name}: {reason}; {hint(reason)}")
    if NO_CONNECTION.search(reason):
        return UncertainError(f"Slurm does not answer (sbatch: {reason})")
    reason = shown(reason, 300) if reason else "and did not say why"
    return UncertainError(f"sbatch failed for the array {name} with exit status {answer.status}: {reason}")


def _find_job(name: str, comment: str, slurm: Slurm) -> str | None:
    """The id of the user's queued job or array with this name and comment; None if it is not found."""
    try:
        jobs = slurm.queued_jobs({name}, {os.geteuid()})
    except UserError:
        return None
    ids = {job.array for job in jobs if job.comment == comment}
    return ids.pop() if len(ids) == 1 else None


def task_python(profile: SlurmProfile, snapshot: Snapshot) -> str:
    """The shell command that starts a task; submitit adds `-u -m submitit.core._submit FOLDER`."""
    words = shlex.join(snapshot.command(TASK_PROCESS))
    return f"{profile.python or shlex.quote(sys.executable)} {words}"


def sbatch_parameters(name: str, profile: SlurmProfile, after: Sequence[str] = ()) -> dict[str, Any]:
    """The profile as parameters of submitit's SlurmExecutor, which quotes every value for a shell."""
    values = {
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
        "additional_parameters": _additional_options(profile),
        "setup": [
            # The user's own umask, by which a group may share results: sbatch is called with a stricter one.
            f"umask {umask():04o}",
            f"export SLURM_UMASK={umask():04o}",
            *profile.setup,
            "export PYTHONSAFEPATH=1",  # else modules in the current folder come first
            *EXIT_TRAP,
            SRUN_CPUS,
            "export SLURM_EXPORT_ENV=ALL",  # else srun passes on no variable with --export=NONE
        ],
    }
    shell = ("setup", "srun_args")
    parameters = {
        key: value if key in shell else _for_sbatch(value) for key, value in values.items() if value is not None
    }
    if profile.sbatch.get("wckey") is False:
        parameters["wckey"] = None  # else submitit writes one
    return parameters


def _for_sbatch(value: Any) -> Any:
    """The value with doubled backslashes: unlike a shell, sbatch reads `\\` as an escape within single quotes too.

    Source: Slurm's src/sbatch/opt.c, _get_argument.
    """
    if isinstance(value, dict):
        return {name: _for_sbatch(entry) for name, entry in value.items()}
    return value.replace("\\", "\\\\") if isinstance(value, str) else value


def _additional_options(profile: SlurmProfile) -> dict[str, Any]:
    """The profile's own options, and --requeue unless the profile decides that: sites differ in the default."""
    options = {name: value for name, value in profile.sbatch.items() if value is not False}
    is_decided = any(name in options for name in REQUEUE) or profile.sbatch.get("requeue") is False
    return options if is_decided else {**options, "requeue": True}
