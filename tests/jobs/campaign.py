"""A campaign of disturbances against a study on the testbed's Slurm: in the end, as if nothing had happened.

    python -m tests.jobs.campaign runs=20 disturbances=40 seed=0

Trains `runs` short runs undisturbed, then the same again while it kills, requeues, signals, cancels and restarts
whatever it finds at random moments, and submits the study again whenever its queue is empty. At the end there is a
result for each run, equal to the undisturbed one's to the last bit, and no two processes trained a run at the same
time; anything else is an AssertionError. What was done is printed, by kind.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caltech_exp.leftovers import CHECKPOINT
from caltech_exp.standin import write_stand_in
from tests.conftest import CHECKOUT
from tests.jobs.testbed import profile, queue, slurm, until

CHANGING = (
    "attempts", "code", "energy_joules", "host", "images_per_second", "job", "peak_memory_bytes", "started",
    "wall_seconds",
)  # fmt: skip
"""What a disturbance may change in a result; in an epoch, its seconds."""
TESTBED = Path(os.environ.get("CALTECH_EXP_TESTBED", "/var/tmp/caltech-exp-testbed"))


@dataclass
class Watcher:
    """Looks at every lease and at the life of its process, many times a second, from outside of the suite."""

    runs: Path
    holders: dict[tuple[str, int], tuple[int, int, float]] = field(default_factory=dict)
    alive: dict[tuple[int, int], float] = field(default_factory=dict)
    given_back: set[tuple[str, int]] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """(run, number) -> process and when it was first seen holding; process -> when it was last seen alive."""
        for path in self.runs.glob("*/lease.*.json"):
            key = (path.parent.name, int(path.name.split(".")[1]))
            with contextlib.suppress(OSError):
                if path.stat().st_mtime == 0:
                    self.given_back.add(key)
            if key not in self.holders:
                with contextlib.suppress(OSError, ValueError):
                    holder = json.loads(path.read_text())
                    self.holders[key] = (holder["pid"], holder["started"], time.monotonic())
        for pid, started, _ in self.holders.values():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX" and int(fields[19]) == started:
                    self.alive[pid, started] = time.monotonic()

    def sees_training(self) -> bool:
        """Whether some process holds a run now."""
        now = time.monotonic()
        return any(
            self.alive.get(holder[:2], 0.0) > now - 0.5 and key not in self.given_back
            for key, holder in list(self.holders.items())
        )

    def watch(self) -> None:
        while not self.stopped.wait(0.02):
            self.look()

    def overlaps(self) -> list[str]:
        """Runs that a process took while the one before it was still there and had not given them back."""
        found = []
        for (run, number), (pid, started, since) in self.holders.items():
            before = self.holders.get((run, number - 1))
            if (run, number - 1) in self.given_back:
                continue
            if before and before[:2] != (pid, started) and self.alive.get(before[:2], 0.0) > since + 0.1:
                found.append(f"{run}: lease {number} while the holder of {number - 1} was alive")
        return found


@dataclass(frozen=True)
class Campaign:
    """A study and what is done to it; `words` are those of jobs/submit.py."""

    folder: Path
    words: tuple[str, ...]
    runs: int
    disturbances: int
    dice: random.Random

    def submit(self, runs: Path, *more: str) -> None:
        script = [sys.executable, str(CHECKOUT / "jobs" / "submit.py"), *self.words, f"runs={runs}", *more]
        # While slurmctld restarts, sbatch may say so: the user's answer is to try again.
        for _ in range(20):
            done = subprocess.run(script, capture_output=True, text=True, timeout=7200, check=False)
            if done.returncode == 0:
                return
            time.sleep(2)
        raise AssertionError(done.stderr)


def results(runs: Path) -> dict[str, dict[str, Any]]:
    """Run id -> its result without what may change."""
    found = {}
    for path in runs.glob("*/result.json"):
        result = json.loads(path.read_text())
        for name in CHANGING:
            result.pop(name)
        for epoch in result["epochs"]:
            epoch.pop("seconds")
        found[path.parent.name] = result
    return found


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


def run_campaign(campaign: Campaign) -> Counter[str]:
    """Disturb until all is done; how often what. Raises AssertionError if the end is not as promised."""
    reference, runs = campaign.folder / "undisturbed", campaign.folder / "disturbed"
    administer()
    campaign.submit(reference, "wait=true")
    expected = results(reference)
    assert len(expected) == campaign.runs

    watcher = Watcher(runs)
    thread = threading.Thread(target=watcher.watch)
    thread.start()
    counts: Counter[str] = Counter()
    cards = deck(campaign.dice, campaign.disturbances)
    try:
        campaign.submit(runs)
        while cards or len(results(runs)) < campaign.runs:
            if len(results(runs)) == campaign.runs:
                break  # it was over before the last disturbances
            administer()
            if not running_jobs():
                campaign.submit(runs)
            time.sleep(campaign.dice.uniform(0.5, 4.0) if cards else 1.0)
            if cards and watcher.sees_training() and cards[-1](campaign.dice):
                what = cards.pop().__name__
                counts[what] += 1
                print(f"{sum(counts.values())}. {what}, {len(results(runs))} results", flush=True)
        until(lambda: not queue())
    finally:
        watcher.stopped.set()
        thread.join()
    found = results(runs)
    assert found.keys() == expected.keys()
    for run, result in expected.items():
        assert found[run] == result, f"{run} is not what it is without disturbances"
    assert not watcher.overlaps(), watcher.overlaps()
    assert not list(runs.glob(f"*/{CHECKPOINT}")), "checkpoints of finished runs were left"
    counts["leases taken"] = len(watcher.holders)
    return counts


def start(folder: Path, runs: int, disturbances: int, seed: int, epochs: int) -> Counter[str]:
    """A campaign in `folder` on the testbed."""
    data = folder / "data"
    write_stand_in(data)
    words = (
        "table=resnet.batch_256", "weights=none", f"seeds={runs}", f"epochs={epochs}", "batch_size=4",
        "precision=fp32", "max_images=12", f"data={data}", f"packs={folder / 'packs'}",
        f"profile={profile(folder, mem_gb=2, poll_seconds=1, checkpoint_minutes=0.05, cpus_per_task=1)}",
    )  # fmt: skip
    return run_campaign(Campaign(folder, words, runs, disturbances, random.Random(seed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="runs=20 disturbances=40 seed=0 epochs=12")
    given = dict(word.split("=", 1) for word in parser.parse_args().words)
    values = {"runs": 20, "disturbances": 40, "seed": 0, "epochs": 12} | {k: int(v) for k, v in given.items()}
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    print(f"in {folder}, which stays if the campaign fails", flush=True)
    counts = start(folder, **values)
    shutil.rmtree(folder)
    print(f"{values['runs']} runs as without disturbances, in {(time.monotonic() - began) / 60:.1f} min:")
    for what, count in counts.most_common():
        print(f"{count:4d} {what}")


if __name__ == "__main__":
    main()
