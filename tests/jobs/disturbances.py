"""What a cluster does to running tasks, done on purpose: each returns whether there was something to disturb."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import CHECKOUT
from tests.jobs.testbed import slurm, until

TESTBED = Path(os.environ.get("CALTECH_EXP_TESTBED", "/var/tmp/caltech-exp-testbed"))


def tasks() -> list[int]:
    """The processes of all tasks that Slurm runs on this machine."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            of_slurm = b"SLURM_JOB_ID=" in (path / "environ").read_bytes()
            if of_slurm and b"python" in words[0] and b"submitit.core._submit" in words:
                found.append(int(path.name))
    return sorted(found)


def kill_task(dice: random.Random) -> bool:
    """SIGKILL of a task's process."""
    return _signal(dice, signal.SIGKILL)


def usr2(dice: random.Random) -> bool:
    """The signal that Slurm sends before preemption and the time limit."""
    return _slurm(dice, "scancel", "--signal=USR2")


def requeue(dice: random.Random) -> bool:
    """`scontrol requeue`, as an administrator's or a preemption's."""
    return _slurm(dice, "scontrol", "requeue")


def cancel(dice: random.Random) -> bool:
    """`scancel` of a task; the study is submitted again later."""
    return _slurm(dice, "scancel")


def time_limit(dice: random.Random) -> bool:
    """A running task reaches its time limit; queued again, it has a longer one."""
    jobs = running_jobs()
    if not jobs:
        return False
    job = dice.choice(jobs)
    if not _succeeds("scontrol", "update", f"JobId={job}", "TimeLimit=1"):
        return False
    until(lambda: job not in running_jobs(), 180)
    return _succeeds("scontrol", "update", f"JobId={job}", "TimeLimit=60")


def freeze(dice: random.Random) -> bool:
    """A task's process stands still for a while."""
    running = tasks()
    if not running:
        return False
    pid = dice.choice(running)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(pid, signal.SIGCONT)
    return True


def kill_slurmd(_dice: random.Random) -> bool:
    """slurmd dies and comes back."""
    return _restart("slurmd")


def kill_slurmctld(_dice: random.Random) -> bool:
    """slurmctld dies and comes back."""
    return _restart("slurmctld")


DISTURBANCES: tuple[tuple[int, Callable[[random.Random], bool]], ...] = (
    (8, kill_task),
    (8, requeue),
    (8, usr2),
    (6, cancel),
    (3, time_limit),
    (3, freeze),
    (2, kill_slurmd),
    (2, kill_slurmctld),
)
"""How often of 40, and what."""


def _signal(dice: random.Random, number: int) -> bool:
    running = tasks()
    if not running:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(dice.choice(running), number)
    return True


def _slurm(dice: random.Random, *command: str) -> bool:
    jobs = running_jobs()
    return bool(jobs) and _succeeds(*command, dice.choice(jobs))


def running_jobs() -> list[str]:
    """Ids of the array tasks that run now."""
    return sorted(slurm("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i").split())


def _succeeds(*command: str) -> bool:
    """The job may have ended since it was chosen, or Slurm may be busy with it: then nothing was disturbed."""
    try:
        return subprocess.run(command, capture_output=True, timeout=15, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _restart(daemon: str) -> bool:
    pid = int((TESTBED / "run" / f"{daemon}.pid").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    subprocess.run(
        ["bash", str(CHECKOUT / "slurm/testbed/start.sh")], check=True, capture_output=True, timeout=180
    )
    return True


def administer() -> None:
    """What is an administrator's to do: a controller that came back may start a job twice, and then drains the
    node."""
    if "drain" in slurm("sinfo", "--noheader", "--format=%T"):
        slurm("scontrol", "update", "NodeName=gpu01", "State=RESUME")


def deck(dice: random.Random, disturbances: int) -> list[Callable[[random.Random], bool]]:
    """So many disturbances in random order, every kind about as often as DISTURBANCES says, and at least once."""
    cards = [kind for often, kind in DISTURBANCES for _ in range(max(1, round(often * disturbances / 40)))]
    dice.shuffle(cards)
    return cards
