"""What Slurm's commands answer, and what is said of an answer that is none."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.executors.slurm_queries import NoAnswerError, Slurm
from tests.tools.process_limit import answer_with_processes
from tests.tools.testbed import path_with, show_queue


@pytest.mark.parametrize(
    ("complaint", "told"),
    [
        (
            "scancel: error: Kill job error on job id 5: Access/permission denied",
            "scancel failed: Kill job error on job id 5: Access/permission denied; correct that and try again",
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
        Slurm(5).cancel(["5"])
    assert str(caught.value).startswith(told)


def test_a_command_that_cannot_be_started_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = answer_with_processes(1, lambda: Slurm(5).queued_jobs(["scratch.runs"], [os.geteuid()]))
    assert "squeue could not be started (Resource temporarily unavailable); end some of your processes" in answer
    (tmp_path / "squeue").write_text("\0")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        NoAnswerError, match=r"^squeue could not be started \(.*\); check how squeue is installed$"
    ):
        Slurm(5).queued_jobs(["scratch.runs"], [os.geteuid()])


@pytest.mark.parametrize("line", ["JOBID PARTITION NAME", "5|RUNNING|None|scratch.runs"])
def test_what_is_no_job_in_squeues_answer_is_told(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, "squeue", f"echo '{line}'"))
    with pytest.raises(NoAnswerError) as caught:
        Slurm(5).queued_jobs(["scratch.runs"], [os.geteuid()])
    assert str(caught.value).startswith(f"squeue printed '{line}', which is no job; look at `squeue --noheader")


def test_lines_that_do_not_fit_are_skipped_and_other_peoples_jobs_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar, a line break, a whole forged line, and bytes that are no text, in what people wrote into comments."""
    own = os.geteuid()
    forged = f"a|b\n7_0|RUNNING|{own}|None|scratch.runs|caltech_exp x/0\n||"
    records = [
        ("5_2", "PENDING", own, "Priority", "scratch.runs", "a|b"),
        ("5_3", "PENDING", own, "Priority", "scratch.runs", forged),
        ("6_0", "RUNNING", own + 1, "None", "scratch.runs", "caltech_exp x/0"),
        ("6_1", "RUNNING", own, "None", "another.runs", "caltech_exp x/0"),
        ("6_[0-9]", "RUNNING", own, "None", "scratch.runs", "caltech_exp x/0"),
        ("6_2", "RUNNING", "", "None", "scratch.runs", "caltech_exp x/0"),
        ("9", "RUNNING", own, "None", "scratch.runs", "\udcff"),
    ]
    script = "".join(
        "".join(f'printf %s "$mark"{shlex.quote(str(field))}\n' for field in record) + 'printf "%s\\n" "$mark"\n'
        for record in records
    )
    find_mark = "for word; do case $word in --format=*) mark=${word#--format=}; mark=${mark%%\\%*};; esac; done"
    program = tmp_path / "bin" / "squeue"
    monkeypatch.setenv("PATH", path_with(tmp_path, "squeue", ""))
    program.write_bytes(f"#!/bin/sh\necho a banner\n{find_mark}\n{script}".encode(errors="surrogateescape"))
    jobs = Slurm(5).queued_jobs(["scratch.runs"], [own])
    assert [(job.id, job.index, job.array, job.state) for job in jobs] == [
        ("5_2", 2, "5", "queued"),
        ("5_3", 3, "5", "queued"),
        ("9", 0, "9", "running"),
    ]
    assert [job.comment for job in jobs[:2]] == ["a|b", forged]


TIMED_OUT = "slurm_load_jobs error: Socket timed out on send/recv operation"


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [
        ("", TIMED_OUT),
        ("JOBID|STATE|REASON|NAME|COMMENT", TIMED_OUT),
        ("", "squeue: error: Invalid user: me"),
        ("", "sorry, the batch system is not responding"),
        ("5_2|PENDING|Priority|scratch.runs|c", "squeue: error: cluster b: Unable to contact slurm controller"),
    ],
)
def test_an_error_without_an_answer_is_no_empty_queue(
    printed: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [printed] if printed.startswith("5") else []
    before = f"echo '{complaint}' >&2\necho '{printed}'"
    monkeypatch.setenv("PATH", show_queue(tmp_path, *lines, before=before))
    with pytest.raises(NoAnswerError) as caught:
        Slurm(5).queued_jobs(["scratch.runs"], [os.geteuid()])
    assert str(caught.value).startswith(
        f"Slurm does not answer (squeue: {complaint.removeprefix('squeue: error: ')})"
    )


@pytest.mark.parametrize(
    ("printed", "complaint", "count"),
    [
        ("", "", 0),
        ("", "bash: warning: setlocale: LC_ALL: cannot change locale (C.utf8)", 0),
        ("5_2|PENDING|Priority|scratch.runs|c", "the /home file system failed last night, see the wiki", 1),
        ("5_2|PENDING|Priority|scratch.runs|c", "ERROR: ld.so: object x.so cannot be preloaded: ignored.", 1),
    ],
)
def test_a_warning_beside_an_answer_changes_nothing(
    printed: str, complaint: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [printed] if printed else []
    monkeypatch.setenv("PATH", show_queue(tmp_path, *lines, before=f"echo '{complaint}' >&2"))
    assert len(Slurm(5).queued_jobs(["scratch.runs"], [os.geteuid()])) == count


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("scontrol", lambda: Slurm(5).release(["5"])),
        ("scontrol", lambda: Slurm(5).max_tasks()),
        ("scancel", lambda: Slurm(5).cancel(["5"])),
    ],
)
def test_an_error_with_status_0_is_an_error_of_every_command(
    command: str, call: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with(tmp_path, command, f"echo '{TIMED_OUT}' >&2"))
    with pytest.raises(NoAnswerError, match=r"^Slurm does not answer \(.*Socket timed out"):
        call()


@pytest.mark.parametrize(
    ("complaint", "is_done"),
    [
        ("6_0: Job has already finished", True),
        ("Invalid job id specified for job 9\nslurm_suspend error: Invalid job id specified", True),
        ("6_[1-2]: No error\n6_0: Job has already finished", True),
        ("6_0: Job has already finished\nAccess/permission denied for job 7", False),
        ("6_0: Job has already finished\nUnable to contact slurm controller (connect failure) for job 7", False),
    ],
)
def test_tasks_that_have_ended_do_not_keep_others_from_being_released(
    complaint: str, is_done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "complaint").write_text(complaint + "\n")
    monkeypatch.setenv("PATH", path_with(tmp_path, "scontrol", f"cat '{tmp_path}/complaint' >&2; exit 1"))
    if is_done:
        Slurm(5).release(["6_0", "7"])
    else:
        with pytest.raises(NoAnswerError, match="for job 7"):
            Slurm(5).release(["6_0", "7"])
