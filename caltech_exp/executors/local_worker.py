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
from caltech_exp.executors.executor import Task
from caltech_exp.executors.local import AGGREGATION, PREPARATION, QUEUE, LocalQueue, is_alive, write_state
from caltech_exp.executors.task_process import dump_own
from caltech_exp.study.manifest import cancelled_jobs

NO_TIME_LIMIT_MINUTES = 60 * 24 * 365
POLL_SECONDS = 0.2
KILL_SECONDS = 120.0  # a task that was told to end has this long to save a checkpoint


@dataclass
class _RunningTask:
    """A task that runs; `ended_at` is when it was told to end (time.monotonic)."""

    job: "submitit.Job[None]"
    ended_at: float | None = None
    is_killed: bool = False

    def end(self) -> None:
        """Tell the task to save a checkpoint and end; kill it if it has not done so in time."""
        if self.ended_at is None:
            # The controller passes the signal on. It is a child of this process that was not waited for, so its
            # number cannot have become another process's.
            os.kill(int(self.job.job_id), signal.SIGTERM)
            self.ended_at = time.monotonic()
        elif time.monotonic() - self.ended_at > KILL_SECONDS and not self.is_killed:
            self.job.cancel()  # the controller interrupts its task, and kills it a second later
            self.is_killed = True


@dataclass
class _QueueState:
    """What queue.json records: waiting and running tasks, and submitit's job id of each that was started."""

    folder: Path
    waiting: list[str]
    running: dict[str, _RunningTask] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Write queue.json; if the disk is full, the next change does."""
        with contextlib.suppress(OSError):
            write_state(self.folder, self.waiting, self.running, self.jobs)

    def update(self) -> None:
        """Remove the tasks that have ended, and end those that were cancelled."""
        before = (len(self.waiting), len(self.running))
        names = cancelled_jobs(self.folder)
        self.waiting = [name for name in self.waiting if name not in names]
        for name, task in list(self.running.items()):
            if task.job.done():
                del self.running[name]
            elif name in names:
                task.end()
        if (len(self.waiting), len(self.running)) != before:
            self.write()


def run_queue(folder: Path) -> None:
    """Run all tasks of the queue file. Raises UntrustedError if other users could have written it."""
    check_own_folder(folder)
    utils.cloudpickle_dump = dump_own
    queue: LocalQueue = pickle.loads(read_own(folder / QUEUE))
    state = _QueueState(folder, queue.names)
    if queue.preparation:
        _run(state, {PREPARATION: queue.preparation}, 1, ())
    _run(state, queue.tasks, queue.slots, queue.gpus)
    if queue.aggregation:
        while AGGREGATION in state.waiting and any(is_alive(other) for other in queue.after):
            time.sleep(POLL_SECONDS)
            state.update()
        _run(state, {AGGREGATION: queue.aggregation}, 1, ())


def _run(state: _QueueState, tasks: dict[str, Task], slots: int, gpus: tuple[str, ...]) -> None:
    """Run the tasks to their ends, at most `slots` at a time, each slot on a GPU of its own if there are any."""
    executor = submitit.LocalExecutor(
        state.folder, python=shlex.join(own_command("caltech_exp.executors.task_process"))
    )
    task_in_slot: dict[int, str] = {}
    while True:
        state.update()
        task_in_slot = {slot: name for slot, name in task_in_slot.items() if name in state.running}
        waiting = [name for name in state.waiting if name in tasks]
        if not waiting and not task_in_slot:
            return
        free_slots = [slot for slot in range(slots) if slot not in task_in_slot]
        for slot, name in zip(free_slots, waiting, strict=False):
            gpu = [gpus[slot % len(gpus)]] if gpus else []
            executor.update_parameters(timeout_min=NO_TIME_LIMIT_MINUTES, gpus_per_node=len(gpu))
            executor.parameters["visible_gpus"] = gpu  # update_parameters takes numbers only, no UUIDs
            job: submitit.Job[None] = executor.submit(tasks[name])
            task_in_slot[slot] = name
            state.waiting.remove(name)
            state.running[name] = _RunningTask(job)
            state.jobs[name] = job.job_id
            state.write()
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    # The process that started this one ignored or blocked these signals at that moment, and that is inherited.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        run_queue(Path(sys.argv[1]))
    except UntrustedError as error:
        refuse(Path(sys.argv[1]), str(error))
