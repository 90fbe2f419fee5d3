"""A campaign of disturbances against a study on the testbed's Slurm: in the end, as if nothing had happened.

    python -m tests.jobs.campaign runs=20 disturbances=40 seed=0

Trains `runs` short runs undisturbed, then the same again while it kills, requeues, signals, cancels and restarts
whatever it finds at random moments, and submits the study again whenever its queue is empty. At the end there is a
result for each run, equal to the undisturbed one's to the last bit, and no two processes trained a run at the same
time; anything else is an AssertionError. What was done is printed, by kind.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caltech_exp.leftovers import CHECKPOINT
from caltech_exp.standin import write_stand_in
from tests.conftest import CHECKOUT
from tests.jobs.disturbances import administer, deck, running_jobs
from tests.jobs.testbed import profile, queue, until
from tests.jobs.watcher import Watcher

CHANGING = (
    "attempts", "code", "energy_joules", "host", "images_per_second", "job", "peak_memory_bytes", "started",
    "wall_seconds",
)  # fmt: skip
"""What a disturbance may change in a result; in an epoch, its seconds."""


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
