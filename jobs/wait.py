"""Wait for runs with a progress bar, polling politely."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from caltech_exp.errors import EXIT_USER_ERROR
from caltech_exp.plan import PlannedRun
from caltech_exp.results import FAILURE, Failure, read_record
from caltech_exp.states import DONE, RunState, run_state
from caltech_exp.study import SUBMISSIONS
from jobs.queued import queued_runs, sound_manifests

FILES_SECONDS = 2.0
QUEUE_SECONDS = 10.0


def wait_for(plan: Sequence[PlannedRun], runs: Path, timeout: float) -> int:
    """Wait until no run of the plan is queued or running.

    0 if each has a result; 1 if any failed or was lost; 2 if nothing but mistakes of the user kept them from
    one, such as a missing GPU, which trying again will not mend.

    Files are looked at every two seconds, the queue every ten. Raises UserError if the queue stops answering.
    """
    manifests = sound_manifests(runs)
    latest = {name: m.id for m in manifests for task in m.tasks for name in task.runs}
    waiting = {run.id for run in plan if run.id in latest}
    ended: dict[str, RunState] = {}
    absent: set[str] = set()
    asked = time.monotonic()
    # In a log file a bar is a line per update: rarely, then.
    interval = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(total=len(waiting), unit="run", mininterval=interval, dynamic_ncols=True) as bar:
        while waiting:
            gone: set[str] = set()
            if time.monotonic() - asked >= QUEUE_SECONDS:
                # Absent twice: a network disk may show a result some seconds after its job has left the queue.
                absent_now = waiting - queued_runs(runs, manifests, timeout).keys()
                gone, absent, asked = absent_now & absent, absent_now, time.monotonic()
            for name in sorted(waiting):
                state = run_state(runs / name, {} if name in gone else None, submitted=True)
                if state.state in DONE or name in gone or _failed_in(runs / name, latest[name]):
                    ended[name] = state
                    waiting.discard(name)
                    bar.update()
            bad = sum(state.state not in DONE for state in ended.values())
            bar.set_postfix_str(f"{bad} failed" if bad else "", refresh=False)
            if waiting:
                time.sleep(FILES_SECONDS)
    failed = {name: state for name, state in ended.items() if state.state not in DONE}
    for name, state in failed.items():
        logs = runs / SUBMISSIONS / latest[name]
        detail = state.detail if state.state == "failed" else f"{state.detail or 'no epoch done'} (logs: {logs})"
        print(f"{name} {state.state}: {detail}", file=sys.stderr)
    if not failed:
        return 0
    return EXIT_USER_ERROR if all(state.mistake for state in failed.values()) else 1


def _failed_in(folder: Path, submission: str) -> bool:
    """Whether the run failed in this very submission, not in an earlier one."""
    failure = read_record(folder / FAILURE, Failure)
    return isinstance(failure, Failure) and failure.submission == submission
