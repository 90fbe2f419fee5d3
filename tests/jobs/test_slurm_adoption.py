"""Jobs that a real Slurm holds although sbatch did not say so: they are found again, and do their work."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.jobs.conftest import manifests
from tests.jobs.testbed import path_with, queue, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("sleep 1000", "sbatch did not end within 5 s; it waits where"),
        ("echo hello", "what sbatch said of the array resnet.runs was not understood"),
        ("echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1", "(sbatch: Socket timed out"),
        ("echo 'cannot write /var/log/jobs: No space left on device' >&2; exit 3", "cannot write /var/log/jobs"),
        ("exit 1", "sbatch"),
    ],
)
@pytest.mark.parametrize("taken", [True, False])
def test_where_sbatch_does_not_tell_jobs_are_found_again_if_there_are_any(
    taken: bool, script: str, message: str, submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    words = (*small, "seeds=2", f"profile={held}", f"runs={tmp_path / 'runs'}")
    path = path_with(
        tmp_path, "sbatch", f'{shutil.which("sbatch")} "$@" >/dev/null\n{script}' if taken else script
    )
    done = submit(*words, PATH=path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "the same command finds those that are and queues the rest" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(queue()) == (2 if taken else 0)
    again = submit(*words)
    assert again.returncode == 0, again.stderr
    assert ("nothing to queue" if taken else "queued resnet.runs: 2 tasks") in again.stdout
    assert len(queue()) == 2


def test_jobs_of_a_submission_that_died_are_not_queued_again(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=3", f"profile={held}", f"runs={runs}")
    # The real sbatch, and then the death of the process that called it.
    path = path_with(tmp_path, "sbatch", f'{shutil.which("sbatch")} "$@"; kill -9 $PPID')
    assert submit(*words, PATH=path).returncode == -9
    assert len(queue()) == 3
    again = submit(*words)
    assert again.returncode == 0, again.stderr
    assert "3 runs of 1 configuration: 3 queued" in again.stdout
    assert len(queue()) == 3
    (folder,) = (runs / "submissions").glob("*/")
    assert {path.name for path in folder.glob("*.pkl")} == {f"{job}_submitted.pkl" for job, _ in queue()}


def test_jobs_that_sbatch_queued_without_saying_so_do_their_work_once_they_are_found_again(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs, report = tmp_path / "runs", tmp_path / "report"
    words = (*small, "seeds=2", f"profile={held}", f"runs={runs}", "aggregate=true", f"out={report}")
    no_answer = "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"
    path = path_with(tmp_path, "sbatch", f'{shutil.which("sbatch")} "$@" >/dev/null; {no_answer}')
    assert submit(*words, PATH=path).returncode == 2  # of the array
    second = submit(*words, PATH=path)  # of the report
    assert second.returncode == 2
    third = submit(*words)
    assert third.returncode == 0, third.stderr
    assert "without saying so: they have their tasks" in third.stdout
    assert "the report is on its way already" in third.stdout
    assert sorted(name for _, name in queue()) == ["aggregate.runs", "resnet.runs", "resnet.runs"]
    known, aggregating = manifests(runs)
    named = {task["job"] for task in known["tasks"]} | {aggregating["aggregation"]["job"]}  # type: ignore[attr-defined, index]
    assert named == {job for job, _ in queue()}
    slurm("scontrol", "release", *named)
    last = submit(*words, "wait=true")
    assert last.returncode == 0, last.stderr
    assert len(list(runs.glob("*/result.json"))) == 2
    assert (report / "report.md").is_file()
