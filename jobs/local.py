"""A queue on this machine: a detached process that keeps at most N of submitit's local jobs running.

submitit's local executor starts every job at once; this one starts the next when a slot is free. The process
holds a lock on `queue.lock` for as long as it lives, so whoever reads the folder knows whether it does.
"""

import fcntl
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import submitit

from caltech_exp.files import write_atomically
from caltech_exp.provenance import CHECKOUT
from jobs.capacity import tasks_at_once
from jobs.logs import QUEUE_LOG
from jobs.profiles import LocalProfile, local_gpus
from jobs.task import TrainTask

LOCK = "queue.lock"
QUEUE = "queue.pkl"
STATE = "queue.json"
NO_TIME_LIMIT_MINUTES = 60 * 24 * 365
POLL_SECONDS = 0.2


def job_name(index: int) -> str:
    """The id of task `index` in a local manifest."""
    return f"local-{index}"


def start_queue(folder: Path, tasks: Sequence[TrainTask], profile: LocalProfile) -> None:
    """Start the queue process for the tasks; it outlives this process and its terminal.

    Raises UserError if the GPUs of this machine cannot be told, OSError if `folder` cannot be written.
    """
    gpus = [] if profile.device == "cpu" else list(local_gpus())
    slots = tasks_at_once(profile)
    (folder / QUEUE).write_bytes(pickle.dumps((list(tasks), slots, gpus)))
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        # The lock goes with the open file, which the child inherits: there is no moment without an owner.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (folder / QUEUE_LOG).open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "jobs.local", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1"},
                start_new_session=True,
                pass_fds=(lock,),
            )
    finally:
        os.close(lock)


def python_path() -> str:
    """PYTHONPATH with this checkout first: tasks run the code that submitted them, wherever that was done."""
    rest = os.environ.get("PYTHONPATH", "")
    return f"{CHECKOUT}{os.pathsep}{rest}" if rest else str(CHECKOUT)


def is_alive(folder: Path) -> bool:
    """Whether the queue process of a submission still runs."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask must not see each other
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def queued_tasks(folder: Path) -> dict[str, str]:
    """Id -> `queued` or `running` of the open tasks of a local submission; empty once its process is gone."""
    if not is_alive(folder):
        return {}
    tasks, _, _ = pickle.loads((folder / QUEUE).read_bytes())
    known = json.loads((folder / STATE).read_text()) if (folder / STATE).exists() else {"running": [], "ended": []}
    return {
        job_name(index): "running" if index in known["running"] else "queued"
        for index in range(len(tasks))
        if index not in known["ended"]
    }


def run_queue(folder: Path) -> None:
    """Run all tasks of the queue file, at most its number of slots at once, each slot on its own GPU."""
    tasks, slots, gpus = pickle.loads((folder / QUEUE).read_bytes())
    executor = submitit.LocalExecutor(folder)
    waiting = list(enumerate(tasks))
    running: dict[int, tuple[int, submitit.Job[None]]] = {}
    ended: list[int] = []
    written = ""
    while waiting or running:
        for slot in set(range(slots)) - set(running):
            if not waiting:
                break
            index, task = waiting.pop(0)
            gpu = [gpus[slot % len(gpus)]] if gpus else []
            executor.update_parameters(timeout_min=NO_TIME_LIMIT_MINUTES, gpus_per_node=len(gpu), visible_gpus=gpu)
            running[slot] = (index, executor.submit(task))
        for slot, (index, job) in list(running.items()):
            if job.done():
                del running[slot]
                ended.append(index)
        state = json.dumps({"running": [index for index, _ in running.values()], "ended": ended})
        if state != written:
            write_atomically(folder / STATE, state)
            written = state
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    run_queue(Path(sys.argv[1]))
