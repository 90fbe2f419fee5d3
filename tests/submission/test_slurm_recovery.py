"""Jobs that a real Slurm holds although sbatch did not say so: they are found again, and do their work.

What else sbatch may print is tried without Slurm, in executors/test_sbatch.py.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import SMALL, Command, manifests
from tests.tools.testbed import path_with, profile, queue, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


SBATCH = shutil.which("sbatch")
NO_ANSWER = (
    "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
)
BANNER = "echo '*** 2 GPUs are down, job limit 500 ***'"
"""Numbers that are no job's."""


def reprinted(pattern: str) -> str:
    """A wrapper that prints the job's id, 1 in the pattern, in its own way."""
    edit = f"s/^Submitted batch job ([0-9]+).*/{pattern}/"
    return f"out=$({SBATCH} \"$@\") || exit $?; printf '%s\\n' \"$out\" | sed -E '{edit}'"


@pytest.fixture
def whole(stand_in: Path, tmp_path: Path) -> tuple[str, ...]:
    """Two runs with a job before and a job after them."""
    places = (f"data={stand_in}", f"packs={tmp_path / 'packs'}", f"runs={tmp_path / 'runs'}")
    study = ("table=resnet.batch_256", "weights=none", *SMALL, "engine=fast", "seeds=2")
    return (*study, *places, "aggregate=true", f"out={tmp_path / 'report'}")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(f"{BANNER}; {reprinted(chr(92) + '1')}; {BANNER}", id="bare id between banners"),
        pytest.param(f'{SBATCH} "$@" >/dev/null; sleep 1000', id="no answer in time"),
        pytest.param(f'{SBATCH} "$@" >/dev/null; {NO_ANSWER}', id="connection lost"),
    ],
)
def test_whatever_sbatch_prints_of_a_job_that_it_took_the_job_is_known(
    script: str, submit: Command, whole: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    path = path_with(tmp_path, "sbatch", script)
    done = submit(*whole, f"profile={held}", PATH=path)
    assert done.returncode == 0, done.stderr
    assert sorted(name for _, name in queue()) == ["aggregate.runs", "prepare.runs", "resnet.runs", "resnet.runs"]
    assert {job for job, _ in queue()} == job_ids(tmp_path / "runs")
    (folder,) = (tmp_path / "runs" / "submissions").glob("*/")
    assert {path.name for path in folder.glob("*.pkl")} == {f"{job}_submitted.pkl" for job, _ in queue()}
    again = submit(*whole, f"profile={held}", PATH=path)
    assert "nothing to submit" in again.stdout
    assert len(queue()) == 4


def job_ids(runs: Path) -> set[str]:
    """Every job that the manifests know."""
    parts = [
        part
        for manifest in manifests(runs)
        for part in (*manifest["tasks"], manifest["preparation"], manifest["aggregation"])  # type: ignore[misc]
    ]
    return {part["job"] for part in parts if part}


def states(status: Command, runs: Path) -> set[str]:
    """The states of the study's runs; those of other tables are pending."""
    return set(json.loads(status(f"runs={runs}", "json=true").stdout)["counts"])


def silent_slurm(tmp_path: Path, calls_before: int = 0) -> str:
    """A PATH where sbatch queues and does not say so, and from then on squeue does not answer."""
    path_with(
        tmp_path,
        "squeue",
        f"if [ -e '{tmp_path}/down' ]; then sleep 1000; fi\nexec {shutil.which('squeue')} \"$@\"",
    )
    script = (
        f"echo >>'{tmp_path}/calls'\n"
        f"if [ $(wc -l <'{tmp_path}/calls') -le {calls_before} ]; then exec {SBATCH} \"$@\"; fi\n"
        f"{SBATCH} \"$@\" >/dev/null; touch '{tmp_path}/down'; {NO_ANSWER}"
    )
    return path_with(tmp_path, "sbatch", script)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_job_of_which_nothing_could_be_told_is_found_by_the_next_command(
    known: int, submit: Command, status: Command, whole: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    """The preparation, the array, the report in turn. No job is queued twice, and the later ones wait for it."""
    done = submit(*whole, f"profile={held}", PATH=silent_slurm(tmp_path, known))
    assert done.returncode == 2
    assert "Slurm does not answer (sbatch: Batch job submission failed: Socket timed out" in done.stderr
    assert "the same command finds those that are and queues the rest" in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(queue()) == [1, 3, 4][known]
    assert states(status, tmp_path / "runs") == ({"pending"} if known == 0 else {"pending", "queued"})
    again = submit(*whole, f"profile={held}")
    assert again.returncode == 0, again.stderr
    assert "queued although sbatch did not confirm it, now with its tasks" in again.stdout
    assert sorted(name for _, name in queue()) == ["aggregate.runs", "prepare.runs", "resnet.runs", "resnet.runs"]
    assert {job for job, _ in queue()} == job_ids(tmp_path / "runs")
    waits = dict(line.split("|") for line in slurm("squeue", "--noheader", "--format=%j|%E").split())
    ids = {name: job.partition("_")[0] for job, name in queue()}
    assert f"afterany:{ids['prepare.runs']}" in waits["resnet.runs"]
    assert f"afterany:{ids['resnet.runs']}" in waits["aggregate.runs"]


@pytest.mark.parametrize("script", ["sleep 1000", NO_ANSWER])
def test_runs_whose_sbatch_was_not_called_or_took_nothing_are_queued_by_the_next_command(
    script: str, submit: Command, status: Command, whole: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    done = submit(*whole, f"profile={held}", PATH=path_with(tmp_path, "sbatch", script))
    assert done.returncode == 2
    assert "the same command finds those that are and queues the rest" in done.stderr
    assert done.stderr.count("\n") == 1
    assert queue() == []
    assert states(status, tmp_path / "runs") == {"pending"}
    again = submit(*whole, f"profile={held}")
    assert again.returncode == 0, again.stderr
    assert sorted(name for _, name in queue()) == ["aggregate.runs", "prepare.runs", "resnet.runs", "resnet.runs"]


def test_runs_of_an_array_that_the_submitting_process_did_not_come_to_are_not_lost(
    submit: Command, status: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (
        *small,
        "seeds=4",
        f"profile={profile(tmp_path, sbatch='{hold: true}', max_array_size=2)}",
        f"runs={runs}",
    )
    path = path_with(tmp_path, "sbatch", f'{SBATCH} "$@"; kill -9 $PPID')
    assert submit(*words, PATH=path).returncode == -9
    assert states(status, runs) == {"pending", "queued"}
    again = submit(*words)
    assert "4 runs of 1 configuration: 2 queued, 2 pending" in again.stdout, again.stdout
    assert len(queue()) == 4


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
    assert submit(*words, PATH=silent_slurm(tmp_path)).returncode == 2  # of the array
    (tmp_path / "down").unlink()
    second = submit(*words, PATH=silent_slurm(tmp_path))  # of the report
    assert second.returncode == 2
    third = submit(*words)
    assert third.returncode == 0, third.stderr
    assert "queued although sbatch did not confirm it, now with its tasks" in third.stdout
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
