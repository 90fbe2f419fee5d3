"""What accounting prints of jobs, read: sacct is a script that prints what the real one did."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from caltech_exp.executors import slurm_queries
from caltech_exp.executors.slurm_queries import Slurm
from tests.tools.testbed import path_with


@pytest.mark.parametrize(
    ("printed", "states"),
    [
        ("28_1|a|CANCELLED by 0|gpu01|2026-01-31T12:00:00", {"28_1": "CANCELLED"}),
        ("28|a|TIMEOUT|gpu01|Unknown", {"28": "TIMEOUT"}),
        ("28_[0-2,4-9]|a|CANCELLED by 0|None assigned|", {"28_1": "CANCELLED", "28_5": "CANCELLED"}),
        ("28_[5%2]|a|CANCELLED|None assigned|", {"28_5": "CANCELLED"}),
        ("28_[0-4,7]|a|CANCELLED|None assigned|\n28_5|a|FAILED|gpu01|", {"28_1": "CANCELLED", "28_5": "FAILED"}),
        ("28_[0-...]|a|CANCELLED||\n28_1.batch|a|FAILED|gpu01|\nnonsense", {}),
        ("29_1|a|CANCELLED||", {}),
    ],
)
def test_tasks_of_arrays(
    printed: str, states: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "printed").write_text(printed + "\n")
    monkeypatch.setenv("PATH", path_with(tmp_path, "sacct", f"cat '{tmp_path}/printed'"))
    found = Slurm(10).ended_jobs({"28", "28_1", "28_5"})
    assert {job: ended.state for job, ended in found.items()} == states
    assert all(ended.id == job for job, ended in found.items())


def test_when_a_job_was_submitted_is_in_the_time_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "28|a|TIMEOUT|gpu01|2026-01-31T12:00:00"
    monkeypatch.setenv("PATH", path_with(tmp_path, "sacct", f"echo '{line}'"))
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        assert Slurm(10).ended_jobs({"28"})["28"].submitted == datetime.fromisoformat("2026-01-31T10:00:00+00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_accounting_that_hangs_is_asked_once_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_queries, "ACCOUNTING_SECONDS", 0.5)
    monkeypatch.setattr(slurm_queries, "IDS_PER_QUESTION", 1)
    asked = tmp_path / "asked"
    monkeypatch.setenv("PATH", path_with(tmp_path, "sacct", f"echo >>'{asked}'; exec sleep 1000"))
    assert Slurm(60).ended_jobs({"28", "29", "30"}) == {}
    assert asked.read_text() == "\n"
