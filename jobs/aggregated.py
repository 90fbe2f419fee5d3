"""What the jobs of a submission that train nothing leave in its folder: how they ended, and why they failed."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from caltech_exp import errors
from caltech_exp.clock import utc_now
from caltech_exp.failures import one_line
from caltech_exp.record import JobId, RecordedPath, StrictRecord
from caltech_exp.results import write_record

if TYPE_CHECKING:
    import submitit

AGGREGATED = "aggregation.json"
PREPARED = "preparation.json"
LONGEST_REASON = 500


class Aggregated(StrictRecord):
    """How such a job ended; `reason` says in a line why it failed, `when` in UTC."""

    schema_version: Literal[1] = 1
    status: Literal["finished", "failed"]
    reason: str
    job: JobId
    log: RecordedPath
    when: str


def write_end(folder: Path, name: str, reason: str, environment: "submitit.JobEnvironment") -> None:
    """Leave on record how the job of `environment` ended: with `reason`, or well where that is empty.

    Where it cannot be written, the log still says it.
    """
    record = Aggregated(
        status="failed" if reason else "finished",
        reason=reason,
        job=environment.job_id,
        log=str(environment.paths.stdout),
        when=utc_now(),
    )
    with contextlib.suppress(OSError):
        write_record(folder, name, record)


def reason_of(error: Exception) -> str:
    """Why such a job failed, in one line."""
    from submitit.core.utils import UncompletedJobError  # not needed to read the record

    if isinstance(error, UncompletedJobError):
        return "it reached its time limit; give cpu_jobs in the profile more time_minutes"
    return errors.one_line(errors.shown(one_line(error), LONGEST_REASON))
