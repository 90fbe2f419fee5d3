"""The status of every run of a plan, why runs ended without a result, and which nodes to avoid."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from caltech_exp.cli import one_line
from caltech_exp.executors.executor import all_executors
from caltech_exp.executors.local import QUEUE_LOG
from caltech_exp.executors.slurm_queries import EndedJob, Slurm
from caltech_exp.files import file_system_time
from caltech_exp.monitoring.logs import Refusal, log_path, read_refusal
from caltech_exp.monitoring.queued_runs import read_queue
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import Failure
from caltech_exp.study.results_cache import PastRun
from caltech_exp.study.run_status import QueuedTask, RunStatus, run_status, status_without_files

# (submission, job id) -> how the job ended
EndedJobs = Mapping[tuple[str, str], EndedJob]
# Slurm's job state codes (sacct(1)) in words.
JOB_ENDS = {
    "BOOT_FAIL": "its node did not boot",
    "CANCELLED": "its job was cancelled",
    "DEADLINE": "its job reached its deadline",
    "FAILED": "its process died",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "its job ran out of memory; raise mem_gb in the profile",
    "PREEMPTED": "its job was preempted and not requeued",
    "TIMEOUT": "its job reached its time limit and was not requeued",
}
NODE_ENDS = ("BOOT_FAIL", "NODE_FAIL")
# failure.json is a file that others may write, and the node's name goes to sbatch.
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What follows "3 failed", by results.FailureKind.
ADVICE = {
    "mistake": " because of an error in settings or data; retrying will not help",
    "gpu_memory": ": out of GPU memory; use a larger GPU (constraint or gres in the profile) or precision=bf16",
    "memory": ": out of memory; raise mem_gb in the profile",
    "node": " because of a broken node (avoid_nodes=false would use it again)",
    "error": "",
}


def run_states(
    folder: StudyFolder,
    plan: Sequence[PlannedRun],
    slurm: Slurm,
    *,
    manifests: Sequence[Manifest] | None = None,
    fingerprint: str | None = None,
    past: Mapping[str, PastRun] | None = None,
    explain: bool = True,
) -> dict[str, RunStatus]:
    """The status of every run of the plan, from its files and the queues its submissions went to.

    manifests    the folder's, if they have been read
    fingerprint  of the data set: a result on other data does not count
    past         the folder's past_runs on that data, if they have been read
    explain      whether accounting is asked why runs were lost
    """
    manifests = folder.manifests() if manifests is None else manifests
    past = folder.past_runs(fingerprint) if past is None else past
    queue = read_queue(folder, manifests, slurm, past).runs
    statuses = statuses_from_files(folder, plan, manifests, queue, fingerprint=fingerprint, past=past)
    return explain_lost(folder, statuses, manifests, slurm)[0] if explain else statuses


def statuses_from_files(
    folder: StudyFolder,
    plan: Sequence[PlannedRun],
    manifests: Sequence[Manifest],
    queue: Mapping[str, QueuedTask] | None,
    *,
    fingerprint: str | None,
    past: Mapping[str, PastRun],
) -> dict[str, RunStatus]:
    """The same with the queue already read (read_queue), or None if it was not asked.

    A run's folder is read only if it exists and no result of the run is known.
    """
    submitted = {run for manifest in manifests for task in manifest.tasks for run in task.runs}
    now = file_system_time(folder.path)
    with_files = set(folder.run_names())
    statuses = {}
    for name in (run.id for run in plan):
        if name in past:
            statuses[name] = RunStatus(past[name].status)
        elif name in with_files:
            statuses[name] = run_status(folder.run(name), queue, name in submitted, fingerprint, now)
        else:
            statuses[name] = status_without_files(name, queue, name in submitted)
    return statuses


def explain_lost(
    folder: StudyFolder,
    statuses: Mapping[str, RunStatus],
    manifests: Sequence[Manifest],
    slurm: Slurm,
    ended_jobs: EndedJobs | None = None,
) -> tuple[dict[str, RunStatus], EndedJobs]:
    """The statuses, with the reason why runs were lost, and how their jobs ended.

    A lost run whose task refused to start has failed. Accounting is asked once, about jobs that are not among
    `ended_jobs`, which are known already.
    """
    lost = {run for run, status in statuses.items() if status.state == "lost"}
    last_tasks = {
        run: (manifest, task)
        for manifest in manifests  # the latest counts
        for task in manifest.tasks
        for run in task.runs
        if task.job and run in lost
    }
    explained = dict(statuses)
    for run, (manifest, task) in last_tasks.items():
        if refusal := read_refusal(folder, manifest, task):
            log = log_path(folder, manifest, task) or folder.submission(manifest.id) / QUEUE_LOG
            explained[run] = _refused(run, refusal, manifest.id, str(log))
    ended_jobs = dict(ended_jobs or {})
    unknown = [
        (manifest, task)
        for run, (manifest, task) in last_tasks.items()
        if explained[run].state == "lost" and (manifest.id, task.job) not in ended_jobs
    ]
    for executor in all_executors(slurm):
        ended_jobs |= executor.ended(folder, unknown)
    for run, (manifest, task) in last_tasks.items():
        job = ended_jobs.get((manifest.id, task.job))
        if job and job.state in JOB_ENDS and explained[run].state == "lost":
            explained[run] = _ended(statuses[run], job)
    return explained, ended_jobs


def _refused(run: str, refusal: Refusal, submission: str, log: str) -> RunStatus:
    """The status of a run whose task did not start: its snapshot is damaged, or a file is another user's."""
    failure = Failure(
        run_id=run,
        error=refusal.line,
        traceback="",
        kind="error",
        submission=submission,
        job=refusal.job,
        host=refusal.host,
        node="",
        log=log,
        when=refusal.when,
    )
    return RunStatus("failed", one_line(f"{failure.error} (log: {log})"), failure)


def _ended(status: RunStatus, job: EndedJob) -> RunStatus:
    """A lost run's status with the reason that its job's end gives."""
    node = job.node if job.state in NODE_ENDS else ""
    reason = JOB_ENDS[job.state] + (f" ({node})" if job.state in NODE_ENDS else "")
    detail = "; ".join(filter(None, (status.detail, reason)))
    return replace(status, detail=detail, node=node, is_cancelled=job.state == "CANCELLED")


def describe_failures(statuses: Iterable[RunStatus]) -> list[str]:
    """A line for every kind of failure: how many runs, what it means, and the first run's detail."""
    statuses = list(statuses)
    failed = [status for status in statuses if status.state == "failed"]
    lines = []
    for kind, advice in ADVICE.items():
        of_kind = [status for status in failed if status.failure and status.failure.kind == kind]
        if of_kind:
            lines.append(f"{len(of_kind)} failed{advice}{_first_detail(of_kind)}")
    if in_task := sum(status.in_task for status in failed):
        lines.append(f"{in_task} failed in tasks that still train other runs; submit again after that")
    if newer := [status for status in statuses if status.state == "newer"]:
        lines.append(f"{len(newer)} left as they are{_first_detail(newer)}")
    if lost := [status for status in statuses if status.word == "lost"]:
        lines.append(f"{len(lost)} lost{_first_detail(lost)}")
    if count := sum(status.is_cancelled for status in statuses):
        lines.append(f"{count} {'runs were' if count > 1 else 'run was'} cancelled")
    return lines


def _first_detail(statuses: Sequence[RunStatus]) -> str:
    return f": {statuses[0].detail}" if statuses[0].detail else ""


def bad_nodes(statuses: Iterable[RunStatus]) -> tuple[str, ...]:
    """The nodes that caused the end of a run."""
    return tuple(sorted({status.node for status in statuses if NODE.fullmatch(status.node)}))
