"""What was submitted into a study: which job trains which runs, by which command and code."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from caltech_exp.bootstrap import user_name
from caltech_exp.files import look_again
from caltech_exp.provenance import CodeVersion
from caltech_exp.record import StrictRecord
from caltech_exp.results import Damaged, read_record, write_record
from caltech_exp.study import StudySettings

SUBMISSIONS = "submissions"
MANIFEST = "manifest.json"
FileName = Annotated[str, StringConstraints(pattern=r"^[^/\x00]+$", max_length=255)]


class SubmittedTask(StrictRecord):
    """One task and the runs it trains in order.

    array, index  its place: which array of the submission, which task of that
    job           `1234_0`, or `local-0` on this machine; empty between writing it down and hearing from sbatch
    """

    array: int = Field(ge=0)
    index: int = Field(ge=0)
    job: str
    runs: tuple[FileName, ...]


SinglePart = Literal["preparation", "aggregation"]


class SingleJob(StrictRecord):
    """A job of a submission that trains nothing: its name in squeue, and its id as in SubmittedTask."""

    name: str
    job: str = ""


class PreparationJob(SingleJob):
    """The job that decodes images first: `packs` are the files that it makes."""

    packs: tuple[str, ...] = ()


class AggregationJob(SingleJob):
    """The job that writes the report into the folder `report`."""

    report: str


class Manifest(StrictRecord):
    """One submission: what was queued, where, by which command and code.

    tasks       on record from just before sbatch is called for their array; what is not here was never submitted
    preparation, aggregation  the jobs before and after its arrays, where it has them
    user, uid   who submitted, by name and number; a manifest of before these were recorded is its file's owner's
    """

    schema_version: Literal[1] = 1
    id: str
    executor: Literal["slurm", "local"]
    job_names: tuple[str, ...]
    tasks: tuple[SubmittedTask, ...]
    preparation: PreparationJob | None = None
    aggregation: AggregationJob | None = None
    settings: StudySettings
    seeds: tuple[int, ...]
    profile: dict[str, Any]
    command: tuple[str, ...]
    code: CodeVersion
    host: str
    created: str
    user: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=255)] = ""
    uid: int | None = Field(default=None, ge=0, lt=2**32)

    @property
    def is_own(self) -> bool:
        """Whether the user of this process submitted it."""
        return self.uid in (None, os.geteuid())

    @property
    def user_name(self) -> str:
        """Who submitted, in words."""
        return self.user or user_name(os.geteuid() if self.uid is None else self.uid)

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


def write_manifest(runs: Path, manifest: Manifest) -> None:
    write_record(runs / SUBMISSIONS / manifest.id, MANIFEST, manifest)


def read_manifests(runs: Path) -> list[Manifest | Damaged]:
    """Every submission into the study, oldest first, each with who submitted it."""
    paths = look_again(lambda: sorted((runs / SUBMISSIONS).glob(f"*/{MANIFEST}")))
    found = (_read_manifest(path) for path in paths)
    return [manifest for manifest in found if manifest is not None]


def _read_manifest(path: Path) -> Manifest | Damaged | None:
    manifest = read_record(path, Manifest)
    if not isinstance(manifest, Manifest) or manifest.uid is not None:
        return manifest
    try:
        uid = look_again(path.stat).st_uid
    except FileNotFoundError:  # removed since it was read
        return None
    except OSError as error:
        return Damaged(path, error.strerror or str(error))
    return manifest.model_copy(update={"uid": uid, "user": user_name(uid)})
