"""The report job of a submission: what it waits for, and which earlier report job it replaces."""

from dataclasses import replace

from caltech_exp.cli import UserError
from caltech_exp.executors.executor import Executor, all_executors
from caltech_exp.monitoring.report_job import PAGE, report_jobs
from caltech_exp.submission.preflight import StudyState
from caltech_exp.submission.submission import Submission


def with_dependencies(
    submission: Submission, state: StudyState, executor: Executor
) -> tuple[Submission, list[str]]:
    """The submission whose report job waits for the jobs in the queue, and lines for the user.

    The submission has no report if it has no runs and a report job that waits for everything is queued already.
    """
    if not submission.arrays:
        last = max((manifest.id for manifest in state.manifests if manifest.tasks), default="")
        for job in reversed(report_jobs(state.folder, state.manifests, state.jobs)):
            if job.state and job.report == submission.report and job.manifest.id >= last:
                page = job.report / PAGE
                line = f"the report is on its way already: {job.manifest.id}, job {job.job}, {page}"
                return replace(submission, report=None), [line]
    lines = [
        f"the report does not wait for runs {other.place}: {', '.join(ids)}"
        for other in all_executors(executor.slurm)
        if other.name != executor.name and (ids := other.dependencies(state.jobs))
    ]
    return replace(submission, dependencies=executor.dependencies(state.jobs)), lines


def cancel_replaced(submission: Submission, state: StudyState, executor: Executor) -> list[str]:
    """Cancel the earlier report jobs that wait to write the same report; lines for the user."""
    waiting = [
        job
        for job in report_jobs(state.folder, state.manifests, state.jobs)
        if job.state == "queued" and job.report == submission.report
    ]
    own = [job for job in waiting if job.manifest.is_own]
    try:
        for queue in all_executors(executor.slurm):
            queue.cancel(state.folder, [job.queued for job in own if job.queued])
    except (OSError, UserError) as error:
        return [f"an earlier report job could not be cancelled and will write the report too: {error}"]
    lines = [f"replaced {job.aggregation.name}: job {job.job}" for job in own]
    others = [job for job in waiting if not job.manifest.is_own]
    return lines + [f"job {job.job} of {job.manifest.user_name} writes the report too" for job in others]
