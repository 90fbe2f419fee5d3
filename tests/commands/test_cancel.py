"""jobs/cancel.py: what it counts, and what Ctrl-C leaves."""

from pathlib import Path

import pytest

from caltech_exp.cli import on_interrupt
from tests.conftest import Command
from tests.tools.paper_study import JOB, write_paper_study, write_result
from tests.tools.testbed import path_with, show_queue


def test_jobs_that_end_already_are_not_counted_twice(cancel: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_paper_study(runs)
    path_with(tmp_path, "scancel", f'echo "$@" >> {tmp_path}/scancelled')
    path = show_queue(tmp_path, *(f"{JOB}_{n}|COMPLETING|None|scratch.runs|" for n in (0, 1)))
    assert cancel(f"runs={runs}", PATH=path).stdout == f"cancelled 2 jobs, 2 runs on Slurm: {JOB}_[0-1]\n"
    show_queue(tmp_path, *(f"{JOB}_{n}|COMPLETING|None|scratch.runs|" for n in (0, 1, 2)))
    assert cancel(f"runs={runs}", PATH=path).stdout.splitlines() == [
        f"cancelled 1 job, 1 run on Slurm: {JOB}_[2]",
        f"cancelled before, and ending: 2 jobs, 2 runs on Slurm: {JOB}_[0-1]",
    ]
    again = cancel(f"runs={runs}", "dry_run=true", PATH=path)
    assert again.stdout == f"cancelled before, and ending: 3 jobs, 3 runs on Slurm: {JOB}_[0-2]\n"
    assert (tmp_path / "scancelled").read_text().splitlines() == [
        f"{JOB}_[0-1]",
        f"{JOB}_[0-2]",
    ]  # asked once more


def test_finished_runs_of_a_task_are_not_counted(cancel: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_result(runs, write_paper_study(runs)[0])
    path = show_queue(tmp_path, *(f"{JOB}_{n}|COMPLETING|None|scratch.runs|" for n in (0, 1)))
    assert cancel(f"runs={runs}", "dry_run=true", PATH=path).stdout == (
        f"would cancel 2 jobs, 1 run on Slurm: {JOB}_[0-1]\n"
    )


def test_filters_choose_the_jobs(cancel: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_paper_study(runs, ("scratch.lr", "scratch.epochs"))
    path_with(tmp_path, "scancel", f'echo "$@" >> {tmp_path}/scancelled')
    states = {0: "RUNNING", 1: "PENDING", 2: "PENDING", 7: "RUNNING"}
    path = show_queue(tmp_path, *(f"{JOB}_{n}|{state}|None|scratch.runs|" for n, state in states.items()))

    def chosen(*words: str) -> str:
        return cancel(f"runs={runs}", "dry_run=true", *words, PATH=path).stdout

    assert chosen("state=queued") == f"would cancel 2 jobs, 2 runs on Slurm: {JOB}_[1-2]\n"
    assert chosen("state=running") == f"would cancel 2 jobs, 2 runs on Slurm: {JOB}_[0,7]\n"
    assert (
        chosen("state=running,queued", "table=scratch.lr=1e-3")
        == f"would cancel 1 job, 1 run on Slurm: {JOB}_[0]\n"
    )
    assert chosen("state=queued", "table=scratch.lr=1e-3").startswith("nothing to cancel")
    refused = cancel(f"runs={runs}", "state=failed", PATH=path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "state=failed: such runs cannot be chosen here; give queued, running" in refused.stderr
    assert not (tmp_path / "scancelled").exists()


def test_ctrl_c_says_what_a_command_leaves() -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^the jobs go on$"), on_interrupt("the jobs go on"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match=r"^inner$"), on_interrupt("outer"), on_interrupt("inner"):
        raise KeyboardInterrupt
