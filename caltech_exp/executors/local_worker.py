"""The process of a queue on this machine, started by local.start_queue.

Its command line is `python ... caltech_exp.executors.local_worker FOLDER`.
"""

import contextlib
import os
import pickle
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core import utils

from caltech_exp.bootstrap import UntrustedError, check_own_folder, own_command, read_own, refuse
from caltech_exp.executors.local import (
    AGGREGATION,
    PREPARATION,
    QUEUE,
    LocalQueue,
    Task,
    cancelled,
    is_alive,
    write_state,
)
from caltech_exp.executors.task_process import dump_own

NO_TIME_LIMIT_MINUTES = 60 * 24 * 365
POLL_SECONDS = 0.2
KILL_SECONDS = 120.0
"""What a task has to save where it is, when it was told to end; then it is killed."""


@dataclass
class _Running:
    """A task that runs; `told` is when it was told to end (time.monotonic), `killed` whether it was killed."""

    job: "submitit.Job[None]"
    told: float | None = None
    killed: bool = False

    def end(self) -> None:
        """Have it save where it is and end, or kill it if it does not.

        Its controller is a child of this process that has not been waited for: nobody else can have its number.
        """
        if self.told is None:
            os.kill(int(self.job.job_id), signal.SIGTERM)  # which the controller passes on
            self.told = time.monotonic()
        elif time.monotonic() - self.told > KILL_SECONDS and not self.killed:
            self.job.cancel()  # the controller interrupts its task, and kills it a second later
            self.killed = True


@dataclass
class _Account:
    """What waits, what runs and what was started, as queue.json tells it."""

    folder: Path
    waiting: list[str]
    running: dict[str, _Running] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Tell it; on a full disk the next change will."""
        with contextlib.suppress(OSError):
            write_state(self.folder, self.waiting, self.running, self.jobs)

    def look(self) -> None:
        """Forget what has ended or was cancelled, end what is to end."""
        before = (len(self.waiting), len(self.running))
        ending = cancelled(self.folder)
        self.waiting = [name for name in self.waiting if name not in ending]
        for name, running in list(self.running.items()):
            if running.job.done():
                del self.running[name]
            elif name in ending:
                running.end()
        if (len(self.waiting), len(self.running)) != before:
            self.write()


def run_queue(folder: Path) -> None:
    """Run all tasks of the queue file. Raises UntrustedError if others could have written it."""
    check_own_folder(folder)
    utils.cloudpickle_dump = dump_own
    queue: LocalQueue = pickle.loads(read_own(folder / QUEUE))
    account = _Account(folder, queue.names)
    if queue.preparation:
        _run(account, {PREPARATION: queue.preparation}, 1, ())
    _run(account, queue.tasks, queue.slots, queue.gpus)
    if queue.aggregation:
        while AGGREGATION in account.waiting and any(is_alive(other) for other in queue.after):
            time.sleep(POLL_SECONDS)
            account.look()
        _run(account, {AGGREGATION: queue.aggregation}, 1, ())


def _run(account: _Account, tasks: dict[str, Task], slots: int, gpus: tuple[str, ...]) -> None:
    """Run the tasks, at most `slots` at once, each slot on its own GPU where there are any, to their ends."""
    executor = submitit.LocalExecutor(
        account.folder, python=shlex.join(own_command("caltech_exp.executors.task_process"))
    )
    of_slot: dict[int, str] = {}
    while True:
        account.look()
        of_slot = {slot: name for slot, name in of_slot.items() if name in account.running}
        waiting = [name for name in account.waiting if name in tasks]
        if not waiting and not of_slot:
            return
        free = [slot for slot in range(slots) if slot not in of_slot]
        for slot, name in zip(free, waiting, strict=False):
            gpu = [gpus[slot % len(gpus)]] if gpus else []
            executor.update_parameters(timeout_min=NO_TIME_LIMIT_MINUTES, gpus_per_node=len(gpu))
            executor.parameters["visible_gpus"] = gpu  # update_parameters takes numbers only, no UUIDs
            job: submitit.Job[None] = executor.submit(tasks[name])
            of_slot[slot] = name
            account.waiting.remove(name)
            account.running[name] = _Running(job)
            account.jobs[name] = job.job_id
            account.write()
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    # Whoever started it ignored these for that moment, and ignored signals are inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        run_queue(Path(sys.argv[1]))
    except UntrustedError as error:
        refuse(Path(sys.argv[1]), str(error))
