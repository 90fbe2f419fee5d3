"""What goes wrong on a real Slurm: refusals, kills, hangs, and commands that die half-way."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.machine import process_start
from caltech_exp.study.results import FAILURE, PROGRESS
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.submission.snapshot import snapshots_folder
from tests.conftest import SMALL, Command, manifests, slowed
from tests.tools.testbed import path_with, profile, queue, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def test_jobs_cancelled_before_they_ran_are_lost_and_queued_again(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=2", f"profile={held}", f"runs={runs}")
    submit(*words)
    first, _ = queue()
    slurm("scancel", first[0])
    assert re.search("1 (lost|cancelled), 1 queued", submit(*words, "dry_run=true").stdout)
    assert "queued resnet.runs: 1 task, 1 run" in submit(*words).stdout
    assert len(queue()) == 2


def test_a_task_that_was_given_a_gpu_and_cannot_use_it_fails_with_the_reason(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    cuda = profile(tmp_path, device="cuda")
    runs = tmp_path / "runs"
    done = submit(*small, "seeds=1", f"profile={cuda}", f"runs={runs}", "wait=true")
    assert done.returncode == 1
    assert "was given a GPU (CUDA_VISIBLE_DEVICES=" in done.stderr
    (failure,) = (json.loads(path.read_text()) for path in runs.glob(f"*/{FAILURE}"))
    assert (failure["kind"], failure["node"]) == ("node", "gpu01")
    assert not list(runs.glob("*/result.json"))


def test_a_node_that_cannot_import_torch_is_told_and_left_out(
    submit: Command, status: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object')\n"
    )
    broken = profile(tmp_path, setup=json.dumps([f"export PYTHONPATH={tmp_path}/broken"]))
    runs = tmp_path / "runs"
    words = (*small, "seeds=2", f"profile={broken}", f"packs={tmp_path / 'packs'}", f"runs={runs}")
    done = submit(*words, "wait=true")
    assert done.returncode == 1
    reason = "torch cannot be imported on gpu01: ImportError: libcudart.so.12: cannot open shared object"
    assert done.stderr.count(f" failed: {reason} (log: ") == 2
    records = [json.loads(path.read_text()) for path in runs.glob(f"*/{FAILURE}")]
    assert [(record["kind"], record["node"]) for record in records] == [("node", "gpu01")] * 2
    told = status(f"runs={runs}").stdout
    assert f"prepare.runs failed: {reason}; the runs decode the images themselves (log: " in told
    assert told.count(f"failed: {reason}") == 1
    again = submit(*words, "retry=failed", "dry_run=true").stdout
    assert f"2 failed because of a broken node (avoid_nodes=false would use it again): {reason}" in again
    assert "not on gpu01" not in again
    assert "gpu01 is not avoided although runs failed there: no other node could run them." in again


@pytest.mark.usefixtures("brake")
def test_a_task_killed_while_it_trains_ends_the_wait(small: tuple[str, ...], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = [sys.executable, str(Path(__file__).resolve().parents[2] / "jobs" / "submit.py")]
    waiting = subprocess.Popen(
        [*command, *slowed(small, 1000), "seeds=1", f"profile={profile(tmp_path)}", f"runs={runs}", "wait=true"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: bool(list(runs.glob(f"*/{PROGRESS}"))))
    slurm("scancel", f"--user={os.getuid()}")
    assert "lost: epoch" in waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"gpus_per_node": 3},
        {"gpus_per_node": None, "gres": "gpu:warp:1"},
    ],
)
def test_what_sbatch_refuses_leaves_nothing(
    settings: dict[str, object], submit: Command, small: tuple[str, ...], tmp_path: Path, untouched: Path
) -> None:
    done = submit(*small, "seeds=2", f"profile={profile(tmp_path, **settings)}", f"runs={untouched}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: sbatch refused the array resnet.runs: ")
    assert done.stderr.count("\n") == 1
    assert not queue()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'sbatch: error: Batch job submission failed: Unspecified error' >&2; exit 1",
            "sbatch refused the array",
        ),
        (
            "echo 'Batch job submission failed: Unable to contact slurm controller (connect failure)' >&2; exit 1",
            "Unable to contact slurm controller",
        ),
    ],
)
def test_an_sbatch_that_fails_leaves_nothing(
    script: str, message: str, submit: Command, small: tuple[str, ...], tmp_path: Path, untouched: Path
) -> None:
    path = path_with(tmp_path, "sbatch", script)
    done = submit(*small, f"profile={profile(tmp_path)}", f"runs={untouched}", PATH=path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_slurm_that_is_down_is_told_and_nothing_is_trained_instead(
    submit: Command, small: tuple[str, ...], tmp_path: Path, untouched: Path
) -> None:
    dead = tmp_path / "slurm.conf"
    config = Path(os.environ.get("SLURM_CONF", "/etc/slurm/slurm.conf")).read_text()
    dead.write_text(config + "\nSlurmctldPort=9\nMessageTimeout=5\n")
    done = submit(*small, f"profile={profile(tmp_path)}", f"runs={untouched}", SLURM_CONF=str(dead))
    assert done.returncode == 2
    assert "Slurm does not answer (scontrol" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_task_told_to_make_room_is_queued_again_and_ends_well(
    small: tuple[str, ...], submit: Command, brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = [word for word in slowed(small, 8) if not word.startswith("workers=")]
    # Of the reference engine, whose workers get the signal too.
    reference = ("engine=reference", "workers=2")
    given = (*words, *reference, "seeds=1", f"profile={profile(tmp_path)}", f"runs={runs}")
    assert submit(*given).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
    ((job, _),) = queue()
    slurm("scancel", "--signal=USR2", job)
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job))
    assert not list(runs.glob(f"*/{FAILURE}"))
    brake.unlink()
    done = submit(*given, "wait=true")
    assert done.returncode == 0, done.stderr
    assert "1 queued" in done.stdout or "1 running" in done.stdout
    assert len(list(runs.glob("*/result.json"))) == 1


SURVIVOR = """\
#!/bin/bash
# Python of the tasks. The first one lives on in a session of its own, which Slurm's signals do not reach.
case " $* " in *" {folder}/"*submissions*) ;; *) exec {python} "$@" ;; esac
if mkdir {folder}/first 2>/dev/null; then
  setsid --fork sh -c 'echo $$ >"$0"; exec "$@"' {folder}/pid {python} "$@" </dev/null >>{folder}/former.log 2>&1
  until [ -s {folder}/pid ]; do sleep 0.1; done
  while kill -0 "$(cat {folder}/pid)" 2>/dev/null; do sleep 0.5; done
  exit 0
fi
exec {python} "$@"
"""


@pytest.mark.usefixtures("brake")
def test_a_task_requeued_beside_its_living_self_asks_it_for_the_run_and_goes_on(
    small: tuple[str, ...], submit: Command, tmp_path: Path
) -> None:
    runs, script = tmp_path / "runs", tmp_path / "python"
    script.write_text(SURVIVOR.format(folder=tmp_path, python=sys.executable))
    script.chmod(0o755)
    given = (*slowed(small, 400), "seeds=1", f"profile={profile(tmp_path, python=script)}", f"runs={runs}")
    try:
        assert submit(*given).returncode == 0
        until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
        ((job, _),) = queue()
        slurm("scontrol", "requeue", job)
        (log,) = runs.glob("submissions/*/*_0_log.out")
        until(lambda: "resumes from its checkpoint" in log.read_text())
        assert "the former process of this job still trains it on" in log.read_text()
        until(lambda: "the new process continues the run" in (tmp_path / "former.log").read_text())
        former = int((tmp_path / "pid").read_text())
        until(lambda: process_start(former) is None)
        assert slurm("scontrol", "show", "job", job).count("Restarts=1 ") == 1  # it was not queued again once more
        assert "JobState=RUNNING" in slurm("scontrol", "show", "job", job)
        assert "1 running" in submit(*given, "dry_run=true").stdout
        assert not list(runs.glob(f"*/{FAILURE}"))
    finally:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_task_in_a_container_is_queued_again_by_the_batch_script_after_the_trap_of_setup(
    small: tuple[str, ...], submit: Command, brake: Path, tmp_path: Path
) -> None:
    runs, scratch, ends = tmp_path / "runs", tmp_path / "scratch", tmp_path / "ends"
    cleaned = profile(
        tmp_path,
        python=f"env PATH={tmp_path} {sys.executable}",  # without scontrol, as in a container
        setup=json.dumps([f"mkdir {scratch}", f"trap 'echo $? >> {ends}; rmdir {scratch}; exit 1' EXIT"]),
    )
    given = (*slowed(small, 60), "seeds=1", f"profile={cleaned}", f"runs={runs}")
    assert submit(*given).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
    ((job, _),) = queue()
    slurm("scancel", "--signal=USR2", job)
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job))
    brake.unlink()
    done = submit(*given, "wait=true")
    assert done.returncode == 0, done.stderr
    until(lambda: not queue())
    assert ends.read_text() == "75\n0\n"
    assert not scratch.exists()
    assert len(list(runs.glob("*/result.json"))) == 1
    (log,) = runs.glob("submissions/*/*_0_log.out")
    assert "the batch script requeues the task" in log.read_text()


@pytest.mark.usefixtures("brake")
def test_a_trap_in_setup_runs_after_a_cancelled_task_has_saved_where_it_is(
    small: tuple[str, ...], submit: Command, tmp_path: Path
) -> None:
    runs, ends = tmp_path / "runs", tmp_path / "ends"
    line = f"trap 'ls {runs}/*/{CHECKPOINT} >> {ends}' EXIT"
    given = (*slowed(small, 1000), "seeds=1", f"profile={profile(tmp_path, setup=json.dumps([line]))}")
    assert submit(*given, f"runs={runs}").returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
    ((job, _),) = queue()
    slurm("scancel", job)
    until(lambda: not queue())
    assert ends.read_text().count(CHECKPOINT) == 1


@pytest.mark.usefixtures("brake")
def test_of_an_array_only_the_task_that_asks_for_it_is_queued_again(
    small: tuple[str, ...], submit: Command, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    contained = profile(tmp_path, python=f"env PATH={tmp_path} {sys.executable}")
    assert submit(*slowed(small, 400), "seeds=2", f"profile={contained}", f"runs={runs}").returncode == 0
    until(lambda: sum('"epoch": ' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")) == 2)
    shown = {job: slurm("scontrol", "show", "job", job) for job, _ in queue()}
    # The one whose SLURM_JOB_ID is the id of the whole array.
    (first,) = (job for job, text in shown.items() if text.startswith(f"JobId={job.partition('_')[0]} "))
    (other,) = shown.keys() - {first}
    slurm("scancel", "--signal=USR2", first)
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", first))
    assert "JobState=RUNNING" in slurm("scontrol", "show", "job", other)
    assert "Restarts=0" in slurm("scontrol", "show", "job", other)


@pytest.mark.parametrize("contained", [False, True])
def test_a_preempted_task_saves_in_its_grace_time_and_is_queued_again(
    contained: bool, small: tuple[str, ...], submit: Command, brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    python = f"env PATH={tmp_path} {sys.executable}" if contained else None
    scavenging = profile(tmp_path, partition="scavenge", mem_gb=2, python=python)
    given = (*slowed(small, 60), "seeds=1", f"profile={scavenging}", f"runs={runs}")
    assert submit(*given).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
    ((job, _),) = queue()
    slurm("sbatch", "--partition=urgent", "--exclusive", f"--output={tmp_path}/log", "--wrap=sleep 3")
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job))
    assert list(runs.glob(f"*/{CHECKPOINT}"))
    brake.unlink()
    done = submit(*given, "wait=true")
    assert done.returncode == 0, done.stderr
    (result,) = (json.loads(path.read_text()) for path in runs.glob("*/result.json"))
    assert (result["attempts"], len(result["epochs"])) == (2, 60)


def test_what_was_queued_before_sbatch_refused_is_told(
    submit: Command, stand_in: Path, held: Path, tmp_path: Path
) -> None:
    refusal = "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1"
    path = path_with(
        tmp_path, "sbatch", f'if grep -q resnet "$1"; then {refusal}; fi; exec {shutil.which("sbatch")} "$@"'
    )
    words = (
        "section=augmentation,resnet", "seeds=1", "weights=none", *SMALL, f"data={stand_in}", f"profile={held}",
        f"runs={tmp_path / 'runs'}",
    )  # fmt: skip
    done = submit(*words, PATH=path)
    assert done.returncode == 2
    assert "4 tasks are queued already, the same command queues the rest" in done.stderr
    assert len(queue()) == 4
    assert "queued resnet.runs" in submit(*words).stdout
    assert "queued augmentation.runs" not in submit(*words).stdout


def test_a_run_with_a_damaged_result_is_queued_once(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", f"profile={held}", f"runs={runs}")
    submit(*words)
    (manifest,) = manifests(runs)
    ((name,),) = [task["runs"] for task in manifest["tasks"]]  # type: ignore[attr-defined]
    (runs / name).mkdir()
    (runs / name / "result.json").write_text("{")
    assert "nothing to submit" in submit(*words).stdout
    assert len(queue()) == 1


def test_a_purged_snapshot_fails_its_jobs_by_name_and_the_same_command_restores_it(
    submit: Command, status: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", f"profile={held}", f"runs={runs}", "aggregate=true", f"out={tmp_path / 'report'}")
    before = os.umask(0o002)
    try:
        assert submit(*words).returncode == 0
    finally:
        os.umask(before)
    (snapshot,) = snapshots_folder(runs).iterdir()
    (snapshot / "caltech_exp" / "training" / "loop.py").unlink()
    release_all()
    told = status(f"runs={runs}").stdout
    missing = (
        f"snapshot {snapshot}: caltech_exp/training/loop.py is missing; submit again, which restores it (log: "
    )
    assert f": {missing}" in told
    assert f"report: failed: {missing}" in told
    assert not list(runs.glob("*/result.json"))

    again = submit(*words)
    assert again.returncode == 0, again.stderr
    assert "1 run of 1 configuration: 1 failed" in again.stdout
    release_all()
    told = status(f"runs={runs}").stdout
    assert f"report: {tmp_path / 'report' / 'report.md'}, written " in told
    (result,) = runs.glob("*/result.json")
    assert json.loads(result.read_text())["code"]["source"] == snapshot.name
    # What is executed is closed to a group that may write results.
    first, second = sorted(runs.glob("submissions/2*"))
    assert {path.stat().st_mode & 0o777 for path in (first, *first.glob("*.pkl"))} == {0o755, 0o644}
    assert second.stat().st_mode & 0o022 == 0


def release_all() -> None:
    """Let every job in the queue run, to its end."""
    for job, _ in queue():
        slurm("scontrol", "release", job)
    until(lambda: not queue())
