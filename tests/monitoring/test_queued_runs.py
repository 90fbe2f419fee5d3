"""Runs that were submitted on another cluster, or another machine, which shares the disk but not the queue."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.executors.local import LOCK, is_alive, write_state
from caltech_exp.study.lease import acquire
from caltech_exp.study.results import FAILURE
from tests.conftest import Command, manifests
from tests.tools.testbed import path_with, until


def cluster(folder: Path, name: str) -> str:
    """A PATH with the commands of a cluster of this name, which takes every job and has forgotten it at once."""
    place = folder / name
    place.mkdir()
    note = f'echo "${{0##*/}} $*" >>"{place}/asked"\n'
    path_with(place, "sbatch", f'{note}echo "Submitted batch job $((100 + $(grep -c sbatch "{place}/asked")))"')
    path_with(place, "scontrol", f"printf 'MaxArraySize = 1001\\nClusterName             = {name}\\n'")
    for command in ("squeue", "sacct", "scancel"):
        path_with(place, command, note)
    return path_with(place, "sinfo", "echo 'gpu'")


def asked(folder: Path, name: str, command: str) -> int:
    """How often a command of the cluster was called."""
    notes = folder / name / "asked"
    return notes.read_text().count(f"{command} ") if notes.exists() else 0


def submitted_runs(runs: Path, number: int) -> list[str]:
    """The runs of a submission."""
    return [run for task in manifests(runs)[number]["tasks"] for run in task["runs"]]  # type: ignore[attr-defined]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def words(small: tuple[str, ...], runs: Path) -> tuple[str, ...]:
    return (*small, "seeds=2", f"runs={runs}", "profile=slurm", "profile.device=cpu")


def test_runs_queued_on_another_cluster_are_neither_lost_nor_queued_again(
    submit: Command, status: Command, cancel: Command, words: tuple[str, ...], runs: Path, tmp_path: Path
) -> None:
    atlas, bora = cluster(tmp_path, "atlas"), cluster(tmp_path, "bora")
    done = submit(*words, "aggregate=true", f"out={tmp_path / 'report'}", PATH=atlas)
    assert done.returncode == 0, done.stderr
    assert [manifest["cluster"] for manifest in manifests(runs)] == ["atlas"]
    line = "2 runs are queued on atlas; submit with retry=failed takes them over here"
    again = submit(*words, PATH=bora)
    assert again.returncode == 0, again.stderr
    assert "2 runs of 1 configuration: 2 queued on atlas\n" in again.stdout
    assert "nothing to submit: all 2 runs are queued on atlas\n" in again.stdout
    assert again.stdout.splitlines()[-1] == line
    assert len(manifests(runs)) == 1

    text = status(f"runs={runs}", PATH=bora).stdout
    assert f"\n{line}\n" in text
    assert "report.md is to be written by job 102 on atlas" in text
    told = json.loads(status(f"runs={runs}", "json=true", PATH=bora).stdout)
    assert told["counts"]["queued"] == 2
    assert {(run["state"], run["queued_on"]) for run in told["runs"]} == {("queued", "atlas"), ("pending", None)}

    ended = cancel(f"runs={runs}", PATH=bora)
    assert ended.stdout == "left alone: 2 runs queued on atlas; run this command there\n"
    assert [asked(tmp_path, "bora", command) for command in ("sbatch", "scancel", "sacct")] == [0, 0, 0]
    assert "2 lost" in submit(*words, "dry_run=true", PATH=atlas).stdout  # there they are known to be gone


def test_retry_takes_over_what_is_queued_on_another_cluster_and_nothing_is_trained_twice(
    submit: Command, status: Command, words: tuple[str, ...], runs: Path, tmp_path: Path
) -> None:
    atlas, bora = cluster(tmp_path, "atlas"), cluster(tmp_path, "bora")
    assert submit(*words, PATH=atlas).returncode == 0
    first, second = submitted_runs(runs, 0)
    (runs / first).mkdir()
    lease = acquire(runs / first, "101_0")
    assert lease is not None
    dry = submit(*words, "retry=failed", "dry_run=true", PATH=bora)
    assert "1 run queued on atlas is taken over here\n" in dry.stdout
    local = (*words[:-2], "profile=local")
    done = submit(*local, "retry=failed", PATH=bora)
    until((runs / second / "result.json").exists)
    lease.release()
    assert "queued resnet.runs: 1 task, 1 run, profile local\n" in done.stdout
    assert "1 run queued on atlas is taken over here\n" in done.stdout
    assert submitted_runs(runs, 1) == [second]
    told = json.loads(status(f"runs={runs}", "json=true", PATH=bora).stdout)["runs"]
    assert {run["id"]: run["state"] for run in told if run["state"] != "pending"} == {
        first: "queued",
        second: "finished",
    }

    result = (runs / second / "result.json").read_text()
    (submission,) = runs.glob(f"submissions/{manifests(runs)[0]['id']}")
    environment = {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": "101_1",
        "SUBMITIT_FOLDER": str(submission),
    }
    command = [sys.executable, "-m", "submitit.core._submit", str(submission)]
    (snapshot,) = runs.glob("sources/*/*/")
    late = subprocess.run(
        command, cwd=snapshot, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert late.returncode == 0, late.stderr
    assert "validation accuracy" not in late.stdout  # it has found the run finished
    assert (runs / second / "result.json").read_text() == result


def test_runs_that_failed_or_were_cancelled_on_another_cluster_are_told_as_such(
    submit: Command, words: tuple[str, ...], runs: Path, tmp_path: Path
) -> None:
    atlas, bora = cluster(tmp_path, "atlas"), cluster(tmp_path, "bora")
    assert submit(*words, PATH=atlas).returncode == 0
    (manifest,) = manifests(runs)
    first, _ = submitted_runs(runs, 0)
    failure = {
        "run_id": first, "error": "no", "traceback": "", "kind": "error", "submission": manifest["id"],
        "job": "101_0", "host": "h", "node": "", "log": "101_0_log.out", "when": "2026-01-01T12:00:00Z",
    }  # fmt: skip
    (runs / first).mkdir()
    (runs / first / FAILURE).write_text(json.dumps(failure))
    (runs / "submissions" / str(manifest["id"]) / "cancelled.json").write_text('["101_1"]')
    dry = submit(*words, "retry=failed", "dry_run=true", PATH=bora).stdout
    assert "2 runs of 1 configuration: 1 failed, 1 cancelled\n" in dry
    assert "would queue resnet.runs: 1 task, 1 run" in dry


def test_manifests_without_a_cluster_are_asked_about_as_before(
    submit: Command, words: tuple[str, ...], runs: Path, tmp_path: Path
) -> None:
    atlas, bora = cluster(tmp_path, "atlas"), cluster(tmp_path, "bora")
    assert submit(*words, PATH=atlas).returncode == 0
    (path,) = runs.glob("submissions/*/manifest.json")
    manifest = json.loads(path.read_text())
    del manifest["cluster"]
    path.write_text(json.dumps(manifest))
    assert "2 lost" in submit(*words, "dry_run=true", PATH=bora).stdout


def test_runs_queued_on_another_machine_are_seen_by_the_lock_of_its_queue(
    submit: Command, status: Command, cancel: Command, words: tuple[str, ...], runs: Path
) -> None:
    local = (*words[:-2], "profile=local")
    assert submit(*local, "wait=true").returncode == 0
    (path,) = runs.glob("submissions/*/manifest.json")
    until(lambda: not is_alive(path.parent))  # the last result is there before its process has ended
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "nora"}))
    for result in runs.glob("*/result.json"):
        result.unlink()
    write_state(path.parent, ["local-0", "local-1"], [], {})
    with (path.parent / LOCK).open("r+") as lock:  # as nora holds it, on a file system that machines share
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = "2 runs are queued on nora; submit with retry=failed takes them over here"
        assert submit(*local).stdout.splitlines()[1:] == ["nothing to submit: all 2 runs are queued on nora", line]
        assert line in status(f"runs={runs}").stdout
        dry = submit(*local, "retry=failed", "dry_run=true").stdout
        assert "would queue resnet.runs: 2 tasks, 2 runs" in dry
        assert "2 runs queued on nora are taken over here" in dry
        assert "would cancel 2 jobs, 2 runs on nora\n" in cancel(f"runs={runs}", "dry_run=true").stdout
    assert "2 lost" in submit(*local, "dry_run=true").stdout
