"""What became of the report job, and waiting for it."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caltech_exp.cli import UserError, one_line, shown
from caltech_exp.executors.executor import StudyJob, make_executor, study_jobs
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.logs import log_path, refusal
from caltech_exp.profiles.profile import Profile
from caltech_exp.records import Corrupt, JobId, RecordedPath, StrictRecord, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, Manifest, recorded_log

AGGREGATED = "aggregation.json"
PREPARED = "preparation.json"


class Aggregated(StrictRecord):
    """How such a job ended; `reason` says in a line why it failed, `when` in UTC."""

    schema_version: Literal[1] = 1
    status: Literal["finished", "failed"]
    reason: str
    job: JobId
    log: RecordedPath
    when: str


PAGE = "report.md"
MAX_PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 900.0
"""How long the queue may leave questions unanswered before waiting is given up."""
MOST_ABSENT = 2
"""How often a queue must not hold the job before it counts as gone: its record may be seen some seconds later."""


@dataclass(frozen=True)
class Aggregation:
    """One that a submission asked for.

    state  `queued` or `running` while a queue holds it, else empty
    job    its id
    queued  the job while a queue holds it
    ended  how it ended, where it told
    unread  why that record cannot be read, where it cannot
    """

    manifest: Manifest
    report: Path
    state: str
    job: str
    queued: StudyJob | None
    ended: Aggregated | None
    unread: str = ""


def aggregations(runs: Path, manifests: Sequence[Manifest], jobs: Sequence[StudyJob]) -> list[Aggregation]:
    """All that the manifests name, oldest first; `jobs` are those of the study that are in a queue."""
    in_queue = {found.manifest.id: found for found in jobs if found.part == "aggregation"}
    found = []
    for manifest in manifests:
        if manifest.aggregation is None:
            continue
        folder = runs / SUBMISSIONS / manifest.id
        queued = in_queue.get(manifest.id)
        record = read_record(folder / AGGREGATED, Aggregated)
        found.append(
            Aggregation(
                manifest=manifest,
                report=Path(manifest.aggregation.report),
                state=queued.job.state if queued else "",
                job=queued.job.id if queued else manifest.aggregation.job,
                queued=queued,
                ended=_refused(runs, manifest) if isinstance(record, Corrupt) or not record else record,
                unread=record.complaint("look at the log beside it") if isinstance(record, Corrupt) else "",
            )
        )
    return found


def _refused(runs: Path, manifest: Manifest) -> Aggregated | None:
    """How an aggregation ended that did not start: its snapshot is damaged, or a file is another user's."""
    single = manifest.aggregation
    why = refusal(runs, manifest, single) if single else None
    if single is None or why is None:
        return None
    log = str(log_path(runs, manifest, single) or "")
    reason = one_line(shown(why.reason, 500))
    return Aggregated(status="failed", reason=reason, job=why.job, log=log, when=why.when)


def report_line(runs: Path, manifests: Sequence[Manifest], slurm: Slurm) -> str:
    """How the last report that was asked for stands; empty if none was. Slurm is asked only while it is open.

    Raises UserError if Slurm is asked and does not answer.
    """
    asked = [manifest for manifest in manifests if manifest.aggregation][-1:]
    known = aggregations(runs, asked, ())
    if known and known[0].ended is None:
        known = aggregations(runs, asked, study_jobs(StudyFolder(runs), asked, slurm))
    return one_line(_told(runs, known[0])) if known else ""


def _told(runs: Path, known: Aggregation) -> str:
    page = known.report / PAGE
    if known.ended and known.ended.status == "finished":
        return f"report: {page}, written {known.ended.when}"
    if known.ended:
        log = recorded_log(runs, known.manifest.id, known.ended.log)
        return f"report: failed: {known.ended.reason}{f' (log: {log})' if log else ''}"
    if known.state == "queued":
        return f"report: waits for the runs; {page} is to come"
    if known.state == "running":
        return f"report: {page} is being written"
    if known.unread:
        return f"report: {known.unread}"
    single = known.manifest.aggregation
    log = log_path(runs, known.manifest, single) if single else None
    return f"report: its job was cancelled or died{f' (log: {log})' if log and log.exists() else ''}"


def pause(began: float) -> None:
    """Sleep before the next look at a study's files: a tenth of the time since `began`, 0.2 s to 2 s."""
    time.sleep(min(MAX_PAUSE_SECONDS, max(0.2, 0.1 * (time.monotonic() - began))))


def wait_for_report(report: Path, runs: Path, profile: Profile) -> int:
    """Wait until the last aggregation into `report` has ended, and tell how; 0 if the report is there, else 1.

    Raises UserError if the queue does not answer for a quarter of an hour.
    """
    asked = [m for m in StudyFolder(runs).manifests() if m.aggregation and m.aggregation.report == str(report)][
        -1:
    ]
    executor = make_executor(profile)
    poll, slurm = executor.poll_seconds, executor.slurm
    began = since = answered = time.monotonic()
    absent = 0
    while True:
        (known,) = aggregations(runs, asked, ())
        if known.ended is None and time.monotonic() - since >= poll:
            since = time.monotonic()
            try:
                (known,) = aggregations(runs, asked, study_jobs(StudyFolder(runs), asked, slurm))
            except UserError:
                if since - answered > PATIENCE_SECONDS:
                    raise
            else:
                answered = since
                absent = 0 if known.state else absent + 1
        if known.ended or absent >= MOST_ABSENT:
            finished = known.ended is not None and known.ended.status == "finished"
            print(one_line(_told(runs, known)), file=sys.stdout if finished else sys.stderr)
            return 0 if finished else 1
        pause(began)
