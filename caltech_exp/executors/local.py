"""The executor of this machine: a queue process for each submission.

submitit's local executor starts all jobs at once. The queue process starts a task when a slot is free, first the
preparation and last the aggregation. While it lives it holds a lock on `queue.lock`, by which others know that it
does. It records the waiting and running tasks in `queue.json` and cancels those that `cancelled.json` names.

A process is identified by its command line, which names the submission's folder, since its number may be reused:
the number is pinned by a pidfd before the command line is read and the process is signalled.
"""

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from caltech_exp.child_environment import python_environment, start_problem
from caltech_exp.cli import UserError
from caltech_exp.executors.executor import Executor, StudyJob, SubmissionJobs, SubmissionRecord, Task, open_tasks
from caltech_exp.executors.slurm_queries import EndedJob, QueuedJob
from caltech_exp.files import closed_to_others, write_atomically
from caltech_exp.machine import computes_bf16, first_gpu_name, host_name, local_gpus
from caltech_exp.profiles.profile import LocalProfile
from caltech_exp.provenance import Snapshot
from caltech_exp.records import Corrupt, JobId, StrictRecord, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SingleJob, SinglePart, SubmittedTask, record_cancelled

LOCK = "queue.lock"
QUEUE = "queue.pkl"
STATE = "queue.json"
QUEUE_LOG = "queue.log"  # the output of the queue process itself
PREPARATION = "local-preparation"
AGGREGATION = "local-aggregation"


@dataclass(frozen=True)
class LocalQueue:
    """What a queue process runs.

    tasks        by name, in order; `slots` run at a time, each slot on a GPU of its own if there are any
    preparation  runs before all tasks, without a GPU
    aggregation  runs after all tasks and after the submissions in the folders `after`, without a GPU
    """

    tasks: dict[str, Task]
    slots: int
    gpus: tuple[str, ...]
    preparation: Task | None = None
    aggregation: Task | None = None
    after: tuple[Path, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all that it runs, in order."""
        first = [PREPARATION] if self.preparation else []
        return [*first, *self.tasks, *([AGGREGATION] if self.aggregation else [])]


def job_name(index: int) -> str:
    """The id of a task in the manifest."""
    return f"local-{index}"


def start_queue(folder: Path, queue: LocalQueue, snapshot: Snapshot) -> None:
    """Start the queue process, which runs the snapshot and outlives this process and its terminal.

    Raises OSError if `folder` cannot be written, UserError if it has no locks or Python cannot be started.
    """
    with closed_to_others():
        (folder / QUEUE).write_bytes(pickle.dumps(queue))
    write_state(folder, queue.names, {}, {})
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # The child inherits the open file and with it the lock, which is never without an owner.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{folder} is on a file system without locks ({error.strerror}), which a queue on this machine "
                "needs; use runs= on another disk"
            ) from None
        with (folder / QUEUE_LOG).open("ab") as log:
            command = snapshot.command("caltech_exp.executors.local_worker", str(folder))
            environment = {**python_environment(), "PYTHONSAFEPATH": "1"}
            try:
                subprocess.Popen(
                    [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                    start_new_session=True, pass_fds=(lock,),
                )  # fmt: skip
            except OSError as error:
                raise UserError(start_problem(sys.executable, error)) from None
    finally:
        os.close(lock)


def is_alive(folder: Path) -> bool:
    """Whether the queue process of a submission runs."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NONBLOCK)  # other users may only read
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two readers do not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


class _State(StrictRecord):
    """queue.json: names of tasks, and submitit's job id of each task that was started."""

    waiting: tuple[JobId, ...] = ()
    running: tuple[JobId, ...] = ()
    jobs: dict[JobId, JobId] = Field(default_factory=dict)


def queued_tasks(folder: Path) -> dict[str, Literal["queued", "running"]]:
    """Name -> state of the open tasks of a submission; empty once its queue process has ended."""
    if not is_alive(folder):
        return {}
    state = _read_state(folder)
    if isinstance(state, Corrupt):
        raise UserError(
            state.complaint(
                "the tasks in this machine's queue are unknown until its process writes the file again, which it "
                "does when a task begins or ends; try again then"
            )
        )
    waiting: dict[str, Literal["queued", "running"]] = dict.fromkeys(state.waiting, "queued")
    return {**waiting, **dict.fromkeys(state.running, "running")}


def submitit_jobs(folder: Path) -> dict[str, str]:
    """Name -> submitit's job id, which names the logs, of every task that is known to have started."""
    state = _read_state(folder)
    return {} if isinstance(state, Corrupt) else state.jobs


def write_state(folder: Path, waiting: Collection[str], running: Collection[str], jobs: dict[str, str]) -> None:
    """Write queue.json. Raises OSError."""
    state = _State(waiting=tuple(waiting), running=tuple(running), jobs=jobs)
    write_atomically(folder / STATE, state.model_dump_json())


def _read_state(folder: Path) -> _State | Corrupt:
    return read_record(folder / STATE, _State) or _State()


@dataclass(frozen=True)
class LocalExecutor(Executor):
    """A queue on this machine for each submission."""

    profile: LocalProfile
    name = "local"
    place = "on this machine"
    queue_process = "queue"

    @property
    def gpu_name(self) -> str:
        return first_gpu_name()

    def check(self, folder: StudyFolder) -> None:
        if self.profile.device == "cuda" and not local_gpus():
            raise UserError(
                "the profile asks for a GPU and this machine has none; use profile=local, or device: cpu in it"
            )

    def emulates_bf16(self) -> bool:
        return self.profile.device_type == "cpu" and not computes_bf16()

    def submit(self, jobs: SubmissionJobs, record: SubmissionRecord, snapshot: Snapshot) -> None:
        tasks = [(place / len(array), task) for array in jobs.arrays for place, task in enumerate(array)]
        # Sections take turns, so that each row has its first seed before any has its last.
        order = sorted(enumerate(tasks), key=lambda task: task[1][0])
        queue = LocalQueue(
            tasks={job_name(number): task for number, (_, task) in order},
            slots=self.profile.slots,
            gpus=() if self.profile.device == "cpu" else local_gpus(),
            preparation=jobs.preparation,
            aggregation=jobs.aggregation,
            after=tuple(record.folder.submission(submission) for submission in jobs.dependencies),
        )
        record.planned = _with_names(record.planned)  # the ids are known before the process starts
        with record.queueing(*range(len(jobs.arrays)), "preparation", "aggregation"):
            start_queue(record.path, queue, snapshot)

    def queued(
        self, folder: StudyFolder, manifests: Sequence[Manifest], done: Collection[str] | None = None
    ) -> list[StudyJob]:
        jobs = []
        for manifest in manifests:
            tasks = open_tasks(folder, manifest, done)
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
        return {}  # cancelled.json tells which were cancelled

    def submitit_id(self, folder: StudyFolder, manifest: Manifest, job: str) -> str:
        return submitit_jobs(folder.submission(manifest.id)).get(job, "")

    def locate(self, jobs: Sequence[StudyJob]) -> str:
        hosts = sorted({job.manifest.host for job in jobs})
        return self.place if hosts == [host_name()] else f"on {' and '.join(hosts)}"

    def dependencies(self, jobs: Iterable[StudyJob]) -> tuple[str, ...]:
        own = (job for job in jobs if job.part == "training" and job.manifest.executor == self.name)
        return tuple(dict.fromkeys(job.manifest.id for job in own))

    def cancel(self, folder: StudyFolder, jobs: Sequence[StudyJob], wait_seconds: float = 0) -> list[StudyJob]:
        open_jobs = [job for job in jobs if job.manifest.executor == self.name]
        submissions = {job.manifest.id: job.manifest for job in open_jobs}
        for submission in submissions:
            names = [job.job.id for job in open_jobs if job.manifest.id == submission]
            record_cancelled(folder.submission(submission), names)
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


TASK_MODULE = b"submitit.core._submit"


def end_orphans(folder: Path) -> int:
    """Send SIGTERM to the tasks of a submission; the number of processes that got it."""
    count = 0
    if not hasattr(os, "pidfd_open"):  # not Linux, where these tasks run
        return count
    for pid in _process_numbers():
        try:
            pinned = os.pidfd_open(pid)
        except OSError:  # it has ended, or an old kernel (before Linux 5.3)
            continue
        try:
            if _is_task(pid, folder):
                signal.pidfd_send_signal(pinned, signal.SIGTERM)
                count += 1
        except (OSError, ProcessLookupError):  # it has ended, or is another user's
            continue
        finally:
            os.close(pinned)
    return count


def has_orphans(folder: Path) -> bool:
    """Whether a task of the submission runs on this machine."""
    return any(_is_task(pid, folder) for pid in _process_numbers())


def is_orphaned(folder: StudyFolder, manifest: Manifest) -> bool:
    """Whether tasks of a submission run on this machine although their queue process has died."""
    path = folder.submission(manifest.id)
    if manifest.executor != LocalExecutor.name or manifest.host != host_name():
        return False
    return not is_alive(path) and has_orphans(path)


def _process_numbers() -> Iterator[int]:
    """The processes of this machine; none without /proc (macOS)."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        names = []
    return (int(name) for name in names if name.isdigit())


def _is_task(pid: int, folder: Path) -> bool:
    """Whether the process is `python -u -m submitit.core._submit FOLDER`, by whatever path to the folder."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if len(words) < 2 or words[-2] != TASK_MODULE:
            return False
        argument = Path(os.fsdecode(words[-1]))
        return argument.name == folder.name and argument.samefile(folder)
    except OSError:
        return False
