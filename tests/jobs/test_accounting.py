"""What accounting prints of jobs, read: sacct is a script that prints what the real one did."""

from pathlib import Path

import pytest

from jobs.accounting import ended_jobs
from tests.jobs.testbed import path_with


@pytest.mark.parametrize(
    ("printed", "states"),
    [
        ("28_1|a|CANCELLED by 0|gpu01", {"28_1": "CANCELLED"}),
        ("28|a|TIMEOUT|gpu01", {"28": "TIMEOUT"}),
        ("28_[0-2,4-9]|a|CANCELLED by 0|None assigned", {"28_1": "CANCELLED", "28_5": "CANCELLED"}),
        ("28_[5%2]|a|CANCELLED|None assigned", {"28_5": "CANCELLED"}),
        ("28_[0-4,7]|a|CANCELLED|None assigned\n28_5|a|FAILED|gpu01", {"28_1": "CANCELLED", "28_5": "FAILED"}),
        ("28_[0-...]|a|CANCELLED|\n28_1.batch|a|FAILED|gpu01\nnonsense", {}),
        ("29_1|a|CANCELLED|", {}),
    ],
)
def test_tasks_of_arrays(
    printed: str, states: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "printed").write_text(printed + "\n")
    monkeypatch.setenv("PATH", path_with(tmp_path, "sacct", f"cat '{tmp_path}/printed'"))
    found = ended_jobs({"28", "28_1", "28_5"}, 10)
    assert {job: ended.state for job, ended in found.items()} == states
    assert all(ended.id == job for job, ended in found.items())
