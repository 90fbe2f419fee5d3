"""Wait for runs with a progress bar, polling politely."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from caltech_exp.errors import EXIT_USER_ERROR, UserError
from caltech_exp.manifest import SUBMISSIONS
from caltech_exp.plan import PlannedRun
from caltech_exp.results import FAILURE, Failure, read_record
from caltech_exp.states import DONE, RunState, run_state
from jobs.aggregation import PATIENCE_SECONDS
from jobs.past_runs import past_runs, run_names
from jobs.profiles import Profile, SlurmProfile, command_timeout
from jobs.queued import queued_runs, sound_manifests

FILES_SECONDS = 2.0
LOCAL_POLL_SECONDS = 2.0


def wait_for(plan: Sequence[PlannedRun], runs: Path, profile: Profile, fingerprint: str) -> int:
    """Wait until no run of the plan is queued or running; only results on the data of `fingerprint` count.

    0 if each has a result; 1 if any failed or was lost; 2 if nothing but mistakes of the user kept them from
    one, such as a damaged image, which trying again will not mend.

    Files are looked at every two seconds, the queue as often as the profile says. Raises UserError if the queue
    does not answer for a quarter of an hour.
    """
    manifests = sound_manifests(runs)
    latest = {name: m.id for m in manifests for task in m.tasks for name in task.runs}
    past = past_runs(runs, fingerprint)
    ended = {run.id: RunState(past[run.id].status) for run in plan if run.id in past}
    submitted = {run.id for run in plan if run.id in latest}
    waiting = submitted - ended.keys()
    absent: set[str] = set()
    poll_seconds = profile.poll_seconds if isinstance(profile, SlurmProfile) else LOCAL_POLL_SECONDS
    timeout = command_timeout(profile)
    asked = answered = time.monotonic()
    # In a log file a bar is a line per update: rarely, then.
    interval = 0.5 if sys.stderr.isatty() else 30.0
    before = len(submitted) - len(waiting)
    with tqdm(total=len(submitted), initial=before, unit="run", mininterval=interval, dynamic_ncols=True) as bar:
        while waiting:
            out: set[str] = set()
            gone: set[str] = set()
            if time.monotonic() - asked >= poll_seconds:
                asked = time.monotonic()
                try:
                    done = past.keys() | {name for name, state in ended.items() if state.state in DONE}
                    out = waiting - queued_runs(runs, manifests, timeout, done).keys()
                except UserError:
                    if asked - answered > PATIENCE_SECONDS:
                        raise
                else:
                    # Absent twice: a network disk may show a result some seconds after its job has left the queue.
                    gone, absent, answered = out & absent, out, asked
            left_files = set(run_names(runs))
            for name in sorted(waiting & (left_files | out)):
                state = run_state(runs / name, {} if name in gone else None, True, fingerprint)
                # A failure counts once its task is out of the queue: Slurm may have taken it in again.
                failed_now = name in out and _failed_in(runs / name, latest[name])
                left = name in gone and state.state != "running"
                if state.state in DONE or left or failed_now:
                    ended[name] = state
                    waiting.discard(name)
                    bar.update()
            bad = sum(state.state not in DONE for state in ended.values())
            bar.set_postfix_str(f"{bad} failed" if bad else "", refresh=False)
            if waiting:
                time.sleep(FILES_SECONDS)
    failed = {name: state for name, state in ended.items() if state.state not in DONE}
    for name, state in failed.items():
        print(_why(name, state, runs / SUBMISSIONS / latest[name]), file=sys.stderr)
    if not failed:
        return 0
    return EXIT_USER_ERROR if all(s.failure and s.failure.kind == "mistake" for s in failed.values()) else 1


def _why(name: str, state: RunState, logs: Path) -> str:
    """Why a run has no result, in one line that leads to its log."""
    if state.state == "failed":
        return f"{name} failed: {state.detail}"
    return f"{name} {state.state}: {state.detail or 'no epoch done'} (logs: {logs})"


def _failed_in(folder: Path, submission: str) -> bool:
    """Whether the run failed in this very submission, not in an earlier one."""
    failure = read_record(folder / FAILURE, Failure)
    return isinstance(failure, Failure) and failure.submission == submission
