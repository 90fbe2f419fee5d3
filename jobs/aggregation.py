"""The report that a study's last job writes: whether one is on its way, what it waits for, how it went."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from caltech_exp.errors import UserError, one_line, shown
from caltech_exp.manifest import SUBMISSIONS, Manifest, recorded_log
from caltech_exp.results import Damaged, read_record
from jobs import local
from jobs.aggregated import AGGREGATED, Aggregated
from jobs.cluster import cancel_jobs
from jobs.logs import log_path, refusal
from jobs.profiles import Profile, SlurmProfile, command_timeout
from jobs.queued import sound_manifests
from jobs.study_jobs import StudyJob, study_jobs
from jobs.work import Work

PAGE = "report.md"
LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 900.0
"""How long the queue may leave questions unanswered before waiting is given up."""
MOST_ABSENT = 2
"""How often a queue must not hold the job before it counts as gone: its record may be seen some seconds later."""


@dataclass(frozen=True)
class Aggregation:
    """One that a submission asked for.

    state  `queued` or `running` while a queue holds it, else empty
    job    its id
    ended  how it ended, where it told
    unread  why that record cannot be read, where it cannot
    """

    manifest: Manifest
    report: Path
    state: str
    job: str
    ended: Aggregated | None
    unread: str = ""


def aggregations(runs: Path, manifests: Sequence[Manifest], jobs: Sequence[StudyJob]) -> list[Aggregation]:
    """All that the manifests name, oldest first; `jobs` are the study's in Slurm's queue."""
    in_slurm = {found.manifest.id: found.job for found in jobs if found.part == "aggregation"}
    found = []
    for manifest in manifests:
        if manifest.aggregation is None:
            continue
        folder = runs / SUBMISSIONS / manifest.id
        queued = in_slurm.get(manifest.id)
        state = queued.state if queued else local.queued_tasks(folder).get(local.AGGREGATION, "")
        record = read_record(folder / AGGREGATED, Aggregated)
        found.append(
            Aggregation(
                manifest=manifest,
                report=Path(manifest.aggregation.report),
                state=state,
                job=queued.id if queued else manifest.aggregation.job,
                ended=_refused(runs, manifest) if isinstance(record, Damaged) or not record else record,
                unread=record.complaint("look at the log beside it") if isinstance(record, Damaged) else "",
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


def with_report(
    work: Work,
    report: Path,
    runs: Path,
    manifests: Sequence[Manifest],
    jobs: Sequence[StudyJob],
    profile: Profile,
) -> tuple[Work, list[str]]:
    """The work with an aggregation into `report`, and what to say of it.

    Without one, if the work has no runs and one is in a queue that waits for all that were submitted before.
    """
    known = aggregations(runs, manifests, jobs)
    if not work.arrays and (there := _on_its_way(known, manifests, report)):
        return work, [f"the report is on its way already: {there.manifest.id}, job {there.job}, {report / PAGE}"]
    after, lines = _waited_for(runs, manifests, jobs, profile)
    return replace(work, report=report, after=after), lines


def _on_its_way(known: Sequence[Aggregation], manifests: Sequence[Manifest], report: Path) -> Aggregation | None:
    since = [manifest.id for manifest in manifests if manifest.tasks]
    for aggregation in reversed(known):
        waits_for_all = not since or since[-1] <= aggregation.manifest.id
        if aggregation.state and aggregation.report == report and waits_for_all:
            return aggregation
    return None


def end_replaced(
    report: Path, runs: Path, manifests: Sequence[Manifest], jobs: Sequence[StudyJob], timeout: float
) -> list[str]:
    """End the aggregations of the manifests that wait to write `report`, now that a new one does; what to say."""
    waiting = [a for a in aggregations(runs, manifests, jobs) if a.state == "queued" and a.report == report]
    replaced = [a for a in waiting if a.manifest.is_own]
    try:
        for aggregation in replaced:
            if aggregation.manifest.executor == "local":
                local.cancel(runs / SUBMISSIONS / aggregation.manifest.id, [local.AGGREGATION])
            else:
                cancel_jobs([aggregation.job], timeout)
    except (OSError, UserError) as error:
        return [f"an aggregation that waited before could not be ended and writes the report too: {error}"]
    lines = [f"replaced {a.manifest.aggregation.name}: job {a.job}" for a in replaced if a.manifest.aggregation]
    return lines + [
        f"job {a.job} of {a.manifest.user_name} writes the report too" for a in waiting if not a.manifest.is_own
    ]


def _waited_for(
    runs: Path, manifests: Sequence[Manifest], jobs: Sequence[StudyJob], profile: Profile
) -> tuple[tuple[str, ...], list[str]]:
    """What of the study is in the profile's queue now, as Work.after has it.

    And a line for what is in the other queue, which this one cannot wait for.
    """
    arrays = tuple(dict.fromkeys(found.job.array for found in jobs if found.part == "training"))
    here = tuple(m.id for m in manifests if m.executor == "local" and local.is_alive(runs / SUBMISSIONS / m.id))
    if isinstance(profile, SlurmProfile):
        return arrays, [f"the report does not wait for runs on this machine: {', '.join(here)}"] if here else []
    return here, [f"the report does not wait for runs on Slurm: {', '.join(arrays)}"] if arrays else []


def check_report_folder(report: Path) -> None:
    """Raises UserError if the report could not be written there from this machine."""
    place = next(path for path in (report, *report.parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"out={report}: {place} is a file; give another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"out={report}: {place} cannot be written; give another folder")


def report_line(runs: Path, manifests: Sequence[Manifest], timeout: float) -> str:
    """How the last report that was asked for stands; empty if none was. Slurm is asked only while it is open.

    Raises UserError if Slurm is asked and does not answer.
    """
    asked = [manifest for manifest in manifests if manifest.aggregation][-1:]
    known = aggregations(runs, asked, ())
    if known and known[0].ended is None:
        known = aggregations(runs, asked, study_jobs(asked, timeout))
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


def wait_for_report(report: Path, runs: Path, profile: Profile) -> int:
    """Wait until the last aggregation into `report` has ended, and tell how; 0 if the report is there, else 1.

    Raises UserError if the queue does not answer for a quarter of an hour.
    """
    asked = [m for m in sound_manifests(runs) if m.aggregation and m.aggregation.report == str(report)][-1:]
    poll = profile.poll_seconds if isinstance(profile, SlurmProfile) else LOOK_SECONDS
    since = answered = time.monotonic()
    absent = 0
    while True:
        (known,) = aggregations(runs, asked, ())
        if known.ended is None and time.monotonic() - since >= poll:
            since = time.monotonic()
            try:
                (known,) = aggregations(runs, asked, study_jobs(asked, command_timeout(profile)))
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
        time.sleep(LOOK_SECONDS)
