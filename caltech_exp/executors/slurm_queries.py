"""Slurm's commands: what is queued, how jobs ended, how large an array may be; release and cancel jobs."""

import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Literal

from caltech_exp.bootstrap import user_name
from caltech_exp.child_environment import WHERE_SLURM_IS, run_program, slurm_environment, start_problem
from caltech_exp.cli import UserError, shown
from caltech_exp.profiles.sbatch_options import in_unit

# Words in complaints that the controller or the database was not reached (slurm_errno.c).
NO_CONNECTION = re.compile(
    r"timed out|zero bytes|unable to contact|connection|connect failure|communication|standby|address",
    re.IGNORECASE,
)
# Words in lines on standard error that explain a missing answer. Some versions of Slurm's commands, and wrappers
# around them, print only such a line and exit with status 0.
ERROR = re.compile(
    r"error|fatal|fail|timed? ?out|unable|cannot|could not|denied|refused|no such|not (found|respond)",
    re.IGNORECASE,
)
# Lines with one of these words are warnings of the shell or the dynamic loader; they may accompany a good answer.
HARMLESS = re.compile(r"\bwarning\b|\bld\.so\b", re.IGNORECASE)
# What Slurm prints for a job that cannot be released or cancelled because it has started, ended or been released
# already; `: no error` is printed beside it for the jobs that could be.
ALREADY_DONE = re.compile(
    r"already (finished|started|completing or completed)|no longer pending|is pending execution|invalid job id"
    r"|: no error$",
    re.IGNORECASE,
)

JOB_ID = re.compile(r"[0-9]+(?:_[0-9]+)?")
SQUEUE_FIELDS = ("%i", "%T", "%U", "%r", "%j", "%k")  # id, state, user number, reason, name, comment
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # one node; `None assigned` does not match
# Accounting lists the tasks of an array that never started as one job: `1234_[0-2,4,7-9%4]`.
NEVER_STARTED = re.compile(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]")
IDS_PER_QUESTION = 500  # the length of a command line is limited
ACCOUNTING_SECONDS = 5.0  # in all: accounting only explains, nothing depends on it


class NoAnswerError(UserError):
    """Slurm cannot be asked, or does not answer."""


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue. The id of an array task is `1234_5`; `reason` says why the job waits."""

    id: str
    state: Literal["queued", "running"]
    reason: str
    name: str
    comment: str
    uid: int

    @property
    def array(self) -> str:
        """The id of its array, or its own id outside an array."""
        return self.id.partition("_")[0]

    @property
    def index(self) -> int:
        """Its place in its array; 0 outside an array."""
        return int(self.id.partition("_")[2] or 0)


@dataclass(frozen=True)
class EndedJob:
    """How a job ended, in Slurm's word (`CANCELLED`, `OUT_OF_MEMORY`, `NODE_FAIL`, ...), and on which node.

    submitted  when the job was last queued; None if accounting does not say
    """

    id: str
    name: str
    state: str
    node: str
    submitted: datetime | None = None


@dataclass(frozen=True)
class Slurm:
    """The Slurm commands of this machine, each of which may take `timeout_seconds`.

    Every method but those that ask accounting raises NoAnswerError if Slurm does not answer.
    """

    timeout_seconds: float = 60.0

    def queued_jobs(self, names: Collection[str], uids: Collection[int]) -> list[QueuedJob]:
        """The jobs of these names and users in the queue."""
        # Names and comments are free text, also other people's. A random separator divides the fields, so that no
        # comment can look like another job; whatever still does not parse is skipped.
        mark = f"|{secrets.token_hex(8)}|"
        command = [
            "squeue",
            "--noheader",
            "--array",
            "--all",
            f"--name={','.join(sorted(names))}",
            *_user_option(uids),
            f"--format={mark.join(['', *SQUEUE_FIELDS, ''])}",
        ]
        answer = self._ask(command, answer=re.escape(mark) + r"\d")
        first, *words = answer.split(mark)
        if not words and first.strip():
            line = shown(repr(first.strip().splitlines()[0]))
            raise NoAnswerError(f"squeue printed {line}, which is no job; look at `{' '.join(command)}`")
        jobs = []
        step = len(SQUEUE_FIELDS) + 1  # the line break between two jobs is one more field
        for start in range(0, len(words) - len(SQUEUE_FIELDS), step):
            job, state, uid, reason, name, comment = words[start : start + len(SQUEUE_FIELDS)]
            if JOB_ID.fullmatch(job) and uid.isdecimal() and int(uid) in uids and name in names:
                running = state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED")
                jobs.append(QueuedJob(job, "running" if running else "queued", reason, name, comment, int(uid)))
        return jobs

    def max_tasks(self, account: str | None = None, qos: str | None = None) -> tuple[int, int | None]:
        """The most tasks an array may have, and the most that this user may queue now; None for no such limit.

        An array may have MaxArraySize tasks, or max_array_tasks where the site sets it lower.
        """
        config = self._ask(["scontrol", "show", "config"], answer=r"^\w+\s*=")
        limits = re.findall(
            r"^MaxArraySize\s*=\s*(\d+)|^SchedulerParameters\s*=.*\bmax_array_tasks=(\d+)", config, re.M
        )
        is_limited = re.search(r"^AccountingStorageEnforce\s*=.*\b(limits|safe|all)\b", config, re.M)
        room = self._free_submissions(account, qos) if is_limited else None
        return min((int(size or tasks) for size, tasks in limits), default=1001), room

    def _free_submissions(self, account: str | None, qos: str | None) -> int | None:
        """How many tasks more this user may queue, by the limits of association and QOS that Slurm has in use.

        Without an account the user's default one counts, and other accounts are not looked at.
        """
        user = user_name(os.geteuid())
        answer = self._ask(["scontrol", "show", "assoc_mgr", f"users={user}", "flags=assoc,qos"])
        mine = f"Account={account} " if account else "DefAssoc=Yes"
        records = re.split(r"^(?=ClusterName=|QOS=)", answer, flags=re.MULTILINE)
        own = [
            text for text in records if f" UserName={user}(" in text and " Partition= " in text and mine in text
        ]
        accounts = [f" {name} UserName= " for text in own for name in re.findall(r"Account=\S+", text)[:1]]
        shared = (*accounts, f"QOS={qos or 'normal'}(")
        own += [text for text in records if any(name in text for name in shared)]
        pairs = re.findall(r"\b(?:Grp|Max)Submit\w*=(\d+)\((\d+)\)", "".join(own))
        counts = [int(most) - int(used) for most, used in pairs]
        return max(0, min(counts)) if counts else None

    def max_minutes(self, partition: str | None) -> list[int]:
        """The time limits of these partitions (None for the default one), in minutes, where they have one."""
        names = partition.split(",") if partition else []
        lines = self._ask(["sinfo", "--noheader", "--all", "--format=%P|%l"]).splitlines()
        limits = [line.partition("|")[::2] for line in lines]
        own = [limit for name, limit in limits if (name.rstrip("*") in names if names else name.endswith("*"))]
        return [int(minutes) for limit in own if (minutes := in_unit("time_minutes", limit))]

    def cluster(self) -> str:
        """The name of the cluster, which is asked for once; empty on a machine without Slurm."""
        return _cluster(self, shutil.which("scontrol"), *map(slurm_environment().get, WHERE_SLURM_IS))

    def partitions(self) -> list[str]:
        """The names of all partitions."""
        return self._ask(["sinfo", "--noheader", "--all", "--format=%R"]).split()

    def usable_nodes(self, partition: str | None, features: Collection[str], *, gpu: bool) -> list[str]:
        """The nodes of a partition (None for the default one) that are up and have these features, and GPUs."""
        command = ["sinfo", "--noheader", "--all", "--Node", "--format=%N|%P|%T|%f|%G"]
        names = partition.split(",") if partition else []
        nodes: dict[str, None] = {}
        for line in self._ask(command).splitlines():
            node, place, state, has, gres = (line.split("|") + 4 * [""])[:5]
            is_there = place.rstrip("*") in names if names else place.endswith("*")
            is_up = not re.match(r"down|drain|fail|future|inval|maint|unk|\w+\*", state)
            if is_there and is_up and {*features} <= {*has.split(",")} and (not gpu or "gpu" in gres):
                nodes[node] = None
        return list(nodes)

    def node_names(self, text: str) -> list[str]:
        """The nodes that a list such as `gpu[01-04],gpu07` names."""
        return self._ask(["scontrol", "show", "hostnames", text]).split() if "[" in text else text.split(",")

    def release(self, ids: Sequence[str]) -> None:
        """Release held jobs; jobs that have ended are skipped."""
        self._ask(["scontrol", "release", *ids], ignored=ALREADY_DONE)

    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel jobs (`1234` or `1234_5`). Running ones get SIGTERM and are killed after the site's KillWait."""
        self._ask(["scancel", *grouped(ids)], ignored=ALREADY_DONE)

    def ended_jobs(self, ids: Collection[str]) -> dict[str, EndedJob]:
        """Job id -> how the job last ended. Empty without sacct, or without an answer within a few seconds."""
        arrays = sorted({job.partition("_")[0] for job in ids})
        ended: dict[str, EndedJob] = {}
        deadline = time.monotonic() + min(self.timeout_seconds, ACCOUNTING_SECONDS)
        for start in range(0, len(arrays), IDS_PER_QUESTION):
            seconds = max(0.1, deadline - time.monotonic())
            jobs = Slurm(seconds)._account(arrays[start : start + IDS_PER_QUESTION])
            if jobs is None:
                break
            for job in jobs:
                ended |= {task: replace(job, id=task) for task in _task_ids(job.id) if task in ids}
        return ended

    def last_nodes(self, ids: Collection[str]) -> dict[str, str]:
        """Job id -> the node it last ran on, for the jobs whose node accounting knows."""
        arrays = sorted({job.partition("_")[0] for job in ids})[:IDS_PER_QUESTION]
        slurm = Slurm(min(self.timeout_seconds, ACCOUNTING_SECONDS))
        jobs = slurm._account(arrays, "--duplicates") or []  # a requeued job has a record for each start
        return {job.id: job.node for job in jobs if job.id in ids and NODE.fullmatch(job.node)}

    def _account(self, arrays: Sequence[str], *options: str) -> list[EndedJob] | None:
        """The records of these jobs and arrays; None if accounting is switched off or does not answer."""
        if not shutil.which("sacct"):
            return None
        command = [
            "sacct",
            *options,
            "--noheader",
            "--parsable2",
            "--allocations",
            "--format=JobID,JobName,State,NodeList,Submit",
            f"--jobs={','.join(arrays)}",
        ]
        try:
            lines = self._ask(command, answer=r"^\d").splitlines()
        except NoAnswerError:
            return None
        jobs = []
        for line in lines:
            fields = line.split("|")
            if len(fields) == 5 and (JOB_ID.fullmatch(fields[0]) or NEVER_STARTED.fullmatch(fields[0])):
                job, name, state, node, submitted = fields
                jobs.append(EndedJob(job, name, state.split()[0] if state else "", node, _local_time(submitted)))
        return jobs

    def _ask(self, command: Sequence[str], answer: str = r"\S", ignored: re.Pattern[str] | None = None) -> str:
        """The standard output of a Slurm command.

        answer   a regular expression that matches an answer with content
        ignored  matches lines on standard error that are no failure

        A line on standard error that names an error counts as a failure, whatever the exit status, if no answer
        comes with it, or if it says that Slurm was not reached: then the answer is incomplete.
        """
        name = command[0]
        try:
            # Without SLURM_BITSTR_LEN sacct cuts `1234_[0,2,4,...]` after 64 characters.
            done = run_program(command, self.timeout_seconds, {**slurm_environment(), "SLURM_BITSTR_LEN": "0"})
        except FileNotFoundError:
            raise NoAnswerError(
                f"{name} is not on this machine; submit from a login node, or use profile=local"
            ) from None
        except OSError as error:
            raise NoAnswerError(start_problem(name, error)) from None
        except subprocess.TimeoutExpired:
            raise _not_answering(f"{name} did not end within {self.timeout_seconds:g} s") from None
        complaint = [line for line in map(str.strip, done.stderr.splitlines()) if line]
        counting = [line for line in complaint if not (ignored and ignored.search(line))]
        errors = [line for line in counting if ERROR.search(line) and not HARMLESS.search(line)]
        if done.returncode:
            if complaint and not counting:
                return done.stdout
            lines = errors or counting or done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
            reason = shown(lines[0].removeprefix(f"{name}: error: "))
            if counting and not NO_CONNECTION.search("\n".join(counting)):
                raise NoAnswerError(f"{name} failed: {reason}; correct that and try again")
            raise _not_answering(f"{name}: {reason}")
        unreached = [line for line in errors if NO_CONNECTION.search(line)]
        if unreached or (errors and not re.search(answer, done.stdout, re.MULTILINE)):
            raise _not_answering(f"{name}: {shown((unreached or errors)[0].removeprefix(f'{name}: error: '))}")
        return done.stdout


@lru_cache
def _cluster(slurm: Slurm, program: str | None, *_where: str | None) -> str:
    config = slurm._ask(["scontrol", "show", "config"], answer=r"^\w+\s*=") if program else ""
    name = re.search(r"^ClusterName\s*=\s*([\w.-]+)\s*$", config, re.MULTILINE)
    return name[1] if name else ""


def default_profile() -> str:
    """The profile to use if none is named: `slurm` on a machine with sbatch, otherwise `local`."""
    return "slurm" if shutil.which("sbatch") else "local"


def grouped(ids: Sequence[str]) -> list[str]:
    """Job ids in Slurm's short form: `["12_0", "12_1", "12_3", "14"]` -> `["12_[0-1,3]", "14"]`."""
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


def _not_answering(reason: str) -> NoAnswerError:
    return NoAnswerError(
        f"Slurm does not answer ({reason}); look at `scontrol ping` and try again, or use profile=local"
    )


def _user_option(uids: Collection[int]) -> list[str]:
    """The option that limits squeue to these users; none if squeue would refuse one of them as unknown."""
    try:
        return [f"--user={','.join(sorted(pwd.getpwuid(uid).pw_name for uid in uids))}"]
    except (KeyError, OverflowError):
        return []


def _task_ids(job: str) -> Iterator[str]:
    """The id of a job, or those of all array tasks that it stands for."""
    tasks = NEVER_STARTED.fullmatch(job)
    if not tasks:
        yield job
        return
    for part in tasks[2].split(","):
        first, _, last = part.partition("-")
        for index in range(int(first), int(last or first) + 1):
            yield f"{tasks[1]}_{index}"


def _local_time(text: str) -> datetime | None:
    """A time that sacct prints in the time zone of this machine: `2026-01-31T12:00:00`."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None
