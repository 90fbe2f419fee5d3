"""jobs/list.py: the studies below a folder."""

import os
from pathlib import Path

import pytest

from tests.conftest import Command, command_line
from tests.tools.paper_study import write_paper_study, write_result
from tests.tools.testbed import path_with


@pytest.fixture
def list_studies(tmp_path: Path) -> Command:
    return command_line("jobs/list.py", tmp_path)


def test_studies_are_listed_with_their_runs_and_space(list_studies: Command, tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    for name in ("b", "a/deep", ".hidden", "b/inner"):
        plan = write_paper_study(folder / name)
        for run in plan[:2]:
            write_result(folder / name, run)
    (folder / "link").symlink_to(folder / "a")
    (folder / "broken").mkdir()
    (folder / "broken" / "study.json").write_text("{")
    big = folder / "b" / plan[0].id / "checkpoint.pt"
    big.write_bytes(b"x" * 5_000_000)
    os.utime(big, (1893456000, 1893456000))
    asked = path_with(tmp_path, "squeue", f"touch {tmp_path}/asked; exit 1")
    done = list_studies(str(folder), PATH=asked, TZ="UTC")
    assert (done.returncode, done.stderr) == (0, "")
    head, _, *lines = done.stdout.splitlines()
    assert head.split() == ["study", "finished", "queued", "pending", "disk", "last", "change"]
    assert [line.split()[0] for line in lines[:3]] == ["a/deep", "b", "broken"]
    counts = [line.split()[1:4] for line in lines[:2]]
    assert counts[0] == counts[1]
    assert counts[0][:2] == ["2", "3"]
    assert "5." in lines[1]
    assert lines[1].endswith("MB  2030-01-01 00:00 UTC")
    assert "broken/study.json is damaged" in lines[3]
    assert not (tmp_path / "asked").exists()
    assert list_studies(f"folder={folder / 'b'}").stdout.splitlines()[2].startswith(". ")


def test_folder_without_studies_takes_one_line(list_studies: Command, tmp_path: Path) -> None:
    assert list_studies(str(tmp_path)).stdout == f"no study in {tmp_path}\n"
    done = list_studies(str(tmp_path / "nope"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no such folder" in done.stderr
    assert "given twice" in list_studies("one", "two").stderr
