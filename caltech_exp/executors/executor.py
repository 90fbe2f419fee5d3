"""Where jobs run: on Slurm or in a queue on this machine. Only the executors know which of the two it is."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from caltech_exp.executors.slurm_queries import EndedJob, QueuedJob, Slurm
from caltech_exp.profiles.profile import LocalProfile, Profile, SlurmProfile
from caltech_exp.study.manifest import Manifest, SinglePart, SubmittedTask
from caltech_exp.study.plan import PlannedRun


@dataclass(frozen=True)
class JobArray:
    """Tasks that are queued together, each a group of runs of one section; squeue shows `name`."""

    name: str
    tasks: tuple[tuple[PlannedRun, ...], ...]


@dataclass(frozen=True)
class StudyJob:
    """A job of a study that is in a queue; `runs` are the ones it trains."""

    job: QueuedJob
    manifest: Manifest
    part: Literal["training"] | SinglePart
    runs: tuple[str, ...] = ()


class Executor(Protocol):
    """A queue, and a profile that says how jobs are submitted to it."""

    @property
    def name(self) -> Literal["slurm", "local"]:
        """As `executor` in profiles and manifests."""

    @property
    def place(self) -> str:
        """Where its jobs run, in words: `on Slurm`."""

    @property
    def profile(self) -> Profile: ...

    @property
    def slurm(self) -> Slurm:
        """The Slurm commands; a study on this machine may have jobs on a cluster too."""

    @property
    def slots(self) -> int:
        """How many tasks run at a time: of each array on Slurm, of all submissions together on this machine."""

    @property
    def has_slots_per_array(self) -> bool: ...

    @property
    def can_chain_jobs(self) -> bool:
        """Whether a task can wait for a job of an earlier submission."""

    @property
    def poll_seconds(self) -> float: ...

    @property
    def device_type(self) -> Literal["cuda", "cpu"]: ...

    @property
    def gpus_per_task(self) -> int: ...

    @property
    def time_limit_seconds(self) -> float | None: ...

    @property
    def requeues(self) -> bool:
        """Whether a task that reaches its time limit is queued again."""

    @property
    def queue_process(self) -> str:
        """What the files of the process that starts its tasks are called; empty if it has none of its own."""

    @property
    def excluded_nodes(self) -> str:
        """The nodes that its jobs avoid, as sbatch takes them; empty for none."""

    def excluding(self, nodes: Sequence[str]) -> "Executor":
        """The same executor, whose jobs also avoid these nodes where it has nodes."""

    def check(self) -> None:
        """Raise UserError if this machine lacks what the profile needs."""

    def describe_environment(self) -> str:
        """A line on the options that environment variables add to those of the profile; empty for none."""

    def emulates_bf16(self) -> bool:
        """Whether its tasks are known to compute in bf16 only by slow emulation."""

    def max_tasks(self) -> int | None:
        """The most tasks an array may have; None for no limit."""

    def queued(
        self, runs: Path, manifests: Sequence[Manifest], done: Collection[str] | None = None
    ) -> list[StudyJob]:
        """The jobs of its manifests that are in the queue; other executors' manifests are skipped.

        done  runs with a result: if given, only jobs that train other runs are looked for, and on Slurm the job
              that they wait for. Slurm is not asked if it was given no such run.
        """

    def ended(
        self, runs: Path, tasks: Collection[tuple[Manifest, SubmittedTask]]
    ) -> dict[tuple[str, str], EndedJob]:
        """(submission, job id) -> how the job ended, for the tasks of which that is known."""

    def submitit_id(self, runs: Path, manifest: Manifest, job: str) -> str:
        """The id by which submitit names the files of a job; empty if the job has not begun."""

    def locate(self, jobs: Sequence[StudyJob]) -> str:
        """Where these jobs of its own are, in words: `on Slurm: 12_[0-3]`."""

    def dependencies(self, jobs: Iterable[StudyJob]) -> tuple[str, ...]:
        """What a new job has to wait for until those of the training jobs that are its own have ended."""

    def cancel(self, runs: Path, jobs: Sequence[StudyJob], wait_seconds: float = 0) -> list[StudyJob]:
        """Cancel its own jobs among these; those that are still there after the wait.

        Raises UserError if Slurm does not do so, OSError if the study cannot be written.
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
    return make_executor(
        SlurmProfile(executor=name, device="cpu", command_timeout_seconds=(slurm or Slurm()).timeout_seconds)
    )


def all_executors(slurm: Slurm) -> list[Executor]:
    """An executor of each kind, to ask and to cancel whatever a study was submitted to."""
    return [executor_named("slurm", slurm), executor_named("local")]


def study_jobs(
    runs: Path, manifests: Sequence[Manifest], slurm: Slurm, done: Collection[str] | None = None
) -> list[StudyJob]:
    """The jobs of the manifests in all queues, as Executor.queued gives them, the oldest submission's first."""
    jobs = [job for executor in all_executors(slurm) for job in executor.queued(runs, manifests, done)]
    return sorted(jobs, key=lambda job: job.manifest.id)


def open_tasks(manifest: Manifest, done: Collection[str] | None) -> list[SubmittedTask]:
    """The tasks that train a run which is not `done`; all of them for None."""
    return [task for task in manifest.tasks if done is None or any(run not in done for run in task.runs)]
