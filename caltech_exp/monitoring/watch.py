"""Wait for a submission with a progress bar, or watch the status of a study."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from caltech_exp.cli import EXIT_USER_ERROR, UserError, one_line
from caltech_exp.executors.executor import Executor
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.queued_runs import read_queue
from caltech_exp.monitoring.render import as_text, fit_screen, time_of_day
from caltech_exp.monitoring.report_job import describe_report_job, last_report_job
from caltech_exp.monitoring.run_states import EndedJobs
from caltech_exp.monitoring.study_status import StudyStatus
from caltech_exp.records import read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, cancelled_runs
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import FAILURE, Failure, again_folder
from caltech_exp.study.run_status import DONE, QueuedTask, RunStatus, run_status

MAX_PAUSE_SECONDS = 2.0
# How long the queue may not answer before waiting is given up.
PATIENCE_SECONDS = 900.0
# A job is gone once it is absent from the queue so often: a network disk may show its result some seconds later.
MAX_ABSENT = 2
# Between two lines of progress in a log file.
LINE_SECONDS = 30.0

Answer = TypeVar("Answer")


class QueuePoll:
    """Asks the queue every `poll_seconds`; raises UserError after PATIENCE_SECONDS without an answer."""

    def __init__(self, executor: Executor) -> None:
        self._slurm, self._seconds = executor.slurm, executor.profile.poll_seconds
        self._asked = self._answered = time.monotonic()

    def ask(self, question: Callable[[Slurm], Answer]) -> Answer | None:
        """The answer; None if it is too early to ask again, or the queue does not answer."""
        if time.monotonic() - self._asked < self._seconds:
            return None
        self._asked = time.monotonic()
        try:
            answer = question(self._slurm)
        except UserError:
            if self._asked - self._answered > PATIENCE_SECONDS:
                raise
            return None
        self._answered = self._asked
        return answer


def wait_for_runs(
    folder: StudyFolder,
    plan: Sequence[PlannedRun],
    executor: Executor,
    fingerprint: str,
    again: Manifest | None = None,
) -> int:
    """Wait until no run of the plan is queued or running; only results on the data of `fingerprint` count.

    again  a submission that trains finished runs once more: only its runs are waited for, and their second results

    Returns 0 if each run has a result, 1 if one failed or was lost, 2 if runs failed only for mistakes of the user
    (a damaged image, for example), which retrying will not help.
    """
    manifests = [again] if again else folder.manifests()
    submissions = {run: manifest.id for manifest in manifests for task in manifest.tasks for run in task.runs}
    past = {} if again else folder.past_runs(fingerprint)

    def run_folder(run: str) -> Path:
        return again_folder(folder.run(run), again.id) if again else folder.run(run)

    ended = {run.id: RunStatus(past[run.id].status) for run in plan if run.id in past}
    submitted = {run.id for run in plan if run.id in submissions}
    waiting = submitted - ended.keys()
    absent: set[str] = set()
    began = time.monotonic()
    poll = QueuePoll(executor)
    with run_progress(len(submitted)) as show:
        show(len(submitted) - len(waiting), 0)
        while waiting:
            done = past.keys() | {name for name, status in ended.items() if status.state in DONE}
            queue = poll.ask(partial(read_queue, folder, manifests, done=done))
            now_absent = waiting - queue.runs.keys() if queue else set()
            elsewhere = {run for run, task in queue.runs.items() if task.place} if queue else set()
            gone = now_absent & absent
            absent = now_absent if queue else absent
            cancelled = cancelled_runs(folder.path, manifests) if gone else {}
            for name in sorted(waiting & (set(folder.run_names()) | now_absent)):
                queued: dict[str, QueuedTask] | None = {} if name in gone else None
                submission = cancelled.get(name, "") if name in gone else ""
                status = run_status(run_folder(name), queued, True, fingerprint, cancelled_in=submission)
                # A failure counts once its task is out of the queue: Slurm may have requeued it.
                has_failed = name in now_absent | elsewhere and _failed_in(run_folder(name), submissions[name])
                has_left = name in gone and status.state != "running"
                if status.state in DONE or has_left or has_failed:
                    ended[name] = status
                    waiting.discard(name)
            without_result = sum(status.state not in DONE for status in ended.values())
            show(len(submitted) - len(waiting), without_result)
            if waiting:
                _pause(began)
    failed = {name: status for name, status in ended.items() if status.state not in DONE}
    for name, status in failed.items():
        print(_why(name, status, folder.submission(submissions[name])), file=sys.stderr)
    if not failed:
        return 0
    is_mistake = [status.failure is not None and status.failure.kind == "mistake" for status in failed.values()]
    return EXIT_USER_ERROR if all(is_mistake) else 1


def wait_for_report(folder: StudyFolder, report: Path, executor: Executor) -> int:
    """Wait until the last job that writes `report` has ended, and print how; 0 if there is a report, else 1."""
    manifests = [
        manifest
        for manifest in folder.manifests()
        if manifest.aggregation and manifest.aggregation.report == str(report)
    ]
    poll = QueuePoll(executor)
    absent, began = 0, time.monotonic()
    while job := last_report_job(folder, manifests):
        if not job.end and (queued := poll.ask(partial(last_report_job, folder, manifests))):
            job = queued
            absent = 0 if job.state or job.place else absent + 1
        if job.end or absent >= MAX_ABSENT:
            print(describe_report_job(folder, job), file=sys.stdout if job.has_finished else sys.stderr)
            return 0 if job.has_finished else 1
        _pause(began)
    return 0


def _pause(began: float) -> None:
    """Sleep before the files are read again: a tenth of the time since `began`, 0.2 s to MAX_PAUSE_SECONDS."""
    time.sleep(min(MAX_PAUSE_SECONDS, max(0.2, 0.1 * (time.monotonic() - began))))


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


def _why(name: str, status: RunStatus, submission: Path) -> str:
    """Why a run has no result, in one line that leads to its log."""
    if status.state == "failed":
        return f"{name} failed: {status.detail}"
    return f"{name} {status.state}: {status.detail or 'no epoch finished'} (logs: {submission})"


def _failed_in(folder: Path, submission: str) -> bool:
    """Whether the run failed in this very submission, not in an earlier one."""
    failure = read_record(folder / FAILURE, Failure)
    return isinstance(failure, Failure) and failure.submission == submission


# Seconds of rest for each second that reading the status took: a large study on a slow disk is read less often.
REST = 4.0
ReadStatus = Callable[[EndedJobs], StudyStatus]


@dataclass(frozen=True)
class View:
    """The last status that Slurm answered for, or else the last one, and any trouble since."""

    status: StudyStatus
    trouble: str = ""


def watch(read: ReadStatus, console: Console, seconds: float, *, failures: bool) -> None:
    """Show the status that `read` returns, every `seconds` or less often, until nothing is queued or running.

    In place on a terminal, one after the other elsewhere. If Slurm or the disk does not answer for a while, the
    last status stays and a line says so. Raises UserError if the first `read` does.
    """
    views = _views(read, seconds)
    first = next(views)
    if not console.is_terminal or console.is_dumb_terminal:
        text = partial(as_text, failures=failures, ascii_only=console.options.ascii_only)
        print(text(first.status), flush=True)
        for view in views:
            print(f"\n{view.trouble or text(view.status)}", flush=True)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:
        for view in chain([first], views):
            screen.update(draw_view(view, console, seconds, failures), refresh=True)


def _views(read: ReadStatus, seconds: float) -> Iterator[View]:
    began = time.monotonic()
    view = View(read({}))
    yield view
    while view.status.is_open or view.trouble:
        time.sleep(max(seconds, REST * (time.monotonic() - began)))
        began = time.monotonic()
        view = next_view(view, read)
        yield view


def next_view(before: View, read: ReadStatus) -> View:
    """The status now, or the one before with the trouble if Slurm or the disk does not answer."""
    try:
        status = read(before.status.ended_jobs)
    except (UserError, OSError) as error:
        return View(before.status, one_line(str(error)))
    return View(before.status, status.note) if status.note and not before.status.note else View(status)


def draw_view(view: View, console: Console, seconds: float, failures: bool) -> Group:
    """The status, its time, and when it is read again."""
    time_read = time_of_day(view.status.when)
    again = f"again every {seconds:g} s; Ctrl-C ends watching only"
    notes = []
    if view.trouble:
        notes = [Text(f"no news since {time_read}: {view.trouble.partition(';')[0]}; asked {again}", "yellow")]
    elif view.status.is_open:
        notes = [Text(f"read at {time_read}, {again}", "dim")]
    return fit_screen(view.status, console, failures=failures, notes=notes)
