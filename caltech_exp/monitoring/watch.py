"""Watch a study: a progress bar until its runs end, or its status again and again."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from caltech_exp.cli import EXIT_USER_ERROR, UserError
from caltech_exp.executors.executor import make_executor
from caltech_exp.monitoring.queued_runs import queued_runs
from caltech_exp.monitoring.render import as_text, at, fitted
from caltech_exp.monitoring.report_job import PATIENCE_SECONDS, pause
from caltech_exp.monitoring.study_status import Standing
from caltech_exp.profiles.profile import Profile
from caltech_exp.records import read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import FAILURE, Failure
from caltech_exp.study.results_cache import past_runs, run_names
from caltech_exp.study.run_status import DONE, RunState, run_state

LINE_SECONDS = 30.0
"""Between two lines of progress in a log file."""


def wait_for(plan: Sequence[PlannedRun], runs: Path, profile: Profile, fingerprint: str) -> int:
    """Wait until no run of the plan is queued or running; only results on the data of `fingerprint` count.

    0 if each has a result; 1 if any failed or was lost; 2 if nothing but mistakes of the user kept them from
    one, such as a damaged image, which trying again will not mend.

    Files are read at least every two seconds; the queue is asked as often as the profile says. Raises UserError if
    the queue does not answer for a quarter of an hour.
    """
    manifests = StudyFolder(runs).manifests()
    latest = {name: m.id for m in manifests for task in m.tasks for name in task.runs}
    past = past_runs(runs, fingerprint)
    ended = {run.id: RunState(past[run.id].status) for run in plan if run.id in past}
    submitted = {run.id for run in plan if run.id in latest}
    waiting = submitted - ended.keys()
    absent: set[str] = set()
    executor = make_executor(profile)
    poll_seconds, slurm = executor.poll_seconds, executor.slurm
    began = asked = answered = time.monotonic()
    with run_progress(len(submitted)) as show:
        show(len(submitted) - len(waiting), 0)
        while waiting:
            out: set[str] = set()
            gone: set[str] = set()
            if time.monotonic() - asked >= poll_seconds:
                asked = time.monotonic()
                try:
                    done = past.keys() | {name for name, state in ended.items() if state.state in DONE}
                    out = waiting - queued_runs(runs, manifests, slurm, done).keys()
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
            without_result = sum(state.state not in DONE for state in ended.values())
            show(len(submitted) - len(waiting), without_result)
            if waiting:
                pause(began)
    failed = {name: state for name, state in ended.items() if state.state not in DONE}
    for name, state in failed.items():
        print(_why(name, state, runs / SUBMISSIONS / latest[name]), file=sys.stderr)
    if not failed:
        return 0
    return EXIT_USER_ERROR if all(s.failure and s.failure.kind == "mistake" for s in failed.values()) else 1


@contextmanager
def run_progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """Yield `show(ended, failed)`: a progress bar on a terminal, else a line at most every LINE_SECONDS."""
    if sys.stderr.isatty():
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("runs{task.description}"))
        console = Console(stderr=True)
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("", total=total)
            yield lambda ended, failed: bar.update(task, completed=ended, description=_failed(failed))
        return
    last_line, printed = "", time.monotonic() - LINE_SECONDS

    def show(ended: int, failed: int) -> None:
        nonlocal last_line, printed
        line = f"{ended} of {total} runs have ended{_failed(failed)}"
        if line != last_line and (ended == total or time.monotonic() - printed >= LINE_SECONDS):
            print(line, file=sys.stderr, flush=True)
            last_line, printed = line, time.monotonic()

    yield show


def _failed(count: int) -> str:
    return f", {count} failed" if count else ""


def _why(name: str, state: RunState, logs: Path) -> str:
    """Why a run has no result, in one line that leads to its log."""
    if state.state == "failed":
        return f"{name} failed: {state.detail}"
    return f"{name} {state.state}: {state.detail or 'no epoch done'} (logs: {logs})"


def _failed_in(folder: Path, submission: str) -> bool:
    """Whether the run failed in this very submission, not in an earlier one."""
    failure = read_record(folder / FAILURE, Failure)
    return isinstance(failure, Failure) and failure.submission == submission


REST = 4.0
"""Seconds of rest for each second that a look took: a large study on a slow disk is looked at less often."""


@dataclass(frozen=True)
class Seen:
    """The last standing that Slurm had a part in, or if there is none the last one; and any trouble since."""

    standing: Standing
    trouble: str = ""


def watch(look: Callable[[], Standing], console: Console, seconds: float, *, failures: bool) -> None:
    """Show what `look` sees, every `seconds` or less often, until nothing is queued or running any more.

    In place on a terminal, one after the other elsewhere. If Slurm or the disk does not answer for a while, the
    last picture stays and a line says so. Raises UserError if the first look does.
    """
    began = time.monotonic()
    seen = Seen(look())
    if not console.is_terminal or console.is_dumb_terminal:
        print(as_text(seen.standing, failures=failures), flush=True)
        while _goes_on(seen):
            began = _rest(began, seconds)
            seen = look_again(seen, look)
            print(f"\n{seen.trouble or as_text(seen.standing, failures=failures)}", flush=True)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
        screen.update(on_screen(seen, console, seconds, failures), refresh=True)
        while _goes_on(seen):
            began = _rest(began, seconds)
            seen = look_again(seen, look)
            screen.update(on_screen(seen, console, seconds, failures), refresh=True)


def look_again(before: Seen, look: Callable[[], Standing]) -> Seen:
    """What is seen now; what was seen before, with the trouble, if this look tells less."""
    try:
        now = look()
    except (UserError, OSError) as error:
        return Seen(before.standing, str(error))
    return Seen(before.standing, now.note) if now.note and not before.standing.note else Seen(now)


def on_screen(seen: Seen, console: Console, seconds: float, failures: bool) -> Group:
    """The picture, how old it is, and when it will be looked again."""
    now, ahead = seen.standing, f"again every {seconds:g} s; Ctrl-C ends watching only"
    if seen.trouble:
        trouble = seen.trouble.partition(";")[0]
        notes = [Text(f"no news since {at(now.when)}: {trouble}; asked {ahead}", "yellow")]
    else:
        notes = [Text(f"seen at {at(now.when)}, {ahead}", "dim")] if now.open else []
    return fitted(now, console, failures=failures, notes=notes)


def _goes_on(seen: Seen) -> bool:
    return seen.standing.open or bool(seen.trouble)


def _rest(began: float, seconds: float) -> float:
    """Wait until it is polite to look again; when that is."""
    time.sleep(max(seconds, REST * (time.monotonic() - began)))
    return time.monotonic()
