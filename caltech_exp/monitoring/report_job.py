"""The report jobs of a study, and how they ended."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from caltech_exp.cli import one_line
from caltech_exp.executors.executor import StudyJob, place_of, study_jobs
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.files import local_time
from caltech_exp.monitoring.logs import log_path, read_refusal
from caltech_exp.records import Corrupt, JobId, RecordedPath, StrictRecord, TimeOrEmpty, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import AggregationJob, Manifest, recorded_log

REPORT_END = "aggregation.json"
PREPARATION_END = "preparation.json"
PAGE = "report.md"


class JobEnd(StrictRecord):
    """How a job that trains nothing ended; `reason` says in one line why it failed."""

    schema_version: Literal[1] = 1
    status: Literal["finished", "failed"]
    reason: str
    job: JobId
    log: RecordedPath
    when: TimeOrEmpty


@dataclass(frozen=True)
class ReportJob:
    """The report job of a submission.

    queued   the job while it is in a queue
    place    the cluster that it was submitted to, if that cannot be asked from here
    end      None if it left no record; `corrupt_end` says why that cannot be read
    """

    manifest: Manifest
    aggregation: AggregationJob
    queued: StudyJob | None
    end: JobEnd | None
    corrupt_end: str = ""
    place: str = ""

    @property
    def report(self) -> Path:
        return Path(self.aggregation.report)

    @property
    def job(self) -> str:
        """Its id."""
        return self.queued.job.id if self.queued else self.aggregation.job

    @property
    def state(self) -> str:
        """`queued` or `running`; empty if it is in no queue that can be asked."""
        return self.queued.job.state if self.queued else ""

    @property
    def has_finished(self) -> bool:
        return self.end is not None and self.end.status == "finished"


def report_jobs(folder: StudyFolder, manifests: Sequence[Manifest], jobs: Sequence[StudyJob]) -> list[ReportJob]:
    """The report jobs of the manifests, oldest first; `jobs` are the study's in a queue."""
    queued = {study_job.manifest.id: study_job for study_job in jobs if study_job.part == "aggregation"}
    jobs_of_reports = []
    for manifest in manifests:
        if manifest.aggregation is None:
            continue
        record = read_record(folder.submission(manifest.id) / REPORT_END, JobEnd)
        jobs_of_reports.append(
            ReportJob(
                manifest=manifest,
                aggregation=manifest.aggregation,
                queued=queued.get(manifest.id),
                end=record if isinstance(record, JobEnd) else _refused(folder, manifest, manifest.aggregation),
                corrupt_end=record.complaint("see the log beside it") if isinstance(record, Corrupt) else "",
            )
        )
    return jobs_of_reports


def _refused(folder: StudyFolder, manifest: Manifest, job: AggregationJob) -> JobEnd | None:
    """The end of a report job that did not start: its snapshot is damaged, or a file is another user's."""
    refusal = read_refusal(folder, manifest, job)
    if refusal is None:
        return None
    log = str(log_path(folder, manifest, job) or "")
    return JobEnd(status="failed", reason=refusal.line, job=refusal.job, log=log, when=refusal.when)


def last_report_job(
    folder: StudyFolder, manifests: Sequence[Manifest], slurm: Slurm | None = None
) -> ReportJob | None:
    """The last report job; its state is looked up only with `slurm`, and only if it has left no record."""
    last = [manifest for manifest in manifests if manifest.aggregation][-1:]
    jobs = report_jobs(folder, last, ())
    if slurm and jobs and jobs[0].end is None:
        (job,) = report_jobs(folder, last, study_jobs(folder, last, slurm))
        return job if job.queued or not job.manifest.cluster else replace(job, place=place_of(job.manifest, slurm))
    return jobs[0] if jobs else None


def describe_report_job(folder: StudyFolder, report_job: ReportJob) -> str:
    return one_line(f"report: {_describe(folder, report_job)}")


def _describe(folder: StudyFolder, report_job: ReportJob) -> str:
    page, end = report_job.report / PAGE, report_job.end
    if end and end.status == "finished":
        return f"{page}, written {local_time(end.when)}"
    if end:
        return f"failed: {end.reason}{_log(recorded_log(folder.path, report_job.manifest.id, end.log))}"
    if report_job.state == "queued":
        return f"will be written to {page} when the runs finish"
    if report_job.state == "running":
        return f"{page} is being written"
    if report_job.corrupt_end:
        return report_job.corrupt_end
    if report_job.place:
        return f"{page} is to be written by job {report_job.job} on {report_job.place}"
    log = log_path(folder, report_job.manifest, report_job.aggregation)
    return f"its job was cancelled or died{_log(log if log and log.exists() else None)}"


def _log(path: Path | None) -> str:
    return f" (log: {path})" if path else ""


def preparation_failure(folder: StudyFolder, manifests: Sequence[Manifest]) -> str:
    """Why the last job that decodes images failed, in one line; empty if it did not, or there was none."""
    for manifest in reversed(manifests):
        if manifest.preparation:
            end = read_record(folder.submission(manifest.id) / PREPARATION_END, JobEnd)
            if not isinstance(end, JobEnd) or end.status == "finished":
                return ""
            log = _log(recorded_log(folder.path, manifest.id, end.log))
            name = manifest.preparation.name
            return one_line(f"{name} failed: {end.reason}; the runs decode the images themselves{log}")
    return ""
