"""The state of every run of a plan now, why runs ended without a result, and which nodes to avoid."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caltech_exp.cli import one_line, shown
from caltech_exp.executors.executor import all_executors
from caltech_exp.executors.local import QUEUE_LOG
from caltech_exp.executors.slurm_queries import EndedJob, Slurm
from caltech_exp.files import file_system_time
from caltech_exp.monitoring.logs import Refusal, log_path, refusal
from caltech_exp.monitoring.queued_runs import queued_runs
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, Manifest
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import Failure
from caltech_exp.study.results_cache import PastRun, past_runs, run_names
from caltech_exp.study.run_status import InQueue, RunState, run_state, untouched_state

OF_A_JOB = {
    "BOOT_FAIL": "its node did not boot",
    "CANCELLED": "its job was cancelled",
    "DEADLINE": "its job reached the deadline",
    "FAILED": "its process died",
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "its job ran out of memory; raise mem_gb in the profile",
    "PREEMPTED": "its job was preempted and not queued again",
    "TIMEOUT": "its job reached the time limit and was not queued again",
}
"""Slurm's job state codes (sacct(1)) in words."""
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A node's name; failure.json is a file like others, and this goes to sbatch."""
OF_A_NODE = ("BOOT_FAIL", "NODE_FAIL")
ADVICE = {
    "mistake": "trying again will not mend that",
    "gpu_memory": "out of GPU memory; give the profile a larger GPU (constraint or gres), or precision=bf16",
    "memory": "out of memory; raise mem_gb in the profile",
    "node": "a node is to blame (avoid_nodes=false uses it again)",
    "error": "",
}
"""What to say of failed runs, by results.FailureKind."""


def why_lost(
    states: Mapping[str, RunState],
    runs: Path,
    manifests: Sequence[Manifest],
    slurm: Slurm,
    told: dict[tuple[str, str], EndedJob] | None = None,
) -> dict[str, RunState]:
    """The states, those of lost runs with what Slurm's accounting tells, where there is one; it is asked once.
    A lost run whose task refused to start has failed.
    Of tasks on this machine it is known which were cancelled.

    runs  the study's folder
    told  (submission, job id) -> what it has told before, which it is not asked again; its answers are added
    """
    lost = {name for name, state in states.items() if state.state == "lost"}
    last = {
        run: (manifest, task)
        for manifest in manifests  # the latest counts
        for task in manifest.tasks
        for run in task.runs
        if task.job and run in lost
    }
    found = dict(states)
    for run, (manifest, task) in last.items():
        if why := refusal(runs, manifest, task):
            log = log_path(runs, manifest, task) or runs / SUBMISSIONS / manifest.id / QUEUE_LOG
            found[run] = _refused(run, why, manifest.id, log)
    told = {} if told is None else told
    asked = [
        (manifest, task)
        for run, (manifest, task) in last.items()
        if found[run].state == "lost" and (manifest.id, task.job) not in told
    ]
    for executor in all_executors(slurm):
        told |= executor.ended(StudyFolder(runs), asked)
    for run, (manifest, task) in last.items():
        ended = told.get((manifest.id, task.job))
        if ended and ended.state in OF_A_JOB and found[run].state == "lost":
            words = OF_A_JOB[ended.state] + (f" ({ended.node})" if ended.state in OF_A_NODE else "")
            node = ended.node if ended.state in OF_A_NODE else ""
            found[run] = replace(_because(states[run], words), node=node)
    return found


def _refused(run: str, why: Refusal, submission: str, log: Path) -> RunState:
    """The state of a run whose task did not start: its snapshot is damaged, or a file is another user's."""
    failure = Failure(
        run_id=run,
        error=one_line(shown(why.reason, 500)),
        traceback="",
        kind="error",
        submission=submission,
        job=why.job,
        host=why.host,
        node="",
        log=str(log),
        when=why.when,
    )
    return RunState("failed", one_line(f"{failure.error} (log: {failure.log})"), failure)


def _because(state: RunState, words: str) -> RunState:
    return replace(state, detail="; ".join(filter(None, (state.detail, words))))


def advice(states: Iterable[RunState]) -> list[str]:
    """A line for every kind of failure among the states: how many, what it means, and the first one's error.

    And one each for lost runs and those of a newer version: how many, and what is known of the first one.
    """
    states, lines = list(states), []
    failed = [state for state in states if state.state == "failed"]
    for kind, meaning in ADVICE.items():
        of_kind = [state for state in failed if state.failure and state.failure.kind == kind]
        if of_kind:
            lines.append(": ".join(filter(None, (f"{len(of_kind)} failed", meaning, of_kind[0].detail))))
    if still := sum(state.in_task for state in failed):
        lines.append(f"{still} failed in tasks that have not ended yet, nor are queued again before that")
    newer = [state for state in states if state.state == "newer"]
    if newer:
        lines.append(f"{len(newer)} left as they are: {newer[0].detail}")
    lost = [state for state in states if state.state == "lost"]
    if lost:
        lines.append(": ".join(filter(None, (f"{len(lost)} lost", lost[0].detail))))
    return lines


def bad_nodes(states: Iterable[RunState]) -> tuple[str, ...]:
    """The nodes that are to blame for the end of a run."""
    return tuple(sorted({state.node for state in states if NODE.fullmatch(state.node)}))


def states_of(
    plan: Sequence[PlannedRun],
    runs: Path,
    manifests: Sequence[Manifest],
    slurm: Slurm,
    fingerprint: str | None = None,
    past: Mapping[str, PastRun] | None = None,
    *,
    explain: bool = True,
) -> dict[str, RunState]:
    """The state of every run of the plan, from its files and the queues its submissions went to.

    manifests    of all submissions into the study (queued.sound_manifests)
    fingerprint  of the data set: a result on other data does not count
    past         the study's results on that data (past_runs), where they are known already
    explain      whether accounting is asked why runs were lost

    Raises UserError if Slurm does not answer.
    """
    past = past_runs(runs, fingerprint) if past is None else past
    queue = queued_runs(runs, manifests, slurm, past)
    states = states_in_files(plan, runs, manifests, queue, fingerprint, past)
    return why_lost(states, runs, manifests, slurm) if explain else states


def states_in_files(
    plan: Sequence[PlannedRun],
    runs: Path,
    manifests: Sequence[Manifest],
    queue: Mapping[str, InQueue] | None,
    fingerprint: str | None,
    past: Mapping[str, PastRun],
) -> dict[str, RunState]:
    """The same with the queue's answer given (queued_runs), None where it was not asked.

    A run's folder is looked into only if there is one and no result of it is known.
    """
    submitted = {name for m in manifests for task in m.tasks for name in task.runs}
    now = file_system_time(runs)
    left_files = set(run_names(runs))
    states = {}
    for name in (run.id for run in plan):
        if name in past:
            states[name] = RunState(past[name].status)
        elif name in left_files:
            states[name] = run_state(runs / name, queue, name in submitted, fingerprint, now)
        else:
            states[name] = untouched_state(name, queue, name in submitted)
    return states
