"""The way through a real Slurm: arrays, GPU ids, names, what is in the queue, and what goes wrong."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caltech_exp.results import FAILURE, PROGRESS
from tests.conftest import Command
from tests.jobs.conftest import SMALL, gpu_ids, manifests

pytestmark = pytest.mark.slurm


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    """Every test starts and ends with nothing queued; without a Slurm it fails."""
    slurm("squeue", "--noheader")
    yield
    slurm("scancel", f"--user={os.getuid()}")
    until(lambda: not slurm("squeue", "--noheader").strip(), 30)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A profile whose jobs stay in the queue and never start."""
    return profile(tmp_path, "sbatch: {hold: true}")


def profile(folder: Path, *lines: str) -> Path:
    path = folder / "profile.yaml"
    base = ["executor: slurm", "device: cpu", "cpus_per_task: 1", "mem_gb: 4", "command_timeout_seconds: 5"]
    base += [] if any(line.startswith("poll") for line in lines) else ["poll_seconds: 3"]
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
    until(lambda: bool(list(runs.glob(f"*/{PROGRESS}"))))
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
    path = stub_sbatch(tmp_path, script)
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


def test_a_task_told_to_make_room_is_queued_again_and_ends_well(
    small: tuple[str, ...], submit: Command, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = [word for word in small if not word.startswith(("epochs=", "workers="))]
    given = (*words, "epochs=12", "workers=2", "seeds=1", f"profile={profile(tmp_path)}", f"runs={runs}")
    assert submit(*given).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
    ((job, _),) = queue()
    slurm("scancel", "--signal=USR2", job)
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job))
    assert not list(runs.glob(f"*/{FAILURE}"))
    done = submit(*given, "wait=true")
    assert done.returncode == 0, done.stderr
    assert "1 queued" in done.stdout or "1 running" in done.stdout
    assert len(list(runs.glob("*/result.json"))) == 1


def test_jobs_of_a_submission_that_died_are_not_queued_again(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=3", f"profile={held}", f"runs={runs}")
    # The real sbatch, and then the death of the process that called it.
    path = stub_sbatch(tmp_path, f'{shutil.which("sbatch")} "$@"; kill -9 $PPID')
    assert submit(*words, PATH=path).returncode == -9
    assert len(queue()) == 3
    again = submit(*words)
    assert again.returncode == 0, again.stderr
    assert "3 runs of 1 configuration: 3 queued" in again.stdout
    assert len(queue()) == 3


def test_the_users_squeue_and_sbatch_settings_hide_nothing(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    words = (*small, "seeds=2", f"profile={held}", f"runs={tmp_path / 'runs'}")
    theirs = {
        "SQUEUE_STATES": "RUNNING",
        "SQUEUE_FORMAT": "%i",
        "SBATCH_JOB_NAME": "mine",
        "SBATCH_COMMENT": "mine",
    }
    assert submit(*words, **theirs).returncode == 0
    assert [name for _, name in queue()] == ["resnet.runs"] * 2
    assert "nothing to queue" in submit(*words, **theirs).stdout


def test_what_was_queued_before_sbatch_refused_is_told(
    submit: Command, stand_in: Path, held: Path, tmp_path: Path
) -> None:
    path = stub_sbatch(tmp_path, f'grep -q resnet "$1" && exit 1; exec {shutil.which("sbatch")} "$@"')
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


def test_a_squeue_that_fails_once_does_not_end_the_wait(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    stub = tmp_path / "bin" / "squeue"
    stub.parent.mkdir()
    stub.write_text(
        f"#!/bin/sh\nif [ ! -e {tmp_path}/failed ] && [ -d {runs} ]; then touch {tmp_path}/failed; "
        f'echo "Socket timed out" >&2; exit 1; fi\nexec {shutil.which("squeue")} "$@"\n'
    )
    stub.chmod(0o755)
    path = f"{stub.parent}{os.pathsep}{os.environ['PATH']}"
    fast = profile(tmp_path, "poll_seconds: 1")
    done = submit(*small, "seeds=1", f"profile={fast}", f"runs={runs}", "wait=true", PATH=path)
    assert (tmp_path / "failed").exists()
    assert done.returncode == 0, done.stderr


def test_tasks_run_the_checkout_that_submitted_them_wherever_that_was_done(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    # `submit` runs in tmp_path, which would be first on a task's sys.path.
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("raise SystemExit('the wrong jobs')")
    done = submit(*small, "seeds=1", "profile=testbed", f"runs={tmp_path / 'runs'}", "wait=true")
    assert done.returncode == 0, done.stderr


def stub_sbatch(folder: Path, script: str) -> str:
    """A PATH on which sbatch is the given shell script."""
    stub = folder / "bin" / "sbatch"
    stub.parent.mkdir()
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(0o755)
    return f"{stub.parent}{os.pathsep}{os.environ['PATH']}"


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


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
    assert "nothing to queue" in submit(*words).stdout
    assert len(queue()) == 1
