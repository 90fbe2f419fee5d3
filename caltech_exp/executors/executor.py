"""Where jobs run: on Slurm or in a queue on this machine. Only the executors know which of the two it is."""

import contextlib
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from caltech_exp.bootstrap import look_again
from caltech_exp.executors.slurm_queries import EndedJob, QueuedJob, Slurm
from caltech_exp.machine import host_name
from caltech_exp.profiles.profile import LocalProfile, Profile, SlurmProfile
from caltech_exp.provenance import Snapshot
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SinglePart, SubmittedTask
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import RESULT, again_folder

Task = Callable[[], None]


@dataclass(frozen=True)
class JobArray:
    """Tasks that are queued together, each a group of runs of one section; squeue shows `name`.

    executor  with what its tasks ask for; None: that of the submission
    """

    name: str
    tasks: tuple[tuple[PlannedRun, ...], ...]
    executor: "Executor | None" = None


@dataclass(frozen=True)
class StudyJob:
    """A job of a study that is in a queue; `runs` are the ones it trains."""

    job: QueuedJob
    manifest: Manifest
    part: Literal["training"] | SinglePart
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmissionJobs:
    """The jobs of one submission, whose names and runs are in its manifest.

    arrays          the tasks of each array
    profiles        what the tasks of each array ask for
    preparation     decodes images before the arrays start
    aggregation     writes the report after the arrays
    pack_jobs       ids of jobs in the queue that the arrays wait for too
    dependencies    what the report waits for too, as Executor.dependencies gives it
    excluded_nodes  nodes that the arrays avoid
    """

    arrays: tuple[tuple[Task, ...], ...] = ()
    profiles: tuple[Profile, ...] = ()
    preparation: Task | None = None
    aggregation: Task | None = None
    pack_jobs: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    excluded_nodes: tuple[str, ...] = ()


class SubmissionRecord:
    """The manifest on disk of a submission that is being queued.

    A part is recorded before its jobs are queued, so that whoever finds the jobs can tell what they are. What is
    not recorded was never submitted.

    planned   the whole manifest
    manifest  what is queued of it, and what is just being queued
    """

    def __init__(self, folder: StudyFolder, planned: Manifest) -> None:
        self.folder = folder
        self.planned = planned
        self.manifest = planned.model_copy(update={"tasks": (), "preparation": None, "aggregation": None})

    @property
    def path(self) -> Path:
        """The folder of the submission."""
        return self.folder.submission(self.planned.id)

    @property
    def has_runs_or_report(self) -> bool:
        return bool(self.manifest.tasks or self.manifest.aggregation)

    @contextlib.contextmanager
    def queueing(self, *parts: int | SinglePart) -> Iterator[None]:
        """Record these parts, an array by its number, while the block queues them and calls `set_jobs`.

        Ctrl-C counts once the ids are recorded. If the block fails, `manifest` loses the parts. The file
        keeps them, because their jobs may already be queued.
        """
        before = self.manifest
        tasks = [task for task in self.planned.tasks if task.array in parts]
        singles = {str(part): self.planned.single(part) for part in parts if not isinstance(part, int)}
        recorded = before.model_copy(update={"tasks": (*before.tasks, *tasks), **singles})
        self.folder.write_manifest(recorded)
        with _ignored_signals():
            self.manifest = recorded
            try:
                yield
            except BaseException:
                self.manifest = before
                raise
            if self.manifest != recorded:
                self.folder.write_manifest(self.manifest)

    def set_jobs(self, part: int | SinglePart, ids: Sequence[str]) -> None:
        """The ids of the jobs of a part, in order; no ids if its job was not queued."""
        if isinstance(part, int):
            tasks = [
                task.model_copy(update={"job": ids[task.index]}) if task.array == part else task
                for task in self.manifest.tasks
            ]
            self.manifest = self.manifest.model_copy(update={"tasks": tuple(tasks)})
        elif single := self.manifest.single(part):
            job = single.model_copy(update={"job": ids[0]}) if ids else None
            self.manifest = self.manifest.model_copy(update={part: job})


@contextlib.contextmanager
def _ignored_signals() -> Iterator[None]:
    """Ignore a closed terminal and SIGTERM, and put Ctrl-C off until the end, here and in child processes."""
    numbers = (signal.SIGHUP, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Executor(ABC):
    """A queue, and a profile that says how jobs are submitted to it.

    name                 as in profiles and manifests
    place                where its jobs run, in words
    has_slots_per_array  whether `slots` tasks run of each array, or of all submissions together
    can_chain_jobs       whether a task can wait for a job of an earlier submission
    queue_process        what the files of the process that starts its tasks are called; empty if there is none
    """

    profile: Profile
    name: ClassVar[Literal["slurm", "local"]]
    place: ClassVar[str]
    has_slots_per_array: ClassVar[bool] = False
    can_chain_jobs: ClassVar[bool] = False
    queue_process: ClassVar[str] = ""

    @property
    def slurm(self) -> Slurm:
        """The Slurm commands; a study on this machine may have jobs on a cluster too."""
        return Slurm(self.profile.command_timeout_seconds)

    def for_section(self, section: str) -> "Executor":
        """The same executor, with what the profile says of the section's tasks."""
        return self

    @property
    def gpus_per_task(self) -> int:
        return 1

    @property
    def gpu_name(self) -> str:
        """What its tasks' GPUs are called, empty if any GPU will do."""
        return ""

    @property
    def time_limit_seconds(self) -> float | None:
        return None

    def with_time_limit(self, seconds: float) -> "Executor":
        """The same executor with another time limit, or the longest that its partition allows if that is less."""
        return self

    @property
    def requeues(self) -> bool:
        """Whether a task that reaches its time limit is queued again."""
        return False

    @property
    def excluded_nodes(self) -> str:
        """The nodes that its jobs avoid, as sbatch takes them; empty for none."""
        return ""

    def can_exclude(self, nodes: Mapping[str, int]) -> tuple[str, ...]:
        """Those of the nodes (node -> runs that failed there) without which its jobs can still run."""
        return tuple(nodes)

    def excluding(self, nodes: Sequence[str]) -> "Executor":
        """The same executor, whose jobs also avoid these nodes where it has nodes."""
        return self

    def check(self, folder: StudyFolder) -> None:
        """Raise UserError if jobs of a study in this folder could not run."""
        return

    def describe_environment(self) -> str:
        """A line on the options that environment variables add to those of the profile; empty for none."""
        return ""

    def emulates_bf16(self) -> bool:
        """Whether its tasks are known to compute in bf16 only by slow emulation."""
        return False

    def max_tasks(self) -> tuple[int | None, int | None]:
        """The most tasks an array may have, and the most that may be queued now; None for no limit."""
        return None, None

    @abstractmethod
    def submit(self, jobs: SubmissionJobs, record: SubmissionRecord, snapshot: Snapshot) -> None:
        """Queue the jobs and record them.

        If a job cannot be queued, this raises UserError. The runs and the report that `record` has then are
        queued, and a preparation without either is cancelled. After UncertainError, jobs that only the file
        records may be queued too.
        """

    @abstractmethod
    def queued(
        self, folder: StudyFolder, manifests: Sequence[Manifest], done: Collection[str] | None = None
    ) -> list[StudyJob]:
        """The jobs of its manifests that are in the queue; other executors' manifests are skipped.

        done  runs with a result: if given, only jobs that train other runs are looked for, and on Slurm the job
              that they wait for. Slurm is not asked if it was given no such run.
        """

    @abstractmethod
    def ended(
        self, folder: StudyFolder, tasks: Collection[tuple[Manifest, SubmittedTask]]
    ) -> dict[tuple[str, str], EndedJob]:
        """(submission, job id) -> how the job ended, for the tasks whose end is known."""

    @abstractmethod
    def submitit_id(self, folder: StudyFolder, manifest: Manifest, job: str) -> str:
        """The id by which submitit names the files of a job; empty if the job has not begun."""

    @abstractmethod
    def dependencies(self, jobs: Iterable[StudyJob]) -> tuple[str, ...]:
        """What a new job has to wait for so that its own training jobs among these have ended."""

    @abstractmethod
    def locate(self, jobs: Sequence[StudyJob]) -> str:
        """Where its jobs are, in words: `on Slurm: 12_[0-3]`."""

    @abstractmethod
    def cancel(self, folder: StudyFolder, jobs: Sequence[StudyJob], wait_seconds: float = 0) -> list[StudyJob]:
        """Cancel its own jobs among these, and return those that are still queued after the wait.

        Raises UserError if Slurm does not cancel them, OSError if the study cannot be written.
        """


def make_executor(profile: Profile) -> Executor:
    """The executor of a profile."""
    from caltech_exp.executors.local import LocalExecutor
    from caltech_exp.executors.slurm import SlurmExecutor

    return SlurmExecutor(profile) if isinstance(profile, SlurmProfile) else LocalExecutor(profile)


def executor_named(name: Literal["slurm", "local"], slurm: Slurm | None = None) -> Executor:
    """The executor of a manifest, with a default profile: enough to ask and to cancel."""
    if name == "local":
        return make_executor(LocalProfile(executor=name))
    seconds = (slurm or Slurm()).timeout_seconds
    return make_executor(SlurmProfile(executor=name, device="cpu", command_timeout_seconds=seconds))


def place_of(manifest: Manifest, slurm: Slurm) -> str:
    """The cluster or machine in whose queue a submission is; empty if it is this one's, or was not recorded."""
    here = slurm.cluster() if manifest.cluster else host_name()
    there = manifest.cluster or (manifest.host if manifest.executor == "local" else here)
    return there if there != here else ""


def all_executors(slurm: Slurm) -> list[Executor]:
    """An executor of each kind, to ask and to cancel whatever a study was submitted to."""
    return [executor_named("slurm", slurm), executor_named("local")]


def study_jobs(
    folder: StudyFolder, manifests: Sequence[Manifest], slurm: Slurm, done: Collection[str] | None = None
) -> list[StudyJob]:
    """The jobs of the manifests in all queues but other clusters', as Executor.queued gives them, oldest first."""
    manifests = [
        m for m in manifests if m.executor == "local" or not open_tasks(folder, m, done) or not place_of(m, slurm)
    ]
    jobs = [job for executor in all_executors(slurm) for job in executor.queued(folder, manifests, done)]
    return sorted(jobs, key=lambda job: job.manifest.id)


def open_tasks(folder: StudyFolder, manifest: Manifest, done: Collection[str] | None) -> list[SubmittedTask]:
    """The tasks that train a run which is not `done`; all of them for None.

    A task that trains its runs again is open until each has its second result.
    """
    if done is None:
        return list(manifest.tasks)
    if manifest.again:
        runs = (run for task in manifest.tasks for run in task.runs)
        done = {run for run in runs if look_again((again_folder(folder.run(run), manifest.id) / RESULT).exists)}
    return [task for task in manifest.tasks if any(run not in done for run in task.runs)]
