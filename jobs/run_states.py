"""The state of every run of a plan now, from files, queues and Slurm's accounting together."""

from collections.abc import Sequence
from pathlib import Path

from caltech_exp.files import file_system_time
from caltech_exp.plan import PlannedRun
from caltech_exp.states import RunState, run_state
from caltech_exp.study import Manifest
from jobs.queued import queued_runs
from jobs.retry import why_lost


def states_of(
    plan: Sequence[PlannedRun],
    runs: Path,
    manifests: Sequence[Manifest],
    timeout: float,
    fingerprint: str | None = None,
) -> dict[str, RunState]:
    """The state of every run of the plan, from its files and the queues its submissions went to.

    manifests    of all submissions into the study (queued.sound_manifests)
    timeout      seconds that a Slurm command may take
    fingerprint  of the data set: a result on other data does not count

    Raises UserError if Slurm does not answer.
    """
    queue = queued_runs(runs, manifests, timeout, fingerprint)
    submitted = {name for m in manifests for task in m.tasks for name in task.runs}
    now = file_system_time(runs)
    states = {run.id: run_state(runs / run.id, queue, run.id in submitted, fingerprint, now) for run in plan}
    return why_lost(states, manifests, timeout)
