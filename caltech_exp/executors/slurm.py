"""The executor of Slurm, and how jobs in its queue are recognised as those of a study."""

import contextlib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from caltech_exp.cli import UserError, did_you_mean
from caltech_exp.executors.executor import Executor, StudyJob, SubmissionJobs, SubmissionRecord, Task, open_tasks
from caltech_exp.executors.sbatch_errors import NODE_REFUSAL, RefusedError, UncertainError
from caltech_exp.executors.slurm_queries import EndedJob, NoAnswerError, QueuedJob, Slurm, grouped
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.profiles.sbatch_options import TRAINING_ONLY, cpu_profile, variables_line
from caltech_exp.provenance import Snapshot
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import COMMENT, Manifest, SinglePart, SubmittedTask, job_comment, record_cancelled

# Accounting's name for a job in the first seconds after it was cancelled before it ran.
NOT_NAMED_YET = "allocation"
# How far the clocks of the machine that submitted and of Slurm's controller may be apart.
CLOCK_TOLERANCE = timedelta(minutes=10)
GPU_TYPE = re.compile(r"gpus?(?:-per-\w+)?[ :=]([A-Za-z][\w.-]*|\d+g\.\w+)")
"""The type in `gpu:a100:1` and `gpus-per-task a100:1`; it may be a part of a GPU, 1g.10gb."""


@dataclass(frozen=True)
class SlurmExecutor(Executor):
    """Slurm, through submitit. Its methods raise NoAnswerError if Slurm does not answer."""

    profile: SlurmProfile
    name = "slurm"
    place = "on Slurm"
    has_slots_per_array = True
    can_chain_jobs = True

    def for_section(self, section: str) -> "SlurmExecutor":
        return replace(self, profile=self.profile.for_section(section))

    @property
    def gpus_per_task(self) -> int:
        return self.profile.gpus if self.profile.device_type == "cuda" else 1

    @property
    def gpu_name(self) -> str:
        options = (f"gpu {self.profile.gpus_per_node}", self.profile.gres or "", *self.profile.gpu_options)
        return " ".join(name for option in options for name in GPU_TYPE.findall(option) if name != "None")

    @property
    def time_limit_seconds(self) -> float:
        return 60.0 * self.profile.time_minutes

    def with_time_limit(self, seconds: float) -> "SlurmExecutor":
        least = 2 * self.profile.signal_delay_seconds / 60
        minutes = 5 * math.ceil(max(least, seconds / 60) / 5)
        with contextlib.suppress(NoAnswerError):  # sbatch will tell
            minutes = min([minutes, *self.slurm.max_minutes(self.profile.partition)])
        return replace(self, profile=self.profile.model_copy(update={"time_minutes": minutes}))

    @property
    def requeues(self) -> bool:
        return not self.profile.sbatch.get("no-requeue")

    @property
    def excluded_nodes(self) -> str:
        return self.profile.exclude or ""

    def can_exclude(self, nodes: Mapping[str, int]) -> tuple[str, ...]:
        if not nodes:
            return ()
        features = re.fullmatch(r"[\w.-]+(&[\w.-]+)*", self.profile.constraint or "")  # others are not looked at
        names = features[0].split("&") if features else []
        try:
            usable = self.slurm.usable_nodes(self.profile.partition, names, gpu=self.profile.gives_gpus)
            excluded = self.slurm.node_names(self.profile.exclude or "")
        except NoAnswerError:
            return tuple(nodes)
        usable = [node for node in usable if node not in excluded]
        if not usable or not nodes.keys() >= {*usable}:
            return tuple(nodes)
        best = min(usable, key=lambda node: nodes[node])
        return tuple(node for node in nodes if node != best)

    def excluding(self, nodes: Sequence[str]) -> "SlurmExecutor":
        names = dict.fromkeys([*filter(None, [self.profile.exclude]), *nodes])
        return replace(self, profile=self.profile.model_copy(update={"exclude": ",".join(names) or None}))

    def check(self, folder: StudyFolder) -> None:
        bad = sorted(set("%\\\n\r") & set(str(folder.path)))
        if bad:
            raise UserError(
                f"runs folder {str(folder.path)!r}: Slurm does not take {' or '.join(map(repr, bad))} in log "
                "paths; use another name"
            )
        given = {"": self.profile.partition, "cpu_jobs.": self.profile.cpu_jobs.partition}
        given |= {f"sections.{name}.": resources.partition for name, resources in self.profile.sections.items()}
        known: list[str] = []
        if any(given.values()):
            with contextlib.suppress(NoAnswerError):  # sbatch will tell
                known = self.slurm.partitions()
        for place, names in given.items() if known else ():
            if unknown := [name for name in (names or "").split(",") if name and name not in known]:
                raise UserError(
                    f"{place}partition={names} in the profile: Slurm has no partition {unknown[0]!r}"
                    f"{did_you_mean(unknown[0], known)}"
                )

    def describe_environment(self) -> str:
        return variables_line(self.profile)

    def max_tasks(self) -> tuple[int, int | None]:
        most, room = self.slurm.max_tasks(self.profile.account, self.profile.qos)
        return min(most, self.profile.max_array_size or most), room

    def submit(self, jobs: SubmissionJobs, record: SubmissionRecord, snapshot: Snapshot) -> None:
        try:
            self._submit(jobs, record, snapshot)
        except UncertainError:
            raise
        except BaseException:
            preparation = record.manifest.preparation
            if preparation and not record.has_runs_or_report:
                with contextlib.suppress(UserError):
                    self.slurm.cancel([preparation.job])
            raise

    def _submit(self, jobs: SubmissionJobs, record: SubmissionRecord, snapshot: Snapshot) -> None:
        """First the job that makes packs, then the arrays that wait for it, then the report after all of them."""
        if jobs.preparation:
            with record.queueing("preparation"):
                try:
                    self._queue(record, "preparation", [jobs.preparation], (), snapshot)
                except RefusedError as error:
                    where = "cpu_jobs in the profile says where jobs without a GPU run"
                    print(f"{error} ({where}); the first run decodes the images")
                    record.set_jobs("preparation", ())
        preparation = record.manifest.preparation
        pack_jobs = [*jobs.pack_jobs, *([preparation.job] if preparation else [])]
        for number, (tasks, profile) in enumerate(zip(jobs.arrays, jobs.profiles, strict=True)):
            assert isinstance(profile, SlurmProfile)
            training = replace(self, profile=profile).excluding(jobs.excluded_nodes)
            with record.queueing(number):
                try:
                    training._queue(record, number, tasks, pack_jobs, snapshot)
                except RefusedError as error:
                    if not jobs.excluded_nodes or not NODE_REFUSAL.search(str(error)):
                        raise
                    nodes = ",".join(jobs.excluded_nodes)
                    hint = f"nodes excluded because runs failed there: {nodes}; avoid_nodes=false uses them"
                    raise RefusedError(f"{error}; {hint}") from None
        if jobs.aggregation:
            arrays = (task.job.partition("_")[0] for task in record.manifest.tasks)
            after = tuple(dict.fromkeys((*arrays, *jobs.dependencies)))
            with record.queueing("aggregation"):
                self._queue(record, "aggregation", [jobs.aggregation], after, snapshot)

    def _queue(
        self,
        record: SubmissionRecord,
        part: int | SinglePart,
        tasks: Sequence[Task],
        after: Sequence[str],
        snapshot: Snapshot,
    ) -> None:
        from caltech_exp.executors.sbatch import BatchJob, queue_array  # imports submitit, which planning does not

        manifest, profile = record.manifest, self.profile
        unset: tuple[str, ...] = ()
        if isinstance(part, int):
            name = manifest.job_names[part]
        else:
            single = manifest.single(part)
            assert single
            name, profile, unset = single.name, cpu_profile(profile), TRAINING_ONLY
        job = BatchJob(name, job_comment(manifest.id, part), tasks, record.path, part, after, unset)
        record.set_jobs(part, queue_array(job, profile, snapshot))

    def queued(
        self, folder: StudyFolder, manifests: Sequence[Manifest], done: Collection[str] | None = None
    ) -> list[StudyJob]:
        own = [manifest for manifest in manifests if manifest.executor == self.name]
        parts: tuple[SinglePart, ...] = ("preparation", "aggregation") if done is None else ("preparation",)
        tasks = {manifest.id: open_tasks(folder, manifest, done) for manifest in own}
        if done is not None:
            own = [manifest for manifest in own if tasks[manifest.id]]
        names = {name for manifest in own for name in manifest.job_names}
        names |= {single.name for manifest in own for part in parts if (single := manifest.single(part))}
        index = index_jobs(own, names, self.slurm)
        jobs = []
        for manifest in own:
            for part in parts:
                if job := index.of_single(manifest, part):
                    jobs.append(StudyJob(job, manifest, part))
            for task in tasks[manifest.id]:
                if job := index.of_task(manifest, task):
                    jobs.append(StudyJob(job, manifest, "training", task.runs))
        return jobs

    def ended(
        self, folder: StudyFolder, tasks: Collection[tuple[Manifest, SubmittedTask]]
    ) -> dict[tuple[str, str], EndedJob]:
        tasks = [(manifest, task) for manifest, task in tasks if manifest.executor == self.name]
        jobs = self.slurm.ended_jobs({task.job for _, task in tasks}) if tasks else {}
        return {
            (manifest.id, task.job): job
            for manifest, task in tasks
            if (job := jobs.get(task.job)) and _is_of(manifest, task, job)
        }

    def submitit_id(self, folder: StudyFolder, manifest: Manifest, job: str) -> str:
        return job

    def locate(self, jobs: Sequence[StudyJob]) -> str:
        return f"{self.place}: {', '.join(grouped([job.job.id for job in jobs]))}"

    def dependencies(self, jobs: Iterable[StudyJob]) -> tuple[str, ...]:
        own = (job for job in jobs if job.part == "training" and job.manifest.executor == self.name)
        return tuple(dict.fromkeys(job.job.array for job in own))

    def cancel(self, folder: StudyFolder, jobs: Sequence[StudyJob], wait_seconds: float = 0) -> list[StudyJob]:
        own = [job for job in jobs if job.manifest.executor == self.name]
        if own:
            self.slurm.cancel([job.job.id for job in own])
        for submission in {job.manifest.id for job in own}:
            ids = [job.job.id for job in own if job.manifest.id == submission]
            with contextlib.suppress(OSError):  # accounting may tell it too
                record_cancelled(folder.submission(submission), ids)
        return []


def _is_of(manifest: Manifest, task: SubmittedTask, job: EndedJob) -> bool:
    """Whether an accounting record belongs to this task. A reinstalled cluster starts its job ids at 1 again."""
    if job.name not in (manifest.job_names[task.array], NOT_NAMED_YET):
        return False
    try:
        return job.submitted is None or job.submitted >= datetime.fromisoformat(manifest.created) - CLOCK_TOLERANCE
    except (ValueError, TypeError):  # a time that cannot be read, or without its time zone
        return True


class JobIndex:
    """The jobs in the queue, found by what a manifest records. Only jobs of its user and of its names count.

    A job is found by its id and comment. Failing that by the comment, which no other submission has, and which is
    there too if the submitting process died before it knew the id. Failing that, at a site that replaces comments,
    by id and name. An id alone proves nothing: a reinstalled cluster starts its job ids at 1 again.
    """

    def __init__(self, jobs: Iterable[QueuedJob]) -> None:
        self._by_id: dict[tuple[int, str, str], QueuedJob] = {}
        self._by_comment: dict[tuple[int, str, str, int], QueuedJob] = {}
        for job in jobs:
            self._by_comment[job.uid, job.name, job.comment, job.index] = job
            self._by_id[job.uid, job.name, job.id] = job

    def of_task(self, manifest: Manifest, task: SubmittedTask) -> QueuedJob | None:
        """The job of a task of the manifest."""
        name, comment = manifest.job_names[task.array], job_comment(manifest.id, task.array)
        return self._find(manifest, name, comment, task.index, task.job)

    def of_single(self, manifest: Manifest, part: SinglePart) -> QueuedJob | None:
        """The job that makes packs, or the report, for the manifest."""
        single = manifest.single(part)
        return self._find(manifest, single.name, job_comment(manifest.id, part), 0, single.job) if single else None

    def _find(self, manifest: Manifest, name: str, comment: str, index: int, job_id: str) -> QueuedJob | None:
        by_id = self._by_id.get((manifest.owner, name, job_id))
        if by_id and by_id.comment == comment:
            return by_id
        by_comment = self._by_comment.get((manifest.owner, name, comment, index))
        if by_comment:
            return by_comment
        return by_id if by_id and not by_id.comment.startswith(COMMENT) else None


def index_jobs(manifests: Sequence[Manifest], names: Collection[str], slurm: Slurm) -> JobIndex:
    """The jobs of these names that the manifests' users have in the queue. Without a name Slurm is not asked."""
    uids = {manifest.owner for manifest in manifests}
    return JobIndex(slurm.queued_jobs(names, uids) if names else ())
