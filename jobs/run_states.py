"""The state of every run of a plan now, from files, queues and Slurm's accounting together."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from caltech_exp.files import file_system_time
from caltech_exp.manifest import Manifest
from caltech_exp.plan import PlannedRun
from caltech_exp.states import InQueue, RunState, run_state, untouched_state
from jobs.past_runs import PastRun, past_runs, run_names
from jobs.queued import queued_runs
from jobs.retry import why_lost


def states_of(
    plan: Sequence[PlannedRun],
    runs: Path,
    manifests: Sequence[Manifest],
    timeout: float,
    fingerprint: str | None = None,
    past: Mapping[str, PastRun] | None = None,
    *,
    explain: bool = True,
) -> dict[str, RunState]:
    """The state of every run of the plan, from its files and the queues its submissions went to.

    manifests    of all submissions into the study (queued.sound_manifests)
    timeout      seconds that a Slurm command may take
    fingerprint  of the data set: a result on other data does not count
    past         the study's results on that data (past_runs), where they are known already
    explain      whether accounting is asked why runs were lost

    Raises UserError if Slurm does not answer.
    """
    past = past_runs(runs, fingerprint) if past is None else past
    queue = queued_runs(runs, manifests, timeout, past)
    states = states_in_files(plan, runs, manifests, queue, fingerprint, past)
    return why_lost(states, runs, manifests, timeout) if explain else states


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
