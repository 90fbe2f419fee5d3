"""A campaign of disturbances against studies on the testbed's Slurm: in the end, as if nothing had happened.

    python -m tests.tools.campaign n=40 seed=0 folder=build/campaign

Trains a study of short runs undisturbed, then the same again and again while it does to it what clusters do. A
number and the seed decide what comes. Each study is submitted again, as a user would, until every run has
a result. Then the promises are checked:

    lost            no run is without a result
    trained twice   no two processes trained a run at the same time, and no run was in the queue twice
    other code      each result is of the code that was submitted, and code that was planted never ran
    different       each result is equal to the undisturbed one's to the last bit

Everything goes on record in folder/record.jsonl, a line each. The same command goes on after the last study that
was checked, and with a larger `n` adds to it. Exit status 1 if a promise was broken; that study's files are kept.
"""

import argparse
import contextlib
import json
import platform
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from caltech_exp.files import utc_now
from caltech_exp.study.run_status import CHECKPOINT
from tests.conftest import CHECKOUT
from tests.tools import disturbances as cluster
from tests.tools import faulty_commands as commands
from tests.tools.disturbances import Disturbance
from tests.tools.scene import DISK_MB, BrokenPromiseError, Scene, prepare, slurm
from tests.tools.testbed import until
from tests.tools.watcher import Watcher

CHANGING = (
    "attempts", "code", "earlier_code", "energy_joules", "host", "images_per_second", "job", "peak_memory_bytes",
    "started", "wall_seconds",
)  # fmt: skip
"""What a disturbance may change in a result; in an epoch, its seconds."""

KINDS: tuple[tuple[int, Disturbance], ...] = (
    (3, cluster.kill_task),
    (2, cluster.terminate_task),
    (3, cluster.requeue),
    (3, cluster.usr2),
    (2, cluster.cancel),
    (1, cluster.time_limit),
    (2, cluster.freeze),
    (1, cluster.suspend),
    (1, cluster.suspend_past_take_over),
    (2, cluster.requeue_beside_itself),
    (1, cluster.requeue_elsewhere_beside_itself),
    (1, cluster.lose_survivor),
    (2, cluster.jump_clock),
    (2, cluster.stale_task),
    (1, cluster.kill_slurmd),
    (1, cluster.kill_slurmctld),
    (2, cluster.fill_disk),
    (3, cluster.purge_snapshot),
    *((1, commands.wrapped_sbatch(kind)) for kind in commands.SBATCH),
    (2, commands.squeue_without_answer),
    (2, commands.stranger),
    (2, commands.rival_without_view),
    (1, commands.second_user_looks),
    (1, commands.submit_at_another_time),
    (1, commands.stale_submission),
    (1, commands.submit_to_a_full_disk),
    (1, commands.submit_while_slurmctld_is_away),
    (1, commands.submit_twice_at_once),
)
"""How often in a deck, and what."""

HAND = 8
"""Of how many disturbances that come next the first is taken for which there is something to disturb."""
STUDY_SECONDS = 1200.0
"""After its last disturbance a study must end within that time."""


@dataclass(frozen=True)
class Decks:
    """Which disturbance comes when: decks of cards, each shuffled by the seed and its number."""

    seed: int
    kinds: tuple[tuple[int, Disturbance], ...] = KINDS

    def deck(self, number: int) -> list[Disturbance]:
        """Each kind as often as KINDS says."""
        cards = [kind for often, kind in self.kinds for _ in range(often)]
        random.Random(f"{self.seed} {number}").shuffle(cards)
        return cards

    def disturbance(self, number: int) -> tuple[Disturbance, random.Random]:
        """The disturbance of that number, counted from 0, and its dice."""
        size = sum(often for often, _ in self.kinds)
        return self.deck(number // size)[number % size], random.Random(f"{self.seed} disturbance {number}")


@dataclass(frozen=True)
class Shape:
    """Of each study: how many runs, and how long they are."""

    seeds: int = 16
    epochs: int = 30


@dataclass
class Record:
    """The campaign's lines of JSON."""

    path: Path

    def add(self, what: str, **entry: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"what": what, "when": utc_now(), **entry}) + "\n")

    def entries(self, what: str) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [
            entry for line in self.path.read_text().splitlines() if (entry := json.loads(line))["what"] == what
        ]

    def made(self) -> list[dict[str, Any]]:
        """The disturbances of all studies that were checked."""
        checked = {entry["study"] for entry in self.entries("checked")}
        return [entry for entry in self.entries("disturbance") if entry["study"] in checked]


@dataclass(frozen=True)
class Campaign:
    folder: Path
    decks: Decks
    seeds: int
    pause: tuple[float, float] = (0.3, 2.5)

    @property
    def record(self) -> Record:
        return Record(self.folder / "record.jsonl")

    def reference(self) -> dict[str, dict[str, Any]]:
        """Run id -> its result if nothing disturbs it, trained once."""
        runs = self.folder / "undisturbed"
        scene = Scene(self.folder, runs, tuple(map(str, range(self.seeds))), Watcher(runs))
        if len(scene.results()) < self.seeds:
            done = scene.submit("wait=true", "runs_per_task=8", timeout=7200)
            assert done.returncode == 0, done.stderr
        return scene.results()

    def disturb(self, study: int, numbers: list[int], expected: dict[str, dict[str, Any]]) -> list[int]:
        """One study and as many of these disturbances as there is something to disturb; those that were made."""
        began = time.monotonic()
        broken: list[str] = []
        made: list[int] = []
        with _disk(self.folder / f"study-{study}") as disk:
            scene = Scene(self.folder, disk / "runs", tuple(expected), Watcher(disk / "runs"))
            thread = threading.Thread(target=scene.watcher.watch)
            thread.start()
            try:
                made = self._play(scene, study, numbers, broken)
                self._finish(scene, broken)
            except BrokenPromiseError as error:
                broken.append(str(error))
            finally:
                _end_all(scene)
                scene.watcher.stopped.set()
                thread.join()
            found = check(scene, expected)
            found["broken"] += broken
            self.record.add(
                "checked", study=study, disturbances=len(made), seconds=round(time.monotonic() - began),
                leases=len(scene.watcher.holders), **found,
            )  # fmt: skip
            if any(found.values()):
                kept = self.folder / f"broken-{study}-{int(time.time())}"
                shutil.copytree(disk / "runs", kept)
                print(f"BROKEN, see {kept}: {found}", flush=True)
        return made

    def _play(self, scene: Scene, study: int, numbers: list[int], broken: list[str]) -> list[int]:
        made: list[int] = []
        left = list(numbers)
        scene.submit_until_accepted()
        submitted = time.monotonic()
        dice = random.Random(f"{self.decks.seed} study {study}")
        while left and len(scene.results()) < self.seeds:
            scene.act()
            cluster.administer(scene)
            self._look_for_doubles(scene, broken)
            if not scene.edited and (not scene.jobs() or time.monotonic() - submitted > 15):
                scene.submit_until_accepted()
                submitted = time.monotonic()
            for number in left[:HAND]:
                kind, own_dice = self.decks.disturbance(number)
                if scene.edited and kind.__module__ == commands.__name__:
                    continue  # what a user does now would be of other code, rightly
                began = time.monotonic()
                try:
                    done = kind(scene, own_dice)
                except BrokenPromiseError as error:
                    broken.append(str(error))
                    done = f"BROKEN: {error}"
                if done is not None:
                    left.remove(number)
                    made.append(number)
                    self.record.add(
                        "disturbance", number=number, kind=kind.__name__, done=done, study=study,
                        seconds=round(time.monotonic() - began, 1), results=len(scene.results()),
                    )  # fmt: skip
                    print(f"{number}. {kind.__name__}: {done} ({len(scene.results())} results)", flush=True)
                    break
            time.sleep(dice.uniform(*self.pause))
        return made

    def _finish(self, scene: Scene, broken: list[str]) -> None:
        """Submit until every run has a result, and let everything end."""
        for path in (self.folder / "next").iterdir():
            path.unlink()
        deadline = time.monotonic() + STUDY_SECONDS
        while len(scene.results()) < self.seeds:
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"runs did not end within {STUDY_SECONDS:g} s")
            scene.act()
            cluster.administer(scene)
            self._look_for_doubles(scene, broken)
            if not scene.edited and not scene.jobs():
                scene.submit_until_accepted()
            time.sleep(1)
        scene.act(all_of_them=True)
        # Whoever was stopped wakes up now, and must leave the results alone.
        deadline = time.monotonic() + 120
        while (jobs := scene.jobs()) or scene.tasks():
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"jobs {jobs} and processes {scene.tasks()} are left")
            cluster.administer(scene)
            time.sleep(0.5)
        scene.submit_until_accepted()  # there is nothing to submit, but what could not be removed before goes now
        if jobs := scene.jobs():
            broken.append(f"the study is finished, and {jobs} were queued")

    def _look_for_doubles(self, scene: Scene, broken: list[str]) -> None:
        for run, jobs in scene.queued_runs().items():
            if len(jobs) > 1 and not any(run in line for line in broken):
                broken.append(f"{run} is in the queue twice: {jobs}")


def check(scene: Scene, expected: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Promise -> what breaks it."""
    found = scene.results()
    snapshots = {json.loads(path.read_text())["code"]["source"] for path in _manifests(scene)}
    foreign = scene.folder / "foreign"
    other = [f"{foreign.read_text().split()} ran"] if foreign.exists() else []
    foreign.unlink(missing_ok=True)
    if len(snapshots) > 1:
        other.append(f"{snapshots} were submitted")
    other += [run for run, result in found.items() if result["code"]["source"] not in snapshots]
    other += [run for run, result in found.items() if result.get("earlier_code")]
    return {
        "lost": sorted(expected.keys() - found.keys()),
        "trained_twice": scene.watcher.overlaps(),
        "other_code": other,
        "different": [
            run for run, result in found.items() if comparable(result) != comparable(expected.get(run, {}))
        ],
        "broken": [f"{path} was left" for path in scene.runs.glob(f"*/{CHECKPOINT}")],
    }


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what may change; of its network the content counts, not the place."""
    kept = json.loads(json.dumps({name: value for name, value in result.items() if name not in CHANGING}))
    for epoch in kept.get("epochs", ()):
        epoch.pop("seconds")
    if "config" in kept:
        kept["config"]["model"] = kept["config"]["model"].rpartition("/")[2]
    return dict(kept)


def _manifests(scene: Scene) -> list[Path]:
    return list(scene.runs.glob("submissions/*/manifest.json"))


def _end_all(scene: Scene) -> None:
    """Nothing of the study is left in the queue, or lives."""
    scene.act(all_of_them=True)
    slurm("scancel", "--user=root")
    slurm("scancel", "--user=nobody")
    until(lambda: not slurm("squeue", "--noheader", "--format=%i").strip(), 60)
    for pid in scene.tasks():
        scene.kill(pid)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own at that folder, which goes with it."""
    _unmount(folder)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(path: Path) -> None:
    if path.exists():
        subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True)
        shutil.rmtree(path)


def start(folder: Path, count: int, decks: Decks, shape: Shape, most_studies: int | None = None) -> Counter[str]:
    """Go on with the campaign in `folder` until it has `count` disturbances or so many studies; how often what."""
    seeds, epochs = shape.seeds, shape.epochs
    prepare(folder, epochs)
    campaign = Campaign(folder, decks, seeds)
    record = campaign.record
    settings = {"seed": decks.seed, "runs": seeds, "epochs": epochs}
    for entry in record.entries("started"):
        before = {name: entry[name] for name in settings}
        assert before == settings, f"{folder} is of a campaign with {before}; use another folder"
    record.add("started", **settings, **versions())
    slurm("scancel", "--user=root")
    expected = campaign.reference()
    assert len(expected) == seeds
    study = max((entry["study"] for entry in record.entries("disturbance")), default=0)
    while most_studies is None or study < most_studies:
        numbers = {entry["number"] for entry in record.made()}
        left = [number for number in range(count) if number not in numbers]
        if not left:
            break
        study += 1
        campaign.disturb(study, left, expected)
    return Counter(entry["kind"] for entry in record.made())


def versions() -> dict[str, str]:
    """Of what is disturbed."""
    commit = subprocess.run(
        ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    python, torch = platform.python_version(), version("torch")
    return {"code": commit.stdout.strip(), "python": python, "torch": torch, "slurm": slurm("sinfo", "-V").strip()}


def broken_promises(record: Record) -> Counter[str]:
    """Promise -> how often it was broken."""
    found: Counter[str] = Counter()
    for entry in record.entries("checked"):
        for promise in ("lost", "trained_twice", "other_code", "different", "broken"):
            found[promise] += len(entry[promise])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="n=40 seed=0 folder=build/campaign runs=16 epochs=30")
    shape = Shape()
    values = {"n": "40", "seed": "0", "folder": "build/campaign"}
    values |= {"runs": str(shape.seeds), "epochs": str(shape.epochs)}
    values |= dict(word.split("=", 1) for word in parser.parse_args().words)
    folder = Path(values["folder"]).resolve()
    record = Record(folder / "record.jsonl")
    shape = Shape(int(values["runs"]), int(values["epochs"]))
    counts = start(folder, int(values["n"]), Decks(int(values["seed"])), shape)
    for kind, count in counts.most_common():
        print(f"{count:5d} {kind}")
    checked = record.entries("checked")
    seconds = sum(entry["seconds"] for entry in checked)
    total = sum(counts.values())
    print(
        f"{total} disturbances of seed {values['seed']} in {len(checked)} studies of {values['runs']} runs: "
        f"{seconds / 60:.0f} min, {seconds / max(1, total):.1f} s each"
    )
    broken = broken_promises(record)
    print(", ".join(f"{count} {promise.replace('_', ' ')}" for promise, count in broken.items()))
    return 1 if any(broken.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
