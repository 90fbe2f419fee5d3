"""The report job of a submission: what it waits for, and which earlier one it replaces."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caltech_exp.cli import UserError
from caltech_exp.executors.executor import Executor, StudyJob, all_executors
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.report_job import PAGE, ReportJob, report_jobs
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.submission.submission import Submission


def with_report(
    submission: Submission,
    report: Path,
    runs: Path,
    manifests: Sequence[Manifest],
    jobs: Sequence[StudyJob],
    executor: Executor,
) -> tuple[Submission, list[str]]:
    """The submission with an aggregation into `report`, and what to say of it.

    Without one, if the submission has no runs and one is in a queue that waits for all that were submitted before.
    """
    known = report_jobs(StudyFolder(runs), manifests, jobs)
    if not submission.arrays and (there := _on_its_way(known, manifests, report)):
        return submission, [
            f"the report is on its way already: {there.manifest.id}, job {there.job}, {report / PAGE}"
        ]
    after, lines = _waited_for(jobs, executor)
    return replace(submission, report=report, dependencies=after), lines


def _on_its_way(known: Sequence[ReportJob], manifests: Sequence[Manifest], report: Path) -> ReportJob | None:
    since = [manifest.id for manifest in manifests if manifest.tasks]
    for aggregation in reversed(known):
        waits_for_all = not since or since[-1] <= aggregation.manifest.id
        if aggregation.state and aggregation.report == report and waits_for_all:
            return aggregation
    return None


def end_replaced(
    report: Path, runs: Path, manifests: Sequence[Manifest], jobs: Sequence[StudyJob], slurm: Slurm
) -> list[str]:
    """End the aggregations of the manifests that wait to write `report`, now that a new one does; what to say."""
    known = report_jobs(StudyFolder(runs), manifests, jobs)
    waiting = [a for a in known if a.state == "queued" and a.report == report]
    replaced = [a for a in waiting if a.manifest.is_own]
    try:
        for executor in all_executors(slurm):
            executor.cancel(StudyFolder(runs), [a.queued for a in replaced if a.queued])
    except (OSError, UserError) as error:
        return [f"an aggregation that waited before could not be ended and writes the report too: {error}"]
    lines = [f"replaced {a.aggregation.name}: job {a.job}" for a in replaced]
    return lines + [
        f"job {a.job} of {a.manifest.user_name} writes the report too" for a in waiting if not a.manifest.is_own
    ]


def _waited_for(jobs: Sequence[StudyJob], executor: Executor) -> tuple[tuple[str, ...], list[str]]:
    """What of the study is in the executor's queue now, as Submission.dependencies has it.

    And a line for what is in the other queue, which this one cannot wait for.
    """
    lines = [
        f"the report does not wait for runs {other.place}: {', '.join(ids)}"
        for other in all_executors(executor.slurm)
        if other.name != executor.name and (ids := other.dependencies(jobs))
    ]
    return executor.dependencies(jobs), lines


def check_report_folder(report: Path) -> None:
    """Raises UserError if the report could not be written there from this machine."""
    place = next(path for path in (report, *report.parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"out={report}: {place} is a file; give another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"out={report}: {place} cannot be written; give another folder")
