"""Slurm's limits on how many jobs may be queued: what is taken stays, the same command queues the rest later."""

import shutil
from pathlib import Path

import pytest

from jobs.refusals import remedy
from tests.conftest import Command
from tests.jobs.conftest import manifests
from tests.jobs.testbed import path_with, profile, queue

REFUSAL = (
    "sbatch: error: AssocMaxSubmitJobLimit\n"
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


@pytest.mark.slurm
@pytest.mark.usefixtures("empty_queue")
def test_a_limit_on_submitted_jobs(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "refusal").write_text(REFUSAL)
    runs, calls = tmp_path / "runs", tmp_path / "calls"
    path = path_with(
        tmp_path,
        "sbatch",
        f"echo >> '{calls}'; if [ $(wc -l < '{calls}') -gt 1 ]; then cat '{tmp_path}/refusal' >&2; exit 1; fi\n"
        f'exec {shutil.which("sbatch")} "$@"',
    )
    few = profile(tmp_path, sbatch="{hold: true}", max_array_size=2)
    words = (*small, "seeds=5", f"profile={few}", f"runs={runs}")
    refused = submit(*words, PATH=path)
    assert refused.returncode == 2
    assert "AssocMaxSubmitJobLimit" in refused.stderr
    assert "give the same command again when some have ended" in refused.stderr
    assert "2 tasks are queued already, the same command queues the rest" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert len(queue()) == 2

    later = submit(*words)
    assert later.returncode == 0, later.stderr
    assert len(queue()) == 5
    tasks = [task for manifest in manifests(runs) for task in manifest["tasks"]]  # type: ignore[attr-defined]
    assert len({run for task in tasks for run in task["runs"]}) == len(tasks) == 5
    assert "nothing to queue" in submit(*words).stdout


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (REFUSAL, "the cluster limits how many jobs may be queued"),
        ("Batch job submission failed: QOSMaxSubmitJobPerUserLimit", "give the same command again"),
        ("Slurm temporarily unable to accept job, sleeping and retrying", "give the same command again"),
        ("Invalid job array specification: Job array index too large", "set max_array_size lower"),
        ("Invalid partition name specified", "correct the profile or ask Slurm"),
        ("Invalid account or account/partition combination specified", "correct the profile or ask Slurm"),
    ],
)
def test_what_to_do_about_a_refusal(reason: str, words: str) -> None:
    assert words in remedy(reason)
