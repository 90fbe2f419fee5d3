"""Which job sbatch, or a site's wrapper, says that it queued, and how long it may take.

On a real Slurm: test_slurm_recovery.
"""

import os
from functools import partial
from pathlib import Path

import pytest

from caltech_exp.executors.sbatch import Answer, BatchJob, call_sbatch, queue_array
from caltech_exp.executors.sbatch_errors import UncertainError
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.provenance import Snapshot
from tests.tools.testbed import path_with, show_queue, until

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


SAY = "echo 'Submitted batch job 7'"
BANNER = "echo '*** 2 GPUs are down, job limit 500 ***'"
"""Numbers that are no job's."""
NO_ANSWER = (
    "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
)
NO_SPACE = "echo 'cannot write /var/log/jobs: No space left on device' >&2; exit 3"
PROFILE = SlurmProfile(executor="slurm", device="cpu", command_timeout_seconds=1)


def queue_two(folder: Path, snapshot: Snapshot) -> list[str]:
    folder.mkdir()
    batch = BatchJob("scratch.runs", "comment", [partial(print)] * 2, folder)
    return queue_array(batch, PROFILE, snapshot)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("echo 7", id="bare id"),
        pytest.param("echo '7;testbed'", id="parsable"),
        pytest.param(f"{BANNER}; {SAY}; {BANNER}", id="banners"),
        pytest.param(f"{BANNER}; echo 7; {BANNER}", id="bare id between banners"),
        pytest.param(f"{SAY}' on cluster x'", id="cluster"),
        pytest.param(f"{SAY}; exit 3", id="status"),
        pytest.param(f"{SAY} >&2; echo 'Some error' >&2; exit 1", id="standard error"),
        pytest.param(f"{SAY}; sleep 1000", id="hangs after its answer"),
        pytest.param("sleep 1000", id="no answer in time"),
        pytest.param("echo done", id="other words"),
        pytest.param(NO_ANSWER, id="connection lost"),
        pytest.param(NO_SPACE, id="the wrapper fails"),
        pytest.param("exit 1", id="the wrapper fails and does not say why"),
    ],
)
def test_queue_array_knows_the_job_whatever_sbatch_prints(
    script: str, code_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "sbatch", script))
    show_queue(tmp_path, *(f"7_{index}|PENDING|Priority|scratch.runs|comment" for index in range(2)))
    assert queue_two(tmp_path / "logs", code_snapshot) == ["7_0", "7_1"]
    files = sorted(path.name for path in (tmp_path / "logs").glob("*.pkl"))
    assert files == ["7_0_submitted.pkl", "7_1_submitted.pkl"]


@pytest.mark.parametrize("script", ["sleep 1000", "echo hello", "exit 1", NO_SPACE, NO_ANSWER])
def test_queue_array_is_uncertain_where_neither_sbatch_nor_squeue_names_the_job(
    script: str, code_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "sbatch", script))
    show_queue(tmp_path)
    with pytest.raises(UncertainError) as error:
        queue_two(tmp_path / "logs", code_snapshot)
    assert "the same command finds those that are and queues the rest" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(list((tmp_path / "logs").glob("*.pkl"))) == 2  # for the job, should it be queued all the same
