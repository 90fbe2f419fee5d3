"""Studies that an earlier version began, carried on by this one: `python -m tests.tools.upgrade`.

The code of commit `old` (by default the one before the modules moved into one package) starts two studies on the
testbed. When it stops, the study on Slurm has finished runs, one in training, one requeued, one that Slurm holds,
one whose sbatch timed out although the job is queued, and a report that waits. The study on this machine has
finished runs, one in training and one waiting. Then this checkout carries both on with status, submit, cancel and
aggregate.

An AssertionError names what went wrong: a job that was cancelled, lost or doubled, a run that was trained twice,
or a result that differs in any bit from that of an undisturbed run of the old code.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from caltech_exp.study.results import Result
from tests.conftest import CHECKOUT, NO_NETWORK
from tests.tools.campaign import comparable
from tests.tools.testbed import path_with, profile, queue, slurm, until
from tests.tools.watcher import Watcher

BEFORE_THE_MOVE = "27d132ec33fc1add03d998ecb34d1740f08b027b"
SLOW_SECONDS = 4
FORMER_SETTING = "prefetch_factor"
"""A profile setting that no version has: it stands for one that an earlier version had."""

NETWORK = """\
import time
from pathlib import Path

from torch import nn


class Brake(nn.Module):
    def forward(self, images):
        if self.training and Path({brake!r}).exists():
            time.sleep({seconds})
        return images


def quick(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 16, stride=16), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten(),
        nn.Dropout(), nn.Linear(8 * 49, num_classes),
    )


def slow(num_classes):
    return nn.Sequential(Brake(), quick(num_classes))
"""
"""A step of `slow` takes SLOW_SECONDS while the brake exists, so that no run ends before the upgrade."""
STUDY = """\
title: Carried over
networks: {quick: net.py:quick, slow: net.py:slow}
settings: {model: slow, weights: none, batch_size: 4, max_images: 24, precision: fp32, workers: 0, augment: crop}
sections:
  upgrade:
    tables:
      finished: {settings: {epochs: 2, model: quick}, sweep: {lr: [1e-2, 1e-3]}}
      training: {settings: {epochs: 12}, sweep: {lr: [1e-2]}}
      held: {settings: {epochs: 13}, sweep: {lr: [1e-2]}}
      requeued: {settings: {epochs: 14}, sweep: {lr: [1e-2]}}
      cancelled: {settings: {epochs: 15}, sweep: {lr: [1e-2]}}
      orphaned: {settings: {epochs: 16}, sweep: {lr: [1e-2]}}
"""
ARRAY = ("training", "held", "requeued")
"""Tables whose runs are one array."""
LOCAL = "table=upgrade.finished,upgrade.training,upgrade.held"


@dataclass(frozen=True)
class Study:
    """A study in `runs`, to which the code in a checkout submits by the same words as the other code."""

    runs: Path
    words: tuple[str, ...]

    def command(
        self, checkout: Path, script: str, *words: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return command(checkout, script, f"runs={self.runs}", *words, **environment)

    def submit(self, checkout: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.command(checkout, "jobs/submit.py", *self.words, *words, **environment)

    def status(self, checkout: Path) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(succeed(self.command(checkout, "jobs/status.py", "json=true")))
        return status

    def states(self, checkout: Path) -> dict[str, set[str]]:
        """Table -> the states of its runs."""
        states: dict[str, set[str]] = {}
        for run in self.status(checkout)["runs"]:
            states.setdefault(table_of(run), set()).add(run["state"])
        return states

    def results(self) -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in self.runs.glob("*/result.json")}

    def checkpoint(self, run: str) -> Path:
        return self.runs / run / "checkpoint.pt"

    def manifests(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.runs.glob("submissions/*/manifest.json"))]


def table_of(run: dict[str, Any]) -> str:
    """`finished` of a run that status lists for `upgrade.finished=1e-2`."""
    return str(run["serves"][0]).partition("=")[0].partition(".")[2]


def command(checkout: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **NO_NETWORK, "OMP_NUM_THREADS": "1", **environment}
    variables.pop("CALTECH101_ROOT", None)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(checkout / script), *words],
        capture_output=True, text=True, check=False, timeout=600, env=variables,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    version = "new" if checkout == CHECKOUT else "old"
    print(f"{time.monotonic() - started:5.1f} s  {version} {script} {' '.join(words[-3:])}", flush=True)
    return done


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """Standard output of a command that must succeed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Upgrade:
    """What the old code leaves, and the folder in which it lies."""

    folder: Path
    old: Path
    cluster: Study
    local: Study
    undisturbed: Study

    @property
    def brake(self) -> Path:
        return self.folder / "brake"

    @cached_property
    def ids(self) -> dict[str, str]:
        """Table -> id of its run; of `finished` the first."""
        ids: dict[str, str] = {}
        for run in self.undisturbed.status(self.old)["runs"]:
            ids.setdefault(table_of(run), run["id"])
        return ids

    def train_undisturbed(self) -> None:
        two_slots = ("profile.max_parallel=2", "runs_per_task=4")
        succeed(self.undisturbed.submit(self.old, "section=all", *two_slots, "wait=true"))
        assert len(self.undisturbed.results()) == 7

    def begin_local(self) -> None:
        """Leave runs of the local queue finished, in training and waiting."""
        succeed(self.local.submit(self.old, LOCAL))
        until(self.local.checkpoint(self.ids["training"]).is_file, 300)

    def begin_on_slurm(self) -> None:
        ids, study, old = self.ids, self.cluster, self.old
        succeed(study.submit(old, "table=upgrade.finished", "wait=true"))
        succeed(study.submit(old, self.array, *self.report))
        jobs = self.jobs()
        until(study.checkpoint(ids["training"]).is_file)
        until(study.checkpoint(ids["held"]).is_file)
        slurm("scontrol", "requeuehold", jobs["held"])
        until(study.checkpoint(ids["requeued"]).is_file)
        succeed(study.submit(old, "table=upgrade.cancelled"))
        slurm("scontrol", "requeue", jobs["requeued"])
        until(study.checkpoint(ids["cancelled"]).is_file)
        done = study.submit(old, "table=upgrade.orphaned", PATH=self.sbatch_without_answer())
        assert done.returncode == 2, done.stdout
        assert "sbatch did not end within" in done.stderr
        (self.folder / "silent").unlink()
        manifest = study.runs / "submissions" / study.manifests()[-1]["id"] / "manifest.json"
        recorded = json.loads(manifest.read_text())
        recorded["profile"][FORMER_SETTING] = 2
        manifest.write_text(json.dumps(recorded))

    @property
    def array(self) -> str:
        return f"table={','.join(f'upgrade.{table}' for table in ARRAY)}"

    @property
    def report(self) -> tuple[str, str]:
        return ("aggregate=true", f"out={self.folder / 'report'}")

    def jobs(self) -> dict[str, str]:
        """Table -> job of each run that a manifest names."""
        ids = {run: table for table, run in self.ids.items()}
        return {
            ids[run]: task["job"]
            for manifest in self.cluster.manifests()
            for task in manifest["tasks"]
            for run in task["runs"]
            if run in ids
        }

    def sbatch_without_answer(self) -> str:
        """A PATH on which sbatch queues the job and hangs, and squeue hangs from then on."""
        silent = self.folder / "silent"
        squeue = f"if [ -e '{silent}' ]; then sleep 1000; fi\nexec {shutil.which('squeue')} \"$@\""
        path_with(self.folder, "squeue", squeue)
        script = f"{shutil.which('sbatch')} \"$@\" >/dev/null; touch '{silent}'; sleep 1000"
        return path_with(self.folder, "sbatch", script)

    def carry_on_slurm(self) -> None:
        study, ids, jobs = self.cluster, self.ids, self.jobs()
        finished = {path: path.read_bytes() for path in study.runs.glob("*/result.json")}
        queued = {job for job, _ in queue()}
        (orphan,) = {job for job, name in queue() if not name.startswith("aggregate")} - set(jobs.values())

        status = study.status(CHECKOUT)
        states = study.states(CHECKOUT)
        assert states == {
            "finished": {"finished"}, "training": {"running"}, "cancelled": {"running"}, "held": {"queued"},
            "requeued": {"queued"}, "orphaned": {"queued"},
        }, states  # fmt: skip
        assert status["note"] is None
        assert status["seconds_left"] > 0
        assert all(run["seconds_left"] for run in status["runs"] if run["state"] == "running")
        text = succeed(study.command(CHECKOUT, "jobs/status.py"))
        assert text.count(FORMER_SETTING) == 1, text
        assert "expected end: " in text
        assert f"{self.folder}/report" in text

        submitted = succeed(study.submit(CHECKOUT, self.array))
        assert "released " in submitted, submitted
        assert orphan in submitted, submitted
        assert {job for job, _ in queue()} == queued
        assert len(study.manifests()) == 4
        assert study.manifests()[-1]["tasks"][0]["job"] == orphan
        succeed(study.submit(CHECKOUT, "table=upgrade.orphaned"))
        assert {job for job, _ in queue()} == queued
        assert "JobHeld" not in slurm("scontrol", "show", "job", jobs["held"])

        ended = succeed(study.command(CHECKOUT, "jobs/cancel.py", "table=upgrade.cancelled"))
        assert jobs["cancelled"] in ended, ended
        until(lambda: {job for job, _ in queue()} == queued - {jobs["cancelled"]})
        assert study.checkpoint(ids["cancelled"]).is_file()
        succeed(study.submit(CHECKOUT, "table=upgrade.cancelled"))
        assert len({job for job, _ in queue()} - queued) == 1

        self.brake.unlink()
        succeed(study.submit(CHECKOUT, "section=all", "wait=true"))
        until(lambda: not queue())
        assert len(study.manifests()) == 5
        assert all(path.read_bytes() == before for path, before in finished.items())
        assert (self.folder / "report" / "report.md").is_file()  # by the job that waited, of the old code
        assert "report: " in succeed(study.submit(CHECKOUT, self.array, *self.report, "wait=true"))
        attempts = {table: study.results()[run]["attempts"] for table, run in ids.items()}
        assert attempts == {
            "finished": 1, "training": 1, "held": 2, "requeued": 2, "cancelled": 2, "orphaned": 1,
        }, attempts  # fmt: skip
        self.compare(study, ids["cancelled"])

    def stop_locally(self) -> None:
        """Look at the local queue of the old code, submit the same, which queues nothing, and cancel it."""
        study, ids = self.local, self.ids
        states = study.states(CHECKOUT)
        assert {table: states[table] for table in ("finished", "training", "held")} == {
            "finished": {"finished"}, "training": {"running"}, "held": {"queued"},
        }, states  # fmt: skip
        succeed(study.submit(CHECKOUT, LOCAL))
        assert len(study.manifests()) == 1
        ended = succeed(study.command(CHECKOUT, "jobs/cancel.py"))
        assert "2 jobs, 2 runs" in ended, ended
        assert study.checkpoint(ids["training"]).is_file()
        assert study.states(CHECKOUT)["training"] == {"cancelled"}

    def carry_on_locally(self) -> None:
        study, ids = self.local, self.ids
        succeed(study.submit(CHECKOUT, LOCAL, "wait=true"))
        attempts = {table: study.results()[ids[table]]["attempts"] for table in ("finished", "training", "held")}
        assert attempts == {"finished": 1, "training": 2, "held": 1}, attempts
        self.compare(study, ids["training"], ids["held"])

    def compare(self, study: Study, *by_new_code: str) -> None:
        """Results are the undisturbed ones to the bit, of the code that was submitted; the report says so too."""
        expected, results = self.undisturbed.results(), study.results()
        different = [run for run in results if in_our_form(results[run]) != in_our_form(expected[run])]
        assert not different, different
        first = study.manifests()[0]["code"]["source"]
        by_old = {run for run, result in results.items() if result["code"]["source"] == first}
        assert by_old == results.keys() - set(by_new_code)
        assert not list(study.runs.glob("*/checkpoint.pt"))
        out = self.folder / f"report of {study.runs.name}"
        succeed(study.command(CHECKOUT, "reports/aggregate.py", f"out={out}"))
        assert "upgrade" in (out / "report.md").read_text()


def in_our_form(result: dict[str, Any]) -> dict[str, Any]:
    """What counts of a result, with settings and fields that its version had not, except threads."""
    record = Result.model_validate(result).model_dump(mode="json", exclude={"threads"})
    return comparable(record)


def start(folder: Path, old: str = BEFORE_THE_MOVE) -> None:
    """Carry studies over from the commit `old`. Raises AssertionError for anything lost, doubled or changed."""
    shutil.rmtree(folder, ignore_errors=True)
    checkout = folder / "old"
    checkout.mkdir(parents=True)
    extract(old, checkout)
    (folder / "net.py").write_text(NETWORK.format(brake=str(folder / "brake"), seconds=SLOW_SECONDS))
    (folder / "study.yaml").write_text(STUDY)
    subprocess.run(
        [sys.executable, "-m", "caltech_exp.standin", str(folder / "data")],
        cwd=checkout, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    upgrade = make_upgrade(folder, checkout)
    upgrade.train_undisturbed()
    upgrade.brake.touch()
    try:
        with watching(upgrade.cluster.runs), watching(upgrade.local.runs):
            upgrade.begin_on_slurm()
            upgrade.begin_local()
            print("everything is prepared: the new code carries on", flush=True)
            upgrade.stop_locally()
            upgrade.carry_on_slurm()
            upgrade.carry_on_locally()
    finally:
        upgrade.brake.unlink(missing_ok=True)
        slurm("scancel", f"--user={os.getuid()}")
        upgrade.local.command(CHECKOUT, "jobs/cancel.py")
    shutil.rmtree(folder)


def extract(revision: str, target: Path) -> None:
    """The tree of a commit. Ends with a line where the repository is shallow and does not hold it."""
    archive = subprocess.run(["git", "-C", str(CHECKOUT), "archive", revision], capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(
            f"error: {CHECKOUT} does not hold commit {revision}; run `git fetch --unshallow`, or give old=REVISION"
        )
    subprocess.run(["tar", "-x", "-C", str(target)], input=archive.stdout, check=True)


def make_upgrade(folder: Path, checkout: Path) -> Upgrade:
    on_slurm = profile(folder, mem_gb=2, poll_seconds=1, checkpoint_minutes=0.02)
    one_slot = folder / "one.yaml"
    one_slot.write_text(
        "executor: local\ndevice: cpu\nmax_parallel: 1\ncpus_per_task: 1\ncheckpoint_minutes: 0.02\n"
    )
    common = (f"study={folder / 'study.yaml'}", "seeds=1", f"data={folder / 'data'}", f"packs={folder / 'packs'}")

    def study(name: str, used_profile: Path, *words: str) -> Study:
        return Study(folder / name, (*common, f"profile={used_profile}", *words))

    return Upgrade(
        folder,
        checkout,
        cluster=study("cluster", on_slurm, "avoid_nodes=false"),
        local=study("local", one_slot),
        undisturbed=study("undisturbed", one_slot),
    )


@contextlib.contextmanager
def watching(runs: Path) -> Iterator[None]:
    """Watch the leases of a study. Raises AssertionError if two processes train a run at the same time."""
    watcher = Watcher(runs)
    thread = threading.Thread(target=watcher.watch)
    thread.start()
    try:
        yield
    finally:
        watcher.stopped.set()
        thread.join()
    assert not watcher.overlaps(), watcher.overlaps()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help=f"folder=build/upgrade old={BEFORE_THE_MOVE}")
    values = {"folder": "build/upgrade", "old": BEFORE_THE_MOVE}
    values |= dict(word.split("=", 1) for word in parser.parse_args().words)
    if values.keys() != {"folder", "old"}:
        parser.error("words are folder= and old=")
    start(Path(values["folder"]).absolute(), values["old"])
    print("carried over: nothing was cancelled, lost, doubled or changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
