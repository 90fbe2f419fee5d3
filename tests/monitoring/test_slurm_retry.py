"""Failed and lost runs on a real Slurm, with its accounting and without."""

import json
import os
from pathlib import Path

import pytest

from caltech_exp.study.results import FAILURE, PROGRESS
from tests.conftest import Command, slowed
from tests.tools.testbed import path_with, profile, queue, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


NODES = r"printf '%s|gpu*|idle|(null)|gpu:2\n' gpu01 gpu02"  # of sinfo: the testbed has one


def fail(folder: Path, **what: str) -> None:
    """Leave a failure in the folder of a run."""
    failure = {
        "run_id": folder.name, "error": "no", "traceback": "", "kind": "error", "submission": "s", "job": "1",
        "host": "h", "node": "", "log": "/elsewhere/1_0_log.out", "when": "2026-01-01T12:00:00Z", **what,
    }  # fmt: skip
    folder.mkdir()
    (folder / FAILURE).write_text(json.dumps(failure))


def test_retry_queues_what_failed_or_was_lost_and_nothing_else(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, f"profile={held}", f"runs={runs}")
    submit(*words, "seeds=3")
    # Without accounting nothing tells that the first run was not lost, but cancelled.
    path_with(tmp_path, "sacct", "exit 1")
    path = path_with(tmp_path, "sinfo", NODES)
    first, second, _ = [job for job, _ in queue()]
    slurm("scancel", first)
    slurm("scancel", second)
    (run,) = json.loads(next(runs.glob("submissions/*/manifest.json")).read_text())["tasks"][1]["runs"]
    fail(runs / run, kind="node", node="gpu01", error="RuntimeError: CUDA error: uncorrectable ECC error")
    # Seeds 3 and 4 were never submitted.
    dry = submit(*words, "seeds=5", "retry=failed", "dry_run=true", PATH=path).stdout
    assert "2 pending, 1 lost, 1 failed, 1 queued" in dry
    assert "would queue resnet.runs: 2 tasks, 2 runs" in dry
    assert "not on gpu01" in dry
    why = "because of a broken node (avoid_nodes=false would use it again)"
    error = "RuntimeError: CUDA error: uncorrectable ECC error"
    assert f"1 failed {why}: {error}\n" in dry  # its log does not exist
    assert "gpu01" not in submit(*words, "seeds=5", "avoid_nodes=false", "dry_run=true", PATH=path).stdout
    assert len(queue()) == 1
    done = submit(*words, "seeds=5", "retry=failed", PATH=path)
    assert done.returncode == 0, done.stderr
    assert "queued resnet.runs: 2 tasks, 2 runs" in done.stdout
    new = {job for job, _ in queue()}
    assert len(new) == 3
    excluded = [slurm("scontrol", "show", "job", job) for job in new]
    assert sum("ExcNodeList=gpu01" in shown for shown in excluded) == 2


def test_retry_takes_over_what_waits_on_another_cluster_and_its_task_ends_without_training(
    submit: Command, cancel: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", f"profile={held}", f"runs={runs}")
    assert submit(*words).returncode == 0
    ((first, _),) = queue()
    (path,) = runs.glob("submissions/*/manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["cluster"] == "testbed"
    path.write_text(json.dumps(manifest | {"cluster": "atlas"}))
    assert "nothing to submit: 1 queued on atlas\n" in submit(*words).stdout
    assert cancel(f"runs={runs}").stdout == "left alone: 1 run queued on atlas; run this command there\n"
    assert [job for job, _ in queue()] == [first]
    profile(tmp_path)  # in the place of the one that holds
    done = submit(*words, "retry=failed", "wait=true")
    assert done.returncode == 0, done.stderr
    (result,) = runs.glob("*/result.json")
    trained = result.read_text()
    slurm("scontrol", "release", first)
    until(lambda: not queue())
    assert result.read_text() == trained
    assert "validation accuracy" not in (path.parent / f"{first}_0_log.out").read_text()


def test_jobs_that_train_nothing_may_use_a_node_where_runs_failed(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", f"profile={held}", f"runs={runs}", "aggregate=true", f"out={tmp_path / 'report'}")
    assert submit(*words).returncode == 0
    (run,) = json.loads(next(runs.glob("submissions/*/manifest.json")).read_text())["tasks"][0]["runs"]
    slurm("scancel", *(job for job, _ in queue()))
    fail(runs / run, kind="node", node="gpu01")
    assert submit(*words, PATH=path_with(tmp_path, "sinfo", NODES)).returncode == 0
    excluded = {name: "ExcNodeList=gpu01" in slurm("scontrol", "show", "job", job) for job, name in queue()}
    assert excluded == {"resnet.runs": True, "aggregate.runs": False}


def test_a_refusal_names_the_nodes_that_were_left_out_for_failed_runs(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", f"profile={held}", f"runs={runs}")
    assert submit(*words).returncode == 0
    ((job, _),) = queue()
    slurm("scancel", job)
    (run,) = json.loads(next(runs.glob("submissions/*/manifest.json")).read_text())["tasks"][0]["runs"]
    fail(runs / run, kind="node", node="gpu77")  # which the cluster no longer has
    done = submit(*words)
    assert done.returncode == 2
    assert "Invalid node name" in done.stderr
    assert "nodes excluded because runs failed there: gpu77; avoid_nodes=false" in done.stderr
    assert done.stderr.count("\n") == 1
    assert submit(*words, "avoid_nodes=false").returncode == 0


@pytest.mark.usefixtures("brake")
def test_a_run_that_failed_is_told_and_not_queued_again_while_its_task_trains_others(
    submit: Command, cancel: Command, status: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 1000), "seeds=2", f"profile={profile(tmp_path)}", f"runs={runs}", "runs_per_task=2")
    assert submit(*words).returncode == 0
    manifest = json.loads(next(runs.glob("submissions/*/manifest.json")).read_text())
    ((first, second),) = [task["runs"] for task in manifest["tasks"]]
    until((runs / first / PROGRESS).exists)
    fail(runs / second, submission=manifest["id"])
    assert f"failed {second}" in status(f"runs={runs}", "failed=true").stdout
    again = submit(*words, "retry=failed")
    assert again.returncode == 0, again.stderr
    assert "1 running, 1 failed" in again.stdout
    assert "nothing to submit" in again.stdout
    assert "1 failed in tasks that still train other runs" in again.stdout
    assert cancel(f"runs={runs}").stdout.startswith("cancelled 1 job, 2 runs on Slurm: ")
    until(lambda: not queue())
    dry = submit(*words, "retry=failed", "dry_run=true").stdout
    assert "1 failed, 1 cancelled" in dry or "1 cancelled, 1 failed" in dry
    assert "would queue resnet.runs: 1 task, 1 run" in dry
    assert "1 run was cancelled; submit without retry=failed to train it" in dry
    assert "would queue resnet.runs: 1 task, 2 runs" in submit(*words, "dry_run=true").stdout


@pytest.mark.parametrize("accounting", [True, False])
def test_how_a_lost_run_ended_is_told_where_slurm_knows(
    accounting: bool, submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", f"profile={held}", f"runs={runs}")
    submit(*words)
    ((job, _),) = queue()
    slurm("scancel", job)
    until(lambda: not queue())
    until(lambda: "CANCELLED" in slurm("sacct", "--noheader", "--allocations", f"--jobs={job}"))
    path = (
        os.environ["PATH"] if accounting else path_with(tmp_path, "sacct", "echo 'accounting is off' >&2; exit 1")
    )
    done = submit(*words, "dry_run=true", PATH=path)
    assert done.returncode == 0, done.stderr
    assert ("1 run of 1 configuration: 1 cancelled" if accounting else "1 lost") in done.stdout
