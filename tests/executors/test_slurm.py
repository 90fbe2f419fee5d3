"""The way through a real Slurm: arrays, GPU ids, names, and what is in the queue already."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from caltech_exp.submission.tasks import TrainTask
from tests.conftest import Command, gpu_ids, manifests
from tests.tools.testbed import profile, queue, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def test_a_study_on_slurm(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    # `submit` runs in tmp_path; a task must not import these in place of Python's or of the snapshot's.
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    (tmp_path / "caltech_exp").mkdir()
    (tmp_path / "caltech_exp" / "__init__.py").write_text("raise SystemExit('the wrong caltech_exp')")
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
    assert "nothing to submit" in again.stdout
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
    assert "nothing to submit" in second.stdout
    more = submit(*small, "seeds=6", f"profile={held}", f"runs={runs}")
    assert "queued resnet.my-study: 2 tasks, 2 runs" in more.stdout
    assert len(queue()) == 6


def test_the_command_line_changes_a_profile(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    changes = ("profile.partition=scavenge", "profile.mem_gb=2", "profile.sbatch.nice=100")
    done = submit(*small, "seeds=1", f"profile={held}", *changes, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    ((job, _),) = queue()  # held still: of the mapping `sbatch` only the one option was named
    told = slurm("scontrol", "show", "job", job)
    assert all(word in told for word in ("Partition=scavenge", "MinMemoryNode=2G", "Nice=100", "JobHeldUser"))
    (manifest,) = manifests(tmp_path / "runs")
    assert manifest["profile"]["partition"] == "scavenge"  # type: ignore[index]


def test_what_the_profile_says_is_above_the_users_variables_for_sbatch(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    theirs = {
        "SBATCH_PARTITION": "urgent", "SBATCH_TIMELIMIT": "3", "SBATCH_MEM_PER_NODE": "1",
        "SBATCH_NO_REQUEUE": "1", "SBATCH_ARRAY_INX": "0-9", "SBATCH_WAIT": "1", "SBATCH_ACCOUNT": "testbed",
    }  # fmt: skip
    words = (*small, "seeds=2", f"profile={held}", "profile.partition=scavenge", f"runs={tmp_path / 'runs'}")
    dry = submit(*words, "dry_run=true", **theirs)
    assert "\nsbatch also takes options from the environment: SBATCH_ACCOUNT=testbed\n" in dry.stdout
    done = submit(*words, "aggregate=true", f"out={tmp_path / 'report'}", **theirs, SBATCH_GPUS="2")
    assert done.returncode == 0, done.stderr
    jobs = dict(queue())
    assert sorted(jobs.values()) == ["aggregate.runs", "resnet.runs", "resnet.runs"]
    for job, name in jobs.items():
        told = slurm("scontrol", "show", "job", job)
        assert "Partition=scavenge" in told
        assert "Requeue=1" in told
        assert ("TimeLimit=04:00:00" in told) == (name == "resnet.runs")
        assert ("gres:gpu" in told) == (name == "resnet.runs")


def test_a_task_has_the_cores_of_its_job_and_the_umask_of_who_submitted(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs, told, inside = tmp_path / "runs", tmp_path / "told", tmp_path / "inside.sh"
    inside.write_text(
        f'{{ scontrol show step "$SLURM_JOB_ID.$SLURM_STEP_ID"; env; }} >"{told}"\nexec {sys.executable} "$@"\n'
    )
    two = profile(tmp_path, cpus_per_task=2, python=f"sh {inside}")
    before = os.umask(0o002)
    try:
        done = submit(*small, "seeds=1", f"profile={two}", f"runs={runs}", "wait=true")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert " CPUs=2 Tasks=1 " in told.read_text()
    assert "\nSRUN_CPUS_PER_TASK=2\n" in told.read_text()  # what srun was asked for: nothing binds tasks here
    (result,) = runs.glob("*/result.json")
    assert (result.stat().st_mode & 0o777, result.parent.stat().st_mode & 0o777) == (0o664, 0o775)


def test_tasks_are_told_where_the_weights_are(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    words = (*small, "seeds=1", f"profile={held}", f"runs={tmp_path / 'runs'}")
    assert submit(*words, TORCH_HOME=str(tmp_path / "weights")).returncode == 0
    (pickled,) = (tmp_path / "runs").glob("submissions/*/*_submitted.pkl")
    task = DelayedSubmission.load(pickled).function
    assert isinstance(task, TrainTask)
    assert task.torch_home_here == str(tmp_path / "weights")


def test_two_submissions_at_once_queue_every_run_once(small: tuple[str, ...], held: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "jobs" / "submit.py"
    command = [sys.executable, str(script), *small, "seeds=5", f"profile={held}", f"runs={tmp_path / 'runs'}"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("nothing to submit" in text for text in printed) == 1
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
    assert "nothing to submit" in submit(*words, **theirs).stdout
