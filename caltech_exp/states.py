"""What became of a run, told from its files and, where it is known, from the queue."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caltech_exp.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    Damaged,
    Failure,
    Progress,
    Result,
    read_record,
    read_result,
)

State = Literal["pending", "queued", "running", "finished", "diverged", "failed", "lost", "damaged"]
DONE: tuple[State, ...] = ("finished", "diverged")


@dataclass(frozen=True)
class RunState:
    """The state of a run and, in one line, what else is known of it.

    pending   never submitted, as far as this folder tells
    queued    waiting in the queue
    running   training
    failed    ended with an error, which `detail` gives
    lost      was submitted or training, and is in no queue any more
    damaged   its result file cannot be read; counts as missing

    `failure` is the record of a failed run.
    """

    state: State
    detail: str = ""
    failure: Failure | None = None
    result: Result | None = None


def run_state(
    folder: Path, queue: Mapping[str, str] | None, submitted: bool, fingerprint: str | None = None
) -> RunState:
    """The state of the run in `folder`.

    queue        run id -> `queued` or `running` for every run in the queue; None where nobody asked the queue
    submitted    whether some manifest names the run
    fingerprint  of the data set; a result on other data counts as damaged. None takes a result on any
    """
    result = read_result(folder)
    if isinstance(result, Result) and fingerprint not in (None, result.data.fingerprint):
        result = Damaged(folder / RESULT, f"is of another data set, {result.data.fingerprint}")
    if isinstance(result, Result):
        return RunState(result.status, result=result)
    if isinstance(result, Damaged):
        detail = f"{result.path.name}: {result.reason}"
        return RunState("queued" if queue and folder.name in queue else "damaged", detail)
    progress = read_record(folder / PROGRESS, Progress)
    at = f"epoch {progress.epoch} of {progress.epochs}, {progress.when}" if isinstance(progress, Progress) else ""
    if queue is not None and folder.name in queue:
        # A task trains several runs in turn: its running does not make all of them run.
        return RunState("running", at) if at and queue[folder.name] == "running" else RunState("queued")
    failure = read_record(folder / FAILURE, Failure)
    if isinstance(failure, Failure):
        return RunState("failed", f"{failure.error} (log: {failure.log})", failure=failure)
    if isinstance(failure, Damaged):
        return RunState("failed", f"its failure record cannot be read: {failure.reason}")
    if queue is None:
        if at:
            return RunState("running", at)
        return RunState("queued") if submitted else RunState("pending")
    return RunState("lost", at) if submitted or at else RunState("pending")
