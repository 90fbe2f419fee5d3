"""Ask Slurm: what is queued, how jobs ended, how large an array may be; release and cancel jobs."""

import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from caltech_exp.child_environment import run_program, slurm_environment
from caltech_exp.cli import UserError, shown

NO_CONNECTION = re.compile(
    r"timed out|zero bytes|unable to contact|connection|connect failure|communication|standby|address",
    re.IGNORECASE,
)
"""In complaints that the controller or the database was not reached (slurm_errno.c)."""


ERROR = re.compile(
    r"error|fatal|fail|timed? ?out|unable|cannot|could not|denied|refused|no such|not (found|respond)",
    re.IGNORECASE,
)
"""In lines on standard error that say why there is no answer. Some versions of Slurm's commands print such a line,
nothing else, and end with status 0; so do wrappers around them."""
HARMLESS = re.compile(r"\bwarning\b|\bld\.so\b", re.IGNORECASE)
"""In lines that have one of these words and come with a good answer: of the shell, or the loader of programs."""
ENDED = re.compile(
    r"already (finished|started|completing or completed)|no longer pending|is pending execution|invalid job id"
    r"|: no error$",
    re.IGNORECASE,
)
"""In what Slurm says of a job that cannot be released or cancelled because it has started or ended, or is released
already; and, beside such lines, of jobs that could be."""


class NoAnswerError(UserError):
    """Slurm cannot be asked, or does not answer."""


def has_sbatch() -> bool:
    """Whether this machine can talk to a Slurm cluster at all."""
    return shutil.which("sbatch") is not None


def default_profile() -> str:
    """The profile where none is named: slurm where there is one, else local."""
    return "slurm" if has_sbatch() else "local"


def ask(
    command: Sequence[str], timeout: float, answer: str = r"\S", ignored: re.Pattern[str] | None = None
) -> str:
    """Standard output of a Slurm command. Raises NoAnswerError if it fails or takes too long.

    An error on standard error and no answer beside it is a failure too, whatever the exit status. So is an error
    that says that Slurm was not reached, even beside an answer, which then lacks what was not reached.

    timeout  seconds it may take
    answer   a regular expression that an answer with content matches
    ignored  in lines on standard error that are no failure
    """
    name = command[0]
    try:
        # Or sacct cuts `1234_[0,2,4,...]` after 64 characters.
        done = run_program(command, timeout, {**slurm_environment(), "SLURM_BITSTR_LEN": "0"})
    except FileNotFoundError:
        raise NoAnswerError(
            f"{name} is not on this machine; submit from a login node, or use profile=local"
        ) from None
    except subprocess.TimeoutExpired:
        raise not_answering(f"{name} did not end within {timeout:g} s") from None
    complaint = [line for line in map(str.strip, done.stderr.splitlines()) if line]
    counting = [line for line in complaint if not (ignored and ignored.search(line))]
    errors = [line for line in counting if ERROR.search(line) and not HARMLESS.search(line)]
    if done.returncode:
        if complaint and not counting:
            return done.stdout
        said = errors or counting or done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
        reason = shown(said[0].removeprefix(f"{name}: error: "))
        if counting and not NO_CONNECTION.search("\n".join(counting)):
            raise NoAnswerError(f"{name} failed: {reason}; correct that and try again")
        raise not_answering(f"{name}: {reason}")
    unreached = [line for line in errors if NO_CONNECTION.search(line)]
    if unreached or (errors and not re.search(answer, done.stdout, re.MULTILINE)):
        raise not_answering(f"{name}: {shown((unreached or errors)[0].removeprefix(f'{name}: error: '))}")
    return done.stdout


def not_answering(reason: str) -> NoAnswerError:
    return NoAnswerError(
        f"Slurm does not answer ({reason}); look at `scontrol ping` and try again, or use profile=local"
    )


def max_array_size(timeout: float) -> int:
    """The most tasks an array can have on the cluster (slurm.conf(5): MaxArraySize, and max_array_tasks where the
    site has set it). Raises UserError if Slurm is down."""
    config = ask(["scontrol", "show", "config"], timeout, answer=r"^\w+\s*=")
    limits = re.findall(
        r"^MaxArraySize\s*=\s*(\d+)|^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", config, re.M
    )
    return min((int(size or tasks) for size, tasks in limits), default=1001)


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue; an array task's id is `1234_5`, and `reason` says why it waits.

    uid  whose it is
    """

    id: str
    state: Literal["queued", "running"]
    reason: str
    name: str
    comment: str
    uid: int

    @property
    def array(self) -> str:
        """The id of its array, or its own where it is in none."""
        return self.id.partition("_")[0]

    @property
    def index(self) -> int:
        """Its place in its array; 0 for a job that is none."""
        return int(self.id.partition("_")[2] or 0)


JOB_ID = re.compile(r"[0-9]+(?:_[0-9]+)?")
FIELDS = ("%i", "%T", "%U", "%r", "%j", "%k")
"""What squeue is asked of each job: id, state, user number, reason, name, comment."""


def queued_jobs(names: Collection[str], uids: Collection[int], timeout: float) -> list[QueuedJob]:
    """Every job of these names and of these users in the queue. Raises UserError if Slurm does not answer.

    Names and comments are free text, other people's too. So the fields are divided by a word that nobody knows
    beforehand, and no comment can look like the next job. What is still no job is skipped.
    """
    mark = f"|{secrets.token_hex(8)}|"
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--all",
        f"--name={','.join(sorted(names))}",
        *_of_users(uids),
        f"--format={mark.join(['', *FIELDS, ''])}",
    ]
    answer = ask(command, timeout, answer=re.escape(mark) + r"\d")
    first, *words = answer.split(mark)
    if not words and first.strip():
        line = shown(repr(first.strip().splitlines()[0]))
        raise NoAnswerError(f"squeue printed {line}, which is no job; look at `{' '.join(command)}`")
    jobs = []
    step = len(FIELDS) + 1  # with what is between two jobs: a line break
    for start in range(0, len(words) - len(FIELDS), step):
        job, state, uid, reason, name, comment = words[start : start + len(FIELDS)]
        if JOB_ID.fullmatch(job) and uid.isdecimal() and int(uid) in uids and name in names:
            running = state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")
            jobs.append(QueuedJob(job, "running" if running else "queued", reason, name, comment, int(uid)))
    return jobs


def _of_users(uids: Collection[int]) -> list[str]:
    """The option that has Slurm list only these users' jobs; none if squeue would refuse a user as unknown."""
    try:
        return [f"--user={','.join(sorted(pwd.getpwuid(uid).pw_name for uid in uids))}"]
    except (KeyError, OverflowError):
        return []


def release(ids: Sequence[str], timeout: float) -> None:
    """Let held jobs be scheduled again, those that have not ended. Raises UserError if Slurm does not do so."""
    ask(["scontrol", "release", *ids], timeout, ignored=ENDED)


def cancel_jobs(ids: Sequence[str], timeout: float) -> None:
    """End jobs, `1234` or `1234_5`: those that run are told to (SIGTERM) and killed after the site's KillWait.

    One request an array, however many of its tasks are named. Raises UserError if Slurm does not do so.
    """
    ask(["scancel", *grouped(ids)], timeout, ignored=ENDED)


def grouped(ids: Sequence[str]) -> list[str]:
    """Job ids as Slurm writes them in short: `["12_0", "12_1", "12_3", "14"]` -> `["12_[0-1,3]", "14"]`."""
    arrays: dict[str, list[int]] = {}
    for job in ids:
        array, _, index = job.partition("_")
        arrays.setdefault(array, []).extend([int(index)] if index else [])
    return [f"{array}_[{_ranges(sorted(set(tasks)))}]" if tasks else array for array, tasks in arrays.items()]


def _ranges(numbers: Sequence[int]) -> str:
    """`[0, 1, 2, 5]` -> `0-2,5`"""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ",".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups)


AT_ONCE = 500
"""Job ids in one question; a command line has an end."""
SECONDS = 5.0
"""How long accounting may take in all. It only explains, and nobody waits a minute for that."""
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""One node; `None assigned` is none."""
WAITING = re.compile(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]")
"""The tasks of an array that never started are one job to accounting: `1234_[0-2,4,7-9%4]`."""


@dataclass(frozen=True)
class EndedJob:
    """How a job ended: Slurm's word for it (`CANCELLED`, `OUT_OF_MEMORY`, `NODE_FAIL`, ...) and where.

    submitted  when it came into the queue, for the last time if it was requeued; None if that is not said
    """

    id: str
    name: str
    state: str
    node: str
    submitted: datetime | None = None


def ended_jobs(ids: Collection[str], timeout: float) -> dict[str, EndedJob]:
    """Job id (`1234_5`) -> how it ended last. Empty where there is no sacct, or no answer in a few seconds."""
    if not shutil.which("sacct"):
        return {}
    arrays = sorted({job.partition("_")[0] for job in ids})
    found: dict[str, EndedJob] = {}
    end = time.monotonic() + min(timeout, SECONDS)
    for start in range(0, len(arrays), AT_ONCE):
        try:
            jobs = _ask(arrays[start : start + AT_ONCE], max(0.1, end - time.monotonic()))
        except UserError:  # accounting is switched off, or its daemon is down: nothing here depends on it
            break
        for job in jobs:
            found |= {task: replace(job, id=task) for task in _tasks(job.id) if task in ids}
    return found


def last_nodes(ids: Collection[str], timeout: float) -> dict[str, str]:
    """Job id -> the node that it was last on, for jobs that accounting knows a node of."""
    if not shutil.which("sacct"):
        return {}
    arrays = sorted({job.partition("_")[0] for job in ids})[:AT_ONCE]
    try:
        jobs = _ask(arrays, min(timeout, SECONDS), "--duplicates")  # a requeued job has a record for each start
    except UserError:
        return {}
    return {job.id: job.node for job in jobs if job.id in ids and NODE.fullmatch(job.node)}


def _tasks(shown: str) -> Iterator[str]:
    """The ids of a job, or of all tasks of an array that it stands for."""
    waiting = WAITING.fullmatch(shown)
    if not waiting:
        yield shown
        return
    for part in waiting[2].split(","):
        first, _, last = part.partition("-")
        for index in range(int(first), int(last or first) + 1):
            yield f"{waiting[1]}_{index}"


def _ask(arrays: Sequence[str], timeout: float, *options: str) -> list[EndedJob]:
    command = [
        "sacct",
        *options,
        "--noheader",
        "--parsable2",
        "--allocations",
        "--format=JobID,JobName,State,NodeList,Submit",
        f"--jobs={','.join(arrays)}",
    ]
    jobs = []
    for line in ask(command, timeout, answer=r"^\d").splitlines():
        fields = line.split("|")
        if len(fields) == 5 and (re.fullmatch(r"\d+(_\d+)?", fields[0]) or WAITING.fullmatch(fields[0])):
            number, name, state, node, submitted = fields
            jobs.append(EndedJob(number, name, state.split()[0] if state else "", node, _time(submitted)))
    return jobs


def _time(text: str) -> datetime | None:
    """What sacct prints in the time of this machine: `2026-01-31T12:00:00`."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None
