"""The way through a real Slurm: arrays, GPU ids, names, what is in the queue, and what goes wrong."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp.results import FAILURE, PROGRESS
from tests.conftest import Command
from tests.jobs.conftest import gpu_ids, manifests

pytestmark = pytest.mark.slurm


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    """Every test starts and ends with nothing queued; without a Slurm it fails."""
    slurm("squeue", "--noheader")
    yield
    slurm("scancel", f"--user={os.getuid()}")
    for _ in range(100):
        if not slurm("squeue", "--noheader").strip():
            return
        time.sleep(0.2)
    pytest.fail("jobs are still in the queue")


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A profile whose jobs stay in the queue and never start."""
    return profile(tmp_path, "sbatch: {hold: true}")


def profile(folder: Path, *lines: str) -> Path:
    path = folder / "profile.yaml"
    base = ["executor: slurm", "device: cpu", "cpus_per_task: 1", "mem_gb: 4", "command_timeout_seconds: 5"]
    gpus = [] if any(line.startswith("g") for line in lines) else ["gpus_per_node: 1"]
    path.write_text("\n".join([*base, *gpus, *lines]) + "\n")
    return path


def queue() -> list[tuple[str, str]]:
    """(job id, name) of every array task in the queue."""
    lines = slurm("squeue", "--noheader", "--array", "--format=%i|%j").split()
    return [(line.split("|")[0], line.split("|")[1]) for line in lines]


def test_a_study_on_slurm(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    runs = tmp_path / "my 'odd'; \"stüdy\" $HOME"
    words = (*small, "seeds=3", "profile=testbed", f"runs={runs}")
    done = submit(*words, "wait=true")
    assert done.returncode == 0, done.stderr
    assert len(list(runs.glob("*/result.json"))) == 3
    (manifest,) = manifests(runs)
    jobs = [task["job"] for task in manifest["tasks"]]  # type: ignore[attr-defined]
    array = jobs[0].partition("_")[0]
    assert jobs == [f"{array}_{index}" for index in range(3)]
    assert len(gpu_ids(runs)) == 3
    assert set(gpu_ids(runs)) <= {"0", "1"}

    again = submit(*words, "wait=true")
    assert again.returncode == 0
    assert "nothing to queue" in again.stdout
    assert len(manifests(runs)) == 1


def test_squeue_shows_section_and_study_and_nothing_is_queued_twice(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "my study"
    words = (*small, "seeds=4", f"profile={held}", f"runs={runs}")
    first = submit(*words)
    assert first.returncode == 0, first.stderr
    assert [name for _, name in queue()] == ["resnet.my-study"] * 4
    (manifest,) = manifests(runs)
    assert {task["job"] for task in manifest["tasks"]} == {job for job, _ in queue()}  # type: ignore[attr-defined]

    assert "4 queued" in submit(*words, "dry_run=true").stdout
    second = submit(*words)
    assert second.returncode == 0
    assert "nothing to queue" in second.stdout
    more = submit(*small, "seeds=6", f"profile={held}", f"runs={runs}")
    assert "queued resnet.my-study: 2 tasks, 2 runs" in more.stdout
    assert len(queue()) == 6


def test_jobs_cancelled_before_they_ran_are_lost_and_queued_again(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=2", f"profile={held}", f"runs={runs}")
    submit(*words)
    first, _ = queue()
    slurm("scancel", first[0])
    assert "1 lost, 1 queued" in submit(*words, "dry_run=true").stdout
    assert "queued resnet.runs: 1 task, 1 run" in submit(*words).stdout
    assert len(queue()) == 2


def test_two_submissions_at_once_queue_every_run_once(small: tuple[str, ...], held: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "jobs" / "submit.py"
    command = [sys.executable, str(script), *small, "seeds=5", f"profile={held}", f"runs={tmp_path / 'runs'}"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("nothing to queue" in text for text in printed) == 1
    assert len(queue()) == 5


def test_larger_plans_become_several_arrays(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    limit = next(
        int(line.split("=")[1])
        for line in slurm("scontrol", "show", "config").splitlines()
        if "MaxArraySize" in line
    )
    runs = tmp_path / "runs"
    done = submit(*small, f"seeds={limit + 2}", f"profile={held}", f"runs={runs}")
    assert done.returncode == 0, done.stderr
    assert f"queued resnet.runs: {limit:,} tasks" in done.stdout
    assert "queued resnet.runs: 2 tasks" in done.stdout
    (manifest,) = manifests(runs)
    jobs = {task["job"] for task in manifest["tasks"]}  # type: ignore[attr-defined]
    assert len(jobs) == limit + 2
    assert jobs == {job for job, _ in queue()}


def test_a_task_that_asked_for_a_gpu_and_finds_none_fails_with_the_reason(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    cuda = profile(tmp_path, "device: cuda")
    cuda.write_text(cuda.read_text().replace("device: cpu\n", ""))
    runs = tmp_path / "runs"
    done = submit(*small, "seeds=1", f"profile={cuda}", f"runs={runs}", "wait=true", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert "asked for a GPU and finds none; check gpus_per_node or gres in the profile" in done.stderr
    assert len(list(runs.glob(f"*/{FAILURE}"))) == 1
    assert not list(runs.glob("*/result.json"))


def test_a_task_killed_while_it_trains_ends_the_wait(small: tuple[str, ...], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = [word for word in small if not word.startswith("epochs=")]
    command = [sys.executable, str(Path(__file__).resolve().parents[2] / "jobs" / "submit.py")]
    waiting = subprocess.Popen(
        [*command, *words, "epochs=1000", "seeds=1", f"profile={profile(tmp_path)}", f"runs={runs}", "wait=true"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if list(runs.glob(f"*/{PROGRESS}")):
            break
        time.sleep(0.1)
    slurm("scancel", f"--user={os.getuid()}")
    assert "lost: epoch" in waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["gpus_per_node: 3"], "sbatch refused the array resnet.runs: "),
        (["partition: nowhere"], "sbatch refused the array resnet.runs: "),
        (["gres: gpu:warp:1"], "sbatch refused the array resnet.runs: "),
    ],
)
def test_what_sbatch_refuses_leaves_nothing(
    lines: list[str], message: str, submit: Command, small: tuple[str, ...], tmp_path: Path, untouched: Path
) -> None:
    done = submit(*small, "seeds=2", f"profile={profile(tmp_path, *lines)}", f"runs={untouched}")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert not queue()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 1", "sbatch refused the array"),
        (
            "echo 'sbatch: error: Unable to contact slurm controller' >&2; exit 1",
            "Unable to contact slurm controller",
        ),
        ("sleep 1000", "Slurm does not answer (sbatch did not end within 5 s)"),
        ("echo hello", "sbatch could not queue the array"),
    ],
)
def test_an_sbatch_that_fails_or_hangs_leaves_nothing(
    script: str, message: str, submit: Command, small: tuple[str, ...], tmp_path: Path, untouched: Path
) -> None:
    stub = tmp_path / "bin" / "sbatch"
    stub.parent.mkdir()
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
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


def test_where_sbatch_works_slurm_is_the_default(submit: Command, small: tuple[str, ...], untouched: Path) -> None:
    done = submit(*small, "seeds=1", f"runs={untouched}", "dry_run=true")
    assert "would queue resnet.runs: 1 task, 1 run, profile slurm" in done.stdout
    nowhere = submit(*small, "seeds=1", f"runs={untouched}", "dry_run=true", PATH="/nowhere")
    assert "would queue resnet.runs: 1 task, 1 run, profile local" in nowhere.stdout


def test_log_paths_that_slurm_would_rewrite_are_refused(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "100%j"
    done = submit(*small, f"profile={held}", f"runs={runs}")
    assert done.returncode == 2
    assert "Slurm does not take '%' in log paths; use another name" in done.stderr
    assert not runs.exists()
