"""What Slurm's commands answer, and what is said of an answer that is none."""

from pathlib import Path

import pytest

from jobs.cluster import NoAnswerError, cancel_jobs, queued_jobs
from tests.jobs.testbed import path_with


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        (
            "scancel: error: Kill job error on job id 5: Access/permission denied",
            "scancel failed: Kill job error on job id 5: Access/permission denied; mend that and try again",
        ),
        (
            "scancel: error: Kill job error on job id 5: Unable to contact slurm controller (connect failure)",
            "Slurm does not answer (scancel: Kill job error on job id 5: Unable to contact",
        ),
        ("scancel: error: Socket timed out on send/recv operation", "Slurm does not answer (scancel: "),
        ("", "Slurm does not answer (scancel: exit status 1)"),
    ],
)
def test_a_command_that_fails_says_why_itself(
    complaint: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "complaint").write_text(complaint)
    monkeypatch.setenv("PATH", path_with(tmp_path, "scancel", f"cat '{tmp_path}/complaint' >&2; exit 1"))
    with pytest.raises(NoAnswerError) as caught:
        cancel_jobs(["5"], 5)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("line", ["JOBID PARTITION NAME", "5|RUNNING|None|scratch.runs"])
def test_what_is_no_job_in_squeues_answer_is_told(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "squeue", f"echo '{line}'"))
    with pytest.raises(NoAnswerError) as caught:
        queued_jobs(["scratch.runs"], 5)
    assert str(caught.value).startswith(f"squeue printed '{line}', which is no job; look at `squeue --noheader")


def test_a_comment_may_hold_what_parts_the_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "squeue", "echo '5_2|PENDING|Priority|scratch.runs|a|b'"))
    (job,) = queued_jobs(["scratch.runs"], 5)
    assert (job.index, job.state, job.comment) == (2, "queued", "a|b")
