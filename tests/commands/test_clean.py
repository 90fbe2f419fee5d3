"""jobs/clean.py: what it removes, and everything that it must leave alone."""

import json
import os
import time
from pathlib import Path

import pytest

from caltech_exp.commands.clean import find_leftovers
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import write_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import acquire
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import RESULT
from caltech_exp.submission.snapshot import snapshots_folder
from tests.conftest import Command, command_line
from tests.tools.paper_study import CODE, JOB, SUBMISSION, log_of, result_of, write_paper_study, write_progress
from tests.tools.testbed import path_with, show_queue

HALF = ".checkpoint.pt.0123456789abcdef"
OLD = time.time() - 7200


@pytest.fixture
def clean(tmp_path: Path) -> Command:
    return command_line("jobs/clean.py", tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def plan(runs: Path) -> list[PlannedRun]:
    return write_paper_study(runs)


def source(number: int) -> CodeVersion:
    return CODE.model_copy(update={"source": f"{number:016x}"})


def old(path: Path, text: str = "x") -> Path:
    """A file of two hours ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (OLD, OLD))
    return path


def snapshot(runs: Path, number: int) -> Path:
    """A read-only copy of the code of two hours ago."""
    folder = snapshots_folder(runs) / f"{number:016x}"
    old(folder / "caltech_exp" / "__init__.py").chmod(0o444)
    os.utime(folder, (OLD, OLD))
    return folder


def submit_with(runs: Path, number: int, task: int, **changes: object) -> None:
    """A submission of the task's run alone, with the code of that snapshot."""
    folder = StudyFolder(runs)
    (first, *_) = folder.manifests()
    tasks = (first.tasks[task].model_copy(update={"index": 0, "job": f"48{number:02}_0"}),)
    update = {"id": f"2026020{number}T000000-abcd", "tasks": tasks, "code": source(number), **changes}
    folder.write_manifest(first.model_copy(update=update))


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_half_written_files_are_listed_and_then_removed(
    clean: Command, runs: Path, plan: list[PlannedRun], tmp_path: Path
) -> None:
    path = show_queue(tmp_path)
    before = files(runs)
    half = {
        old(runs / plan[0].id / HALF),
        old(runs / ".study.json.0123456789abcdef"),
        old(runs / ".cache" / ".past_runs.0123456789abcdef"),
        old(runs / "submissions" / SUBMISSION / ".manifest.json.0123456789abcdef"),
    }
    half_snapshot = snapshots_folder(runs) / f".{1:016x}.abcd_123"
    old(half_snapshot / "caltech_exp" / "x.py")
    os.utime(half_snapshot, (OLD, OLD))
    listed = clean(f"runs={runs}", PATH=path)
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = listed.stdout.splitlines()
    assert {Path(line.split()[2]) for line in lines[:-1]} == {*half, half_snapshot}
    assert all(line.startswith("would remove ") and "(half-written, 0.0 MB)" in line for line in lines[:-1])
    assert lines[-1] == "would remove 0.0 MB in all; delete=true removes it"
    assert half <= files(runs)
    removed = clean(f"runs={runs}", "delete=true", PATH=path)
    assert removed.stdout == listed.stdout.replace("would remove", "removed").replace(
        "; delete=true removes it", ""
    )
    assert files(runs) == before
    assert clean(f"runs={runs}", "delete=true", PATH=path).stdout == "nothing to remove\n"


def test_records_and_whatever_may_still_be_written_stay(
    clean: Command, runs: Path, plan: list[PlannedRun], tmp_path: Path
) -> None:
    folder = runs / plan[0].id
    write_record(folder, RESULT, result_of(plan[0].config, 0))
    write_progress(runs, plan[1])
    old(log_of(runs, 0))
    for name in (
        "checkpoint.pt",
        "failure.json",
        "lease.000001.json",
        ".hidden",
        ".a.0123",
        ".b.0123456789ABCDEF",
    ):
        old(runs / plan[1].id / name)
    old(runs / "networks" / "0" / "abc" / "nets.py")
    (runs / plan[0].id / HALF).write_text("a process may write it now")
    old(runs / "notes" / HALF)  # a user's own folder
    (runs / plan[0].id / ".link.0123456789abcdef").symlink_to(folder / RESULT)
    lease = acquire(runs / plan[2].id, f"{JOB}_2")
    assert lease is not None
    old(runs / plan[2].id / HALF)  # its writer lives
    before = files(runs)
    done = clean(f"runs={runs}", "delete=true", PATH=show_queue(tmp_path))
    assert done.stdout == "nothing to remove\n", done.stderr
    assert files(runs) == before
    lease.release()
    assert set(find_leftovers(StudyFolder(runs), Slurm())) == {runs / plan[2].id / HALF}


def test_snapshots_that_anything_needs_stay(
    clean: Command, runs: Path, plan: list[PlannedRun], tmp_path: Path
) -> None:
    """Each snapshot has one reason to stay, and the last has none."""
    queued, trained, resumed, interrupted, held, elsewhere, unused, atlas = (
        snapshot(runs, k) for k in range(1, 9)
    )
    submit_with(runs, 1, 0)
    result = result_of(plan[1].config, 0).model_copy(update={"code": source(2), "earlier_code": (source(3),)})
    write_record(runs / plan[1].id, RESULT, result)
    submit_with(runs, 4, 2)
    old(runs / plan[2].id / "checkpoint.pt")
    submit_with(runs, 5, 3)
    lease = acquire(runs / plan[3].id, "4805_0")
    assert lease is not None
    submit_with(runs, 6, 4, executor="local", host="another-machine")
    submit_with(runs, 7, 1)  # its run has a result of other code
    submit_with(runs, 8, 0, cluster="atlas")
    path_with(tmp_path, "scontrol", "printf 'ClusterName             = bora\\n'")
    path = show_queue(tmp_path, "4801_0|PENDING|None|scratch.runs|")
    listed = clean(f"runs={runs}", PATH=path).stdout.splitlines()
    assert listed[:-1] == [f"would remove {unused} (code that nothing uses, {listed[-1].split()[2]} MB)"]
    assert clean(f"runs={runs}", "delete=true", PATH=path).returncode == 0
    assert {*snapshots_folder(runs).iterdir()} == {queued, trained, resumed, interrupted, held, elsewhere, atlas}
    lease.release()
    (runs / plan[2].id / "checkpoint.pt").unlink()
    clean(f"runs={runs}", "delete=true", PATH=show_queue(tmp_path))
    assert {*snapshots_folder(runs).iterdir()} == {trained, resumed, elsewhere, atlas}
    assert json.loads((runs / plan[1].id / RESULT).read_text())["code"]["source"] == trained.name


def test_no_snapshot_is_judged_while_a_queue_is_silent_or_a_record_damaged(
    clean: Command, runs: Path, plan: list[PlannedRun], tmp_path: Path
) -> None:
    unused = snapshot(runs, 1)
    silent = path_with(tmp_path, "squeue", "echo 'Socket timed out' >&2; exit 1")
    done = clean(f"runs={runs}", "delete=true", PATH=silent)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Slurm does not answer" in done.stderr
    path = show_queue(tmp_path)
    for name, words in ((plan[0].id, "result.json is damaged"), (f"submissions/{SUBMISSION}", "is damaged")):
        record = runs / name / ("result.json" if name == plan[0].id else "manifest.json")
        before = record.read_text() if record.exists() else None
        old(record, "{")
        done = clean(f"runs={runs}", "delete=true", PATH=path)
        assert done.returncode == 2
        assert words in done.stderr
        assert unused.exists()
        record.unlink() if before is None else record.write_text(before)
    old(runs / plan[0].id / RESULT, json.dumps({"schema_version": 2}))
    assert "newer version" in clean(f"runs={runs}", "delete=true", PATH=path).stderr
    assert unused.exists()


def test_folder_without_a_study_is_left_alone(clean: Command, tmp_path: Path) -> None:
    half = old(tmp_path / HALF)
    done = clean(f"runs={tmp_path}", "delete=true")
    assert done.returncode == 2
    assert "holds no study" in done.stderr
    assert half.exists()
    assert "write delete=true" in clean(f"runs={tmp_path}", "force=true").stderr
