"""The status of every run of a plan, why runs ended without a result, and which nodes to avoid."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caltech_exp.cli import one_line
from caltech_exp.executors.executor import all_executors
from caltech_exp.executors.local import QUEUE_LOG
from caltech_exp.executors.slurm_queries import EndedJob, Slurm
from caltech_exp.files import file_system_time
from caltech_exp.monitoring.logs import Refusal, log_path, read_refusal, why_not_started
from caltech_exp.monitoring.queued_runs import read_queue
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, cancel_reason, cancelled_runs
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import Failure, FailureKind, again_folder
from caltech_exp.study.results_cache import PastRun
from caltech_exp.study.run_status import QueuedTask, RunStatus, run_status, status_without_files

# (submission, job id) -> how the job ended
EndedJobs = Mapping[tuple[str, str], EndedJob]
# Slurm's job state codes (sacct(1)) in words.
JOB_ENDS = {
    "BOOT_FAIL": "its node did not boot",
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
IN_PROFILE = "in the profile"
PROFILE_ADVICE = " because of a mistake in the profile, and will again unless it is corrected"
MAX_REASONS = 8


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
    cancelled = cancelled_runs(folder.path, manifests)
    now = file_system_time(folder.path)
    with_files = set(folder.run_names())
    reasons = {submission: cancel_reason(folder.submission(submission)) for submission in {*cancelled.values()}}
    again = {manifest.id for manifest in manifests if manifest.again}
    queued_again = {run: task for run, task in (queue or {}).items() if task.submission in again}
    statuses = {}
    for name in (run.id for run in plan):
        if name in past:
            statuses[name] = RunStatus(past[name].status)
            if task := queued_again.get(name):
                second = run_status(again_folder(folder.run(name), task.submission), queue, True, fingerprint, now)
                statuses[name] = replace(statuses[name], again=second)
        elif name in with_files:
            statuses[name] = run_status(
                folder.run(name), queue, name in submitted, fingerprint, now, cancelled_in=cancelled.get(name, "")
            )
        else:
            statuses[name] = status_without_files(
                name, queue, name in submitted, cancelled_in=cancelled.get(name, "")
            )
        if statuses[name].state == "cancelled" and (end := reasons.get(cancelled.get(name, ""))):
            detail = "; ".join(filter(None, (statuses[name].detail, end)))
            statuses[name] = replace(statuses[name], detail=detail, end=end)
    return statuses


def explain_lost(
    folder: StudyFolder,
    statuses: Mapping[str, RunStatus],
    manifests: Sequence[Manifest],
    slurm: Slurm,
    ended_jobs: EndedJobs | None = None,
) -> tuple[dict[str, RunStatus], EndedJobs]:
    """The statuses, with the reason why runs were lost, and how their jobs ended.

    A lost run whose task refused to start, or whose batch script failed before it, has failed. Accounting is asked
    once, about jobs that are not among `ended_jobs`, which are known already.
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
            logs = (log_path(folder, manifest, task), folder.submission(manifest.id) / QUEUE_LOG)
            log = next((str(path) for path in logs if path and path.exists()), "")
            explained[run] = _refused(run, refusal, manifest.id, log)
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
        if explained[run].state == "lost" and job:
            explained[run] = _ended(statuses[run], job)
        if explained[run].state == "lost" and (job is None or job.state == "FAILED"):
            explained[run] = _not_started(run, explained[run], log_path(folder, manifest, task), manifest.id)
    return explained, ended_jobs


def _not_started(run: str, status: RunStatus, log: Path | None, submission: str) -> RunStatus:
    """The status of a lost run, which is the profile's fault if the batch script ended before the task began."""
    line = why_not_started(log) if log else ""
    if not log or not line:
        return status
    reason = f"its task did not start: {line}; check python and setup {IN_PROFILE}"
    job = log.name.partition("_0_log")[0]
    refusal = Refusal.model_construct(reason=reason, job=job, host="", when="")
    return _refused(run, refusal, submission, str(log), "mistake")


def _refused(run: str, refusal: Refusal, submission: str, log: str, kind: FailureKind = "error") -> RunStatus:
    """The status of a run whose task did not start: its snapshot is damaged, or a file is another user's."""
    failure = Failure(
        run_id=run,
        error=refusal.line,
        traceback="",
        kind=kind,
        submission=submission,
        job=refusal.job,
        host=refusal.host,
        node="",
        log=log,
        when=refusal.when,
    )
    return RunStatus("failed", one_line(f"{failure.error} (log: {log})" if log else failure.error), failure)


def _ended(status: RunStatus, job: EndedJob) -> RunStatus:
    """A lost run's status with the reason that its job's end gives."""
    if job.state == "CANCELLED":
        return replace(status, state="cancelled")
    if job.state not in JOB_ENDS:
        return status
    node = job.node if job.state in NODE_ENDS else ""
    end = JOB_ENDS[job.state] + (f" ({node})" if job.state in NODE_ENDS else "")
    return replace(status, detail="; ".join(filter(None, (status.detail, end))), node=node, end=end)


def reason_groups(statuses: Mapping[str, RunStatus]) -> list[list[str]]:
    """The ids of runs, grouped by state and reason, in the order of the first of each group."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for run, status in statuses.items():
        kind, reason = "", status.end if status.state in ("lost", "cancelled") else status.detail
        if status.failure:
            kind = status.failure.kind  # how much memory was missing differs from run to run
            reason = "" if kind in ("gpu_memory", "memory") else status.failure.error.replace(run, "")
        groups.setdefault((status.state, kind, reason), []).append(run)
    return list(groups.values())


def describe_failures(statuses: Mapping[str, RunStatus], *, retry: bool = False) -> list[str]:
    """A line for every reason why runs have no result: how many, what it means, and the first run's detail.

    retry  whether the command tries only failed and lost runs again
    """
    groups = {run: len(group) for group in reason_groups(statuses) for run in group[:1]}
    lines = []
    for kind, advice in ADVICE.items():
        for run, count in groups.items():
            failure = statuses[run].failure
            if failure and failure.kind == kind and statuses[run].state == "failed":
                is_profile = kind == "mistake" and IN_PROFILE in failure.error
                lines.append(f"{count} failed{PROFILE_ADVICE if is_profile else advice}{_detail(statuses[run])}")
    for state, words in (("newer", "left as they are"), ("lost", "lost")):
        lines += [
            f"{count} {words}{_detail(statuses[run])}"
            for run, count in groups.items()
            if statuses[run].state == state
        ]
    if left_out := lines[MAX_REASONS:]:
        lines[MAX_REASONS:] = [f"and {len(left_out)} more reasons; jobs/status.py failed=true shows all"]
    if in_task := sum(status.in_task for status in statuses.values()):
        lines.append(f"{in_task} failed in tasks that still train other runs; submit again after that")
    lines += cancelled_lines(statuses.values()) if retry else []
    return [*lines, *elsewhere_lines(statuses.values(), retry=retry)]


def elsewhere_lines(statuses: Iterable[RunStatus], *, retry: bool = False) -> list[str]:
    """A line for every cluster or machine in whose queue runs are; with `retry` the command takes them over."""
    lines = []
    for words, count in Counter(status.words for status in statuses if status.place).items():
        runs, are, them = ("runs", "are", "them") if count > 1 else ("run", "is", "it")
        advice = f"{are} {words}; submit with retry=failed takes {them} over here"
        lines.append(f"{count:,} {runs} {f'{words} {are} taken over here' if retry else advice}")
    return lines


def cancelled_lines(statuses: Iterable[RunStatus]) -> list[str]:
    """A line for every reason why runs were cancelled."""
    counts = Counter(status.end for status in statuses if status.state == "cancelled")
    return [
        f"{count:,} {'runs were' if count > 1 else 'run was'} cancelled{f' because {reason}' if reason else ''}; "
        f"submit without retry=failed to train {'them' if count > 1 else 'it'}"
        for reason, count in counts.items()
    ]


def _detail(status: RunStatus) -> str:
    return f": {status.detail}" if status.detail else ""


def bad_nodes(statuses: Iterable[RunStatus]) -> dict[str, int]:
    """The nodes that caused the end of runs -> how many."""
    nodes = (status.node for status in statuses if NODE.fullmatch(status.node))
    return dict(sorted(Counter(nodes).items()))
