"""A study into which somebody wrote pipes, absurd numbers and codes for the terminal: commands still answer."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp.study.lease import acquire
from caltech_exp.study.plan import PlannedRun
from tests.conftest import Command, command_line
from tests.tools.paper_study import (
    JOB,
    SUBMISSION,
    log_of,
    write_failure,
    write_paper_study,
    write_progress,
    write_result,
)
from tests.tools.testbed import path_with, show_queue

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x85\u202e\u2066\u2028\b\rdone"
CODES = set(HOSTILE) - set("]0;owned[2J31mdone")
NUMBERS = {
    "when": "2026-01-01T12:00:00", "seconds_left": 1e300, "epoch": -(10**30), "epochs": 10**400,
    "images_per_second": -1e300,
}  # fmt: skip


@pytest.fixture
def slurm_path(tmp_path: Path) -> str:
    path_with(tmp_path, "sacct", "exit 1")
    return show_queue(tmp_path, f"{JOB}_5|PENDING|{HOSTILE.splitlines()[0]}|scratch.runs|")


@pytest.fixture
def plan(tmp_path: Path) -> list[PlannedRun]:
    plan = write_paper_study(tmp_path / "runs")
    write_result(tmp_path / "runs", plan[0])
    return plan


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(params=NUMBERS)
def absurd(request: pytest.FixtureRequest, plan: list[PlannedRun], tmp_path: Path) -> Iterator[str]:
    """The field of progress.json that is absurd for a run in training and one that was lost."""
    lease = acquire(tmp_path / "runs" / plan[1].id, f"{JOB}_1")
    assert lease is not None
    for run in plan[1:3]:
        write_progress(tmp_path / "runs", run)
        change(tmp_path / "runs" / run.id / "progress.json", **{request.param: NUMBERS[request.param]})
    yield request.param
    lease.release()


@pytest.mark.usefixtures("absurd")
def test_status_answers_whatever_numbers_progress_holds(status: Command, slurm_path: str) -> None:
    done = status("runs=runs", PATH=slurm_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "heartbeat " in done.stdout


def test_status_answers_whatever_rate_and_count_the_records_hold(
    plan: list[PlannedRun], status: Command, slurm_path: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    change(runs / "study.json", data={**json.loads((runs / "study.json").read_text())["data"],
                                      "train_val_images": 2**63 - 1})  # fmt: skip
    write_result(runs, plan[0], epoch_seconds=1e8)
    done = status("runs=runs", "json=true", PATH=slurm_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_status_answers_where_records_are_pipes(
    plan: list[PlannedRun], status: Command, slurm_path: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    names = ("result.json", "progress.json", "failure.json", "lease.000001.json", "checkpoint.pt", "lease.request")
    for run, name in zip(plan[1:], names, strict=False):
        (runs / run.id).mkdir()
        os.mkfifo(runs / run.id / name)
    for name in ("aggregation.json", "preparation.json", f"{JOB}_1_refused.json", "released.json"):
        os.mkfifo(runs / "submissions" / SUBMISSION / name)
    (runs / ".cache").mkdir()
    os.mkfifo(runs / ".cache" / "past_runs")
    done = status("runs=runs", "failed=true", PATH=slurm_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"damaged {plan[1].id}" in done.stdout
    assert "it is a pipe or a device, not a file" in done.stdout


def test_no_command_passes_codes_to_the_terminal(
    plan: list[PlannedRun], status: Command, cancel: Command, slurm_path: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    write_failure(runs, plan[1], str(log_of(runs, 1)), error=f"ValueError: {HOSTILE}")
    write_progress(runs, plan[2])
    log_of(runs, 2).write_text(f"{HOSTILE}\n")
    for run, name in ((plan[3], "result.json"), (plan[4], "failure.json")):
        (runs / run.id).mkdir()
        (runs / run.id / name).write_text(json.dumps({HOSTILE: 1, "when": HOSTILE}))
    change(runs / "submissions" / SUBMISSION / "manifest.json", user="a\x9b31m\u202eb")
    outputs = [
        status("runs=runs", PATH=slurm_path),
        status("runs=runs", "failed=true", PATH=slurm_path),
        status("runs=runs", "json=true", "failed=true", PATH=slurm_path),
        cancel("runs=runs", "dry_run=true", PATH=slurm_path),
        command_line("reports/publish.py", tmp_path)("runs=runs", "out=out"),
        command_line("reports/aggregate.py", tmp_path)("runs=runs", "out=report"),
        command_line("reports/compare.py", tmp_path)("first=runs", "second=out"),
    ]
    assert [done.returncode for done in outputs] == [0] * len(outputs), [done.stderr for done in outputs]
    for done in outputs:
        assert not CODES & set(done.stdout + done.stderr), (done.args, done.stdout, done.stderr)
    assert "\\u202e" in outputs[1].stdout
