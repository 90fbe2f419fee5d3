"""The manifest of a submission: which seeds it asks for, and which job trains which runs, by which code."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator

from caltech_exp.bootstrap import look_again, user_name
from caltech_exp.config import split_run_id
from caltech_exp.files import write_atomically
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import (
    Corrupt,
    Count,
    FileName,
    HostName,
    JobId,
    PlainName,
    RecordedPath,
    Seed,
    StrictRecord,
    Time,
    read_record,
)
from caltech_exp.study.study import RUN_FOLDER, StudySettings

SUBMISSIONS = "submissions"
MANIFEST = "manifest.json"
CANCELLED = "cancelled.json"
CANCEL_REASON = "cancel_reason.json"
PUBLISHED = "published.json"
LOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,200}\.(out|err|log)")
# squeue takes several, separated by commas.
JobName = Annotated[str, StringConstraints(pattern=r"^[^,\x00-\x1f\x7f]+$", max_length=1024)]


def config_ids(runs: Iterable[str]) -> set[str]:
    """The configurations of runs, by the runs' ids; other names are skipped."""
    return {split_run_id(run)[0] for run in runs if RUN_FOLDER.fullmatch(run)}


class PublishedSeeds(BaseModel):
    """The seeds in published.json, whose other fields are those of reporting.published.Published.

    seeds     all seeds of the study
    requests  configuration id -> the seeds that were asked for; records of older versions lack them
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    seeds: tuple[Seed, ...] = ()
    requests: dict[FileName, tuple[Seed, ...]] = Field(default_factory=dict)

    def asked(self, configs: Iterable[str]) -> Mapping[str, tuple[int, ...]]:
        """Its requests; in a record without, all its seeds for these configurations."""
        return self.requests or dict.fromkeys(configs if self.seeds else (), self.seeds)


class SubmittedTask(StrictRecord):
    """A task and the runs it trains in order.

    array, index  the number of its array in the submission, and its place in the array
    job           `1234_0`, or `local-0` on this machine; empty until sbatch has named it
    """

    array: Count
    index: Count
    job: JobId
    runs: tuple[FileName, ...]


SinglePart = Literal["preparation", "aggregation"]


class SingleJob(StrictRecord):
    """A job of a submission that trains nothing; name and id as squeue shows them."""

    name: JobName
    job: JobId = ""


class PreparationJob(SingleJob):
    """The job that decodes images before the runs; `packs` are the files that it makes."""

    packs: tuple[str, ...] = ()


class AggregationJob(SingleJob):
    """The job that writes the report into the folder `report` after the runs."""

    report: RecordedPath


class Manifest(StrictRecord):
    """A submission.

    id         the name of its folder
    tasks      recorded just before sbatch is called for their array; a task that is not here was never submitted
    seeds      of all its requests together
    requests   configuration id -> the seeds that it asks for; manifests of older versions lack them
    again      whether its runs have results already and are trained once more, to see that they are reproduced
    user, uid  who submitted; manifests of older versions lack them and belong to their file's owner
    cluster    the name of the Slurm cluster; empty on a machine, and in manifests of older versions
    """

    schema_version: Literal[1] = 1
    id: PlainName
    executor: Literal["slurm", "local"]
    job_names: tuple[JobName, ...]
    tasks: tuple[SubmittedTask, ...]
    preparation: PreparationJob | None = None
    aggregation: AggregationJob | None = None
    settings: StudySettings
    seeds: tuple[Seed, ...]
    requests: dict[FileName, tuple[Seed, ...]] = Field(default_factory=dict)
    again: bool = False
    profile: dict[str, Any]
    command: tuple[str, ...]
    code: CodeVersion
    host: HostName
    cluster: HostName = ""
    created: Time
    user: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=255)] = ""
    uid: int | None = Field(default=None, ge=0, lt=2**32)

    @property
    def asked(self) -> Mapping[str, tuple[int, ...]]:
        """Its requests; in a manifest without, all its seeds for the configurations whose runs it trains."""
        runs = (run for task in self.tasks for run in task.runs)
        return self.requests or dict.fromkeys(config_ids(runs), self.seeds)

    @property
    def owner(self) -> int:
        """The uid of the user who submitted it; this process's for a manifest that is not written yet."""
        return os.geteuid() if self.uid is None else self.uid

    @property
    def is_own(self) -> bool:
        return self.owner == os.geteuid()

    @property
    def user_name(self) -> str:
        return self.user or user_name(self.owner)

    def single(self, part: SinglePart) -> SingleJob | None:
        return self.preparation if part == "preparation" else self.aggregation

    @property
    def all_names(self) -> set[str]:
        """Every name that a job of the submission has in squeue."""
        singles = (self.preparation, self.aggregation)
        return {*self.job_names, *(single.name for single in singles if single)}

    @model_validator(mode="after")
    def _every_task_has_its_array(self) -> "Manifest":
        if any(task.array >= len(self.job_names) for task in self.tasks):
            raise ValueError("a task names an array that the submission does not have")
        return self


# The comment of every job of a study begins with it.
COMMENT = "caltech_exp "


def job_comment(submission: str, part: int | SinglePart) -> str:
    """The comment of the jobs of an array, or of a single job, in squeue: it finds them without their ids."""
    return f"{COMMENT}{submission}/{part}"


def read_manifests(runs: Path) -> list[Manifest | Corrupt]:
    """The manifests of all submissions, oldest first, with their users."""
    paths = look_again(lambda: sorted((runs / SUBMISSIONS).glob(f"*/{MANIFEST}")))
    manifests = (_read_manifest(path) for path in paths)
    return [manifest for manifest in manifests if manifest is not None]


def _read_manifest(path: Path) -> Manifest | Corrupt | None:
    manifest = read_record(path, Manifest)
    if isinstance(manifest, Manifest) and manifest.id != path.parent.name:
        return Corrupt(path, f"holds submission {manifest.id}, not {path.parent.name}")
    if not isinstance(manifest, Manifest) or manifest.uid is not None:
        return manifest
    try:
        uid = look_again(path.stat).st_uid
    except FileNotFoundError:  # removed since it was read
        return None
    except OSError as error:
        return Corrupt(path, error.strerror or str(error))
    return manifest.model_copy(update={"uid": uid, "user": user_name(uid)})


class _CancelledJobs(RootModel[frozenset[JobId]]):
    """cancelled.json: the ids of the jobs of a submission that its user cancelled."""


class _CancelReason(RootModel[str]):
    """cancel_reason.json: why a task has cancelled the jobs of its submission."""


def record_cancelled(folder: Path, jobs: Collection[str], reason: str = "") -> None:
    """Record that these jobs of the submission in `folder` were cancelled, by a task for a reason. OSError."""
    write_atomically(folder / CANCELLED, json.dumps(sorted({*jobs, *cancelled_jobs(folder)})))
    if reason and jobs:
        write_atomically(folder / CANCEL_REASON, json.dumps(reason))


def cancel_reason(folder: Path) -> str:
    """Why the jobs of a submission were cancelled, if no user did it."""
    reason = read_record(folder / CANCEL_REASON, _CancelReason)
    return reason.root if isinstance(reason, _CancelReason) else ""


def cancelled_jobs(folder: Path) -> frozenset[str]:
    """The jobs of a submission that were cancelled; none if the file is damaged, which is then replaced."""
    jobs = read_record(folder / CANCELLED, _CancelledJobs)
    return jobs.root if isinstance(jobs, _CancelledJobs) else frozenset()


def cancelled_runs(runs: Path, manifests: Sequence[Manifest]) -> dict[str, str]:
    """Run id -> its last submission, for every run whose job in that submission was cancelled."""
    jobs = {manifest.id: cancelled_jobs(runs / SUBMISSIONS / manifest.id) for manifest in manifests}
    last = {run: (manifest.id, task.job) for manifest in manifests for task in manifest.tasks for run in task.runs}
    return {run: submission for run, (submission, job) in last.items() if job in jobs[submission]}


def read_published_seeds(runs: Path) -> PublishedSeeds:
    """What the record of a published study in the folder says; nothing if there is none that can be read."""
    record = read_record(runs / PUBLISHED, PublishedSeeds)
    return record if isinstance(record, PublishedSeeds) else PublishedSeeds()


def recorded_log(runs: Path, submission: str, log: str) -> Path | None:
    """The log that a record names: the file of that name in the submission's folder, wherever the study is now.

    None if there is no such file, or the name is no log's: any user who may write a record could name any file.
    """
    path = runs / SUBMISSIONS / submission / PurePath(log).name
    return path if LOG.fullmatch(path.name) and os.access(path, os.F_OK) else None
