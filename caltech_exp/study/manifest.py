"""What was submitted into a study: which job trains which runs, by which command and code."""

import os
import re
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from caltech_exp.bootstrap import look_again, user_name
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import (
    Corrupt,
    FileName,
    HostName,
    JobId,
    PlainName,
    RecordedPath,
    StrictRecord,
    read_record,
)
from caltech_exp.study.study import StudySettings

SUBMISSIONS = "submissions"
MANIFEST = "manifest.json"
LOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,200}\.(out|err|log)")
JobName = Annotated[str, StringConstraints(pattern=r"^[^,\x00-\x1f\x7f]+$", max_length=1024)]
"""As squeue is asked for it, between commas."""


class SubmittedTask(StrictRecord):
    """One task and the runs it trains in order.

    array, index  its place: which array of the submission, which task of that
    job           `1234_0`, or `local-0` on this machine; empty between writing it down and hearing from sbatch
    """

    array: int = Field(ge=0)
    index: int = Field(ge=0)
    job: JobId
    runs: tuple[FileName, ...]


SinglePart = Literal["preparation", "aggregation"]


class SingleJob(StrictRecord):
    """A job of a submission that trains nothing: its name in squeue, and its id as in SubmittedTask."""

    name: JobName
    job: JobId = ""


class PreparationJob(SingleJob):
    """The job that decodes images first: `packs` are the files that it makes."""

    packs: tuple[str, ...] = ()


class AggregationJob(SingleJob):
    """The job that writes the report into the folder `report`."""

    report: RecordedPath


class Manifest(StrictRecord):
    """One submission: what was queued, where, by which command and code.

    id  the name of its folder
    tasks       on record from just before sbatch is called for their array; what is not here was never submitted
    preparation, aggregation  the jobs before and after its arrays, where it has them
    user, uid   who submitted, by name and number; a manifest of before these were recorded is its file's owner's
    """

    schema_version: Literal[1] = 1
    id: PlainName
    executor: Literal["slurm", "local"]
    job_names: tuple[JobName, ...]
    tasks: tuple[SubmittedTask, ...]
    preparation: PreparationJob | None = None
    aggregation: AggregationJob | None = None
    settings: StudySettings
    seeds: tuple[int, ...]
    profile: dict[str, Any]
    command: tuple[str, ...]
    code: CodeVersion
    host: HostName
    created: str
    user: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=255)] = ""
    uid: int | None = Field(default=None, ge=0, lt=2**32)

    @property
    def owner(self) -> int:
        """The number of the user who submitted it: this process's for one that is not written yet."""
        return os.geteuid() if self.uid is None else self.uid

    @property
    def is_own(self) -> bool:
        """Whether the user of this process submitted it."""
        return self.owner == os.geteuid()

    @property
    def user_name(self) -> str:
        """Who submitted, in words."""
        return self.user or user_name(self.owner)

    def single(self, part: SinglePart) -> SingleJob | None:
        """The job that prepares or aggregates, if the submission has one."""
        return self.preparation if part == "preparation" else self.aggregation

    @property
    def all_names(self) -> set[str]:
        """Every name that a job of the submission has in squeue."""
        singles = (self.preparation, self.aggregation)
        return {*self.job_names, *(single.name for single in singles if single)}

    @model_validator(mode="after")
    def _every_task_has_its_array(self) -> "Manifest":
        if any(task.array >= len(self.job_names) for task in self.tasks):
            raise ValueError("a task is of an array that the submission does not have")
        return self


COMMENT = "caltech_exp "
"""How the comment of every job of a study begins."""


def job_comment(submission: str, part: int | SinglePart) -> str:
    """What the jobs of an array, or a single job, carry in squeue's comment: they are found without their ids."""
    return f"{COMMENT}{submission}/{part}"


def read_manifests(runs: Path) -> list[Manifest | Corrupt]:
    """Every submission into the study, oldest first, each with who submitted it.

    One whose id is not its folder's name is Corrupt.
    """
    paths = look_again(lambda: sorted((runs / SUBMISSIONS).glob(f"*/{MANIFEST}")))
    found = (_read_manifest(path) for path in paths)
    return [manifest for manifest in found if manifest is not None]


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


def recorded_log(runs: Path, submission: str, log: str) -> Path | None:
    """The log that a record names: the file of that name in the submission's folder, wherever the study lies now.

    None if it is no log's name. Any user who may write a record could name any file.
    """
    name = PurePath(log).name
    return runs / SUBMISSIONS / submission / name if LOG.fullmatch(name) else None
