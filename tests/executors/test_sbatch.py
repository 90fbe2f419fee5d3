"""Which job sbatch, or a site's wrapper, says that it queued, and how long it may take.

On a real Slurm: test_slurm_adoption.
"""

import os
from pathlib import Path

import pytest

from caltech_exp.executors.sbatch import Answer, call_sbatch
from tests.tools.testbed import path_with, until

REFUSAL = "sbatch: error: Batch job submission failed: Invalid partition name specified"


@pytest.mark.parametrize(
    ("output", "complaint", "status", "job"),
    [
        ("Submitted batch job 1234", "", 0, "1234"),
        ("Submitted batch job 1234 on cluster x", "", 0, "1234"),
        ("500 jobs left\nSubmitted batch job 1234\n7", "", 0, "1234"),
        ("1234", "", 0, "1234"),
        (" 1234;cluster ", "", 0, "1234"),
        ("*** 2 GPUs are down, job 500 is stuck ***\n1234\ngood luck", "", 0, "1234"),
        ("\x1b[32m1234\x1b[0m", "", 0, "1234"),
        ("1234", "some error", 1, "1234"),
        ("1234", "", None, "1234"),
        ("", "sbatch: Submitted batch job 1234", 1, "1234"),
        ("Submitted batch job 1234", REFUSAL, 1, "1234"),
        ("1234", REFUSAL, 1, None),
        ("", REFUSAL, 1, None),
        ("1234\n5678", "", 0, None),
        ("Submitted batch job 1\nSubmitted batch job 2", "", 0, None),
        ("job 1234", "", 0, None),
        ("1234_5", "", 0, None),
        ("", "", 0, None),
    ],
)
def test_the_job_that_is_named(output: str, complaint: str, status: int | None, job: str | None) -> None:
    assert Answer(output, complaint, status).job == job


def test_an_sbatch_that_does_not_end_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"echo 12; sleep 1000 & echo $! >'{tmp_path}/pid'; wait"
    monkeypatch.setenv("PATH", path_with(tmp_path, "sbatch", script))
    assert call_sbatch(tmp_path / "script.sh", 1, os.environ) == Answer("12", "", None)
    child = Path("/proc") / (tmp_path / "pid").read_text().strip()
    until(lambda: not child.exists() or "(zombie)" in (child / "status").read_text())


def test_what_sbatch_leaves_behind_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "sbatch", "echo 12; sleep 1000 & echo $! >&2"))
    answer = call_sbatch(tmp_path / "script.sh", 60, os.environ)
    os.kill(int(answer.complaint), 9)
    assert (answer.output, answer.status) == ("12", 0)
