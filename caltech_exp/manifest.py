"""What was submitted into a study: which job trains which runs, by which command and code."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

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


class AggregationJob(SingleJob):
    """The job that writes the report into the folder `report`."""

    report: str


class Manifest(StrictRecord):
    """One submission: what was queued, where, by which command and code.

    preparation, aggregation  the jobs before and after its arrays, where it has them
    """

    schema_version: Literal[1] = 1
    id: str
    executor: Literal["slurm", "local"]
    job_names: tuple[str, ...]
    tasks: tuple[SubmittedTask, ...]
    preparation: SingleJob | None = None
    aggregation: AggregationJob | None = None
    settings: StudySettings
    seeds: tuple[int, ...]
    profile: dict[str, Any]
    command: tuple[str, ...]
    code: CodeVersion
    host: str
    created: str

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
    """Every submission into the study, oldest first."""
    found = (read_record(path, Manifest) for path in sorted((runs / SUBMISSIONS).glob(f"*/{MANIFEST}")))
    return [manifest for manifest in found if manifest is not None]
