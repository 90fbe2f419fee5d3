"""A queue on this machine: start it, ask it, cancel its tasks, and find tasks whose queue has died.

submitit's local executor starts every job at once; this queue starts the next when a slot is free, the preparation
before all others and the aggregation after them. Its process holds a lock on `queue.lock` for as long as it lives,
so whoever reads the folder knows whether it does, and keeps in `queue.json` what waits and what runs. It starts
nothing that `cancelled.json` names, and ends what of it runs already.

A process is known by its command line, which names the submission's folder, and not by a number that may have
become another's: the number is pinned (pidfd), then looked at, then signalled.
"""

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, RootModel

from caltech_exp.child_environment import python_environment
from caltech_exp.cli import UserError
from caltech_exp.executors.executor import Executor, StudyJob, SubmissionJobs, SubmissionRecord, open_tasks
from caltech_exp.executors.slurm_queries import EndedJob, QueuedJob
from caltech_exp.files import closed_to_others, write_atomically
from caltech_exp.machine import computes_bf16, host_name, local_gpus
from caltech_exp.profiles.profile import LocalProfile
from caltech_exp.provenance import Snapshot
from caltech_exp.records import Corrupt, JobId, StrictRecord, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SingleJob, SinglePart, SubmittedTask

LOCK = "queue.lock"
QUEUE = "queue.pkl"
STATE = "queue.json"
QUEUE_LOG = "queue.log"
"""What the queue process itself has to say."""
CANCELLED = "cancelled.json"
PREPARATION = "local-preparation"
AGGREGATION = "local-aggregation"

Task = Callable[[], None]


@dataclass(frozen=True)
class LocalQueue:
    """What a queue process runs.

    tasks        by name, in their order: `slots` at once, each slot on its own of `gpus` where there are any
    preparation  before all of them, without a GPU
    aggregation  after all of them and of the submissions in the folders `after`, without a GPU
    """

    tasks: dict[str, Task]
    slots: int
    gpus: tuple[str, ...]
    preparation: Task | None = None
    aggregation: Task | None = None
    after: tuple[Path, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of everything it runs, in order."""
        first = [PREPARATION] if self.preparation else []
        return [*first, *self.tasks, *([AGGREGATION] if self.aggregation else [])]


def job_name(index: int) -> str:
    """The id of task `index` in a local manifest."""
    return f"local-{index}"


def start_queue(folder: Path, queue: LocalQueue, snapshot: Snapshot) -> None:
    """Start the queue process, which outlives this process and its terminal. All of it runs that snapshot.

    Raises OSError if `folder` cannot be written, UserError if it is on a file system without locks.
    """
    with closed_to_others():
        (folder / QUEUE).write_bytes(pickle.dumps(queue))
    write_state(folder, queue.names, {}, {})
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # The lock goes with the open file, which the child inherits: there is no moment without an owner.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{folder} is on a file system without locks ({error.strerror}), by which a queue on this machine "
                "is known to live; use runs= on another disk"
            ) from None
        with (folder / QUEUE_LOG).open("ab") as log:
            subprocess.Popen(
                [sys.executable, *snapshot.command("caltech_exp.executors.local_worker", str(folder))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**python_environment(), "PYTHONSAFEPATH": "1"},
                start_new_session=True,
                pass_fds=(lock,),
            )
    finally:
        os.close(lock)


def is_alive(folder: Path) -> bool:
    """Whether the queue process of a submission still runs."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY)  # others may only read what a user submitted
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask must not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


class _State(StrictRecord):
    """What queue.json holds: names of tasks, and submitit's job ids by name of all that were started."""

    waiting: tuple[JobId, ...] = ()
    running: tuple[JobId, ...] = ()
    jobs: dict[JobId, JobId] = Field(default_factory=dict)


class _Cancelled(RootModel[frozenset[JobId]]):
    """What cancelled.json holds: names of tasks."""


def queued_tasks(folder: Path) -> dict[str, Literal["queued", "running"]]:
    """Name -> `queued` or `running` of the open tasks of a local submission; empty once its process is gone.

    Raises UserError if what the process keeps on record is damaged.
    """
    if not is_alive(folder):
        return {}
    state = _read_state(folder)
    if isinstance(state, Corrupt):
        raise UserError(
            state.complaint(
                "what this machine's queue holds is unknown until its process writes the file again, when a task "
                "begins or ends: try again then"
            )
        )
    waiting: dict[str, Literal["queued", "running"]] = dict.fromkeys(state.waiting, "queued")
    return {**waiting, **dict.fromkeys(state.running, "running")}


def submitit_jobs(folder: Path) -> dict[str, str]:
    """Name -> submitit's job id, by which its logs are named, of every task that was started, as far as known."""
    state = _read_state(folder)
    return {} if isinstance(state, Corrupt) else state.jobs


def write_state(folder: Path, waiting: Collection[str], running: Collection[str], jobs: dict[str, str]) -> None:
    """Leave on record what waits, what runs, and submitit's job ids. Raises OSError."""
    state = _State(waiting=tuple(waiting), running=tuple(running), jobs=jobs)
    write_atomically(folder / STATE, state.model_dump_json())


def _read_state(folder: Path) -> _State | Corrupt:
    return read_record(folder / STATE, _State) or _State()


def cancel(folder: Path, names: Collection[str]) -> None:
    """Have the queue process drop or end those tasks. Raises OSError."""
    write_atomically(folder / CANCELLED, json.dumps(sorted({*names, *cancelled(folder)})))


def cancelled(folder: Path) -> frozenset[str]:
    """Names of the tasks that are to end, or were; none if the file is damaged: `cancel` writes it anew."""
    names = read_record(folder / CANCELLED, _Cancelled)
    return names.root if isinstance(names, _Cancelled) else frozenset()


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """A queue on this machine for each submission."""

    profile: LocalProfile
    name = "local"
    place = "on this machine"
    queue_process = "queue"

    def check(self, folder: StudyFolder) -> None:
        if self.profile.device == "cuda" and not local_gpus():
            raise UserError(
                "the profile asks for a GPU and this machine has none; use profile=local, or device: cpu in it"
            )

    def emulates_bf16(self) -> bool:
        return self.device_type == "cpu" and not computes_bf16()

    def submit(self, jobs: SubmissionJobs, record: SubmissionRecord, snapshot: Snapshot) -> None:
        tasks = [task for array in jobs.arrays for task in array]
        queue = LocalQueue(
            tasks={job_name(number): task for number, task in enumerate(tasks)},
            slots=self.slots,
            gpus=() if self.profile.device == "cpu" else local_gpus(),
            preparation=jobs.preparation,
            aggregation=jobs.aggregation,
            after=tuple(record.folder.submission(submission) for submission in jobs.dependencies),
        )
        record.planned = _with_names(record.planned)  # before the process starts: it needs no answer to know them
        with record.queueing(*range(len(jobs.arrays)), "preparation", "aggregation"):
            start_queue(record.path, queue, snapshot)

    def queued(
        self, folder: StudyFolder, manifests: Sequence[Manifest], done: Collection[str] | None = None
    ) -> list[StudyJob]:
        jobs = []
        for manifest in manifests:
            tasks = open_tasks(manifest, done)
            if manifest.executor != self.name or (done is not None and not tasks):
                continue
            states = queued_tasks(folder.submission(manifest.id))
            parts: list[tuple[str, Literal["training"] | SinglePart, tuple[str, ...]]]
            parts = [(task.job, "training", task.runs) for task in tasks]
            if done is None:
                parts = [(PREPARATION, "preparation", ()), *parts, (AGGREGATION, "aggregation", ())]
            for name, part, trained in parts:
                if state := states.get(name):
                    job = QueuedJob(name, state, reason="", name=name, comment="", uid=manifest.owner)
                    jobs.append(StudyJob(job, manifest, part, trained))
        return jobs

    def ended(
        self, folder: StudyFolder, tasks: Collection[tuple[Manifest, SubmittedTask]]
    ) -> dict[tuple[str, str], EndedJob]:
        own = [(manifest, task) for manifest, task in tasks if manifest.executor == self.name]
        names = {manifest.id: cancelled(folder.submission(manifest.id)) for manifest, _ in own}
        return {
            (manifest.id, task.job): EndedJob(task.job, task.job, "CANCELLED", node="")
            for manifest, task in own
            if task.job in names[manifest.id]
        }

    def submitit_id(self, folder: StudyFolder, manifest: Manifest, job: str) -> str:
        return submitit_jobs(folder.submission(manifest.id)).get(job, "")

    def locate(self, jobs: Sequence[StudyJob]) -> str:
        return self.place

    def dependencies(self, jobs: Iterable[StudyJob]) -> tuple[str, ...]:
        own = (job for job in jobs if job.part == "training" and job.manifest.executor == self.name)
        return tuple(dict.fromkeys(job.manifest.id for job in own))

    def cancel(self, folder: StudyFolder, jobs: Sequence[StudyJob], wait_seconds: float = 0) -> list[StudyJob]:
        open_jobs = [job for job in jobs if job.manifest.executor == self.name]
        submissions = {job.manifest.id: job.manifest for job in open_jobs}
        for submission in submissions:
            cancel(
                folder.submission(submission), [job.job.id for job in open_jobs if job.manifest.id == submission]
            )
        deadline = time.monotonic() + wait_seconds
        while open_jobs and time.monotonic() < deadline:
            time.sleep(0.2)
            ids = {(job.manifest.id, job.job.id) for job in self.queued(folder, list(submissions.values()))}
            open_jobs = [job for job in open_jobs if (job.manifest.id, job.job.id) in ids]
        return open_jobs


def _with_names(manifest: Manifest) -> Manifest:
    """The manifest with the names of all jobs as their ids."""
    singles: dict[str, SingleJob | None] = {}
    for part, name in (("preparation", PREPARATION), ("aggregation", AGGREGATION)):
        single = manifest.preparation if part == "preparation" else manifest.aggregation
        singles[part] = single.model_copy(update={"job": name}) if single else None
    tasks = tuple(task.model_copy(update={"job": job_name(n)}) for n, task in enumerate(manifest.tasks))
    return manifest.model_copy(update={"tasks": tasks, **singles})


TASK = b"submitit.core._submit"


def end_orphans(folder: Path) -> int:
    """Tell the tasks of a submission to end (SIGTERM); how many processes were told."""
    told = 0
    if not hasattr(os, "pidfd_open"):  # not Linux, where these tasks run
        return told
    for pid in _numbers():
        try:
            pinned = os.pidfd_open(pid)
        except OSError:  # it has ended, or an old kernel (before Linux 5.3)
            continue
        try:
            if _is_task(pid, folder):
                signal.pidfd_send_signal(pinned, signal.SIGTERM)
                told += 1
        except (OSError, ProcessLookupError):  # it has ended, or is another user's
            continue
        finally:
            os.close(pinned)
    return told


def has_orphans(folder: Path) -> bool:
    """Whether a task of the submission runs on this machine."""
    return any(_is_task(pid, folder) for pid in _numbers())


def is_orphaned(folder: StudyFolder, manifest: Manifest) -> bool:
    """Whether tasks of a submission run on this machine although their queue process has died."""
    path = folder.submission(manifest.id)
    if manifest.executor != LocalExecutor.name or manifest.host != host_name():
        return False
    return not is_alive(path) and has_orphans(path)


def _numbers() -> Iterator[int]:
    """Of the processes of this machine; none where /proc does not tell (macOS)."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        names = []
    return (int(name) for name in names if name.isdigit())


def _is_task(pid: int, folder: Path) -> bool:
    """`python -u -m submitit.core._submit FOLDER`, whatever path the folder was named by."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if len(words) < 2 or words[-2] != TASK:
            return False
        named = Path(os.fsdecode(words[-1]))
        return named.name == folder.name and named.samefile(folder)
    except OSError:
        return False
