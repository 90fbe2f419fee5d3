"""The queue on this machine."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from caltech_exp.cli import UserError
from caltech_exp.executors.local import (
    LocalQueue,
    end_orphans,
    has_orphans,
    is_alive,
    queued_tasks,
    start_queue,
    submitit_jobs,
)
from caltech_exp.provenance import Snapshot
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import cancelled_jobs, record_cancelled
from tests.conftest import Command, slowed
from tests.tools.testbed import until


def test_no_more_tasks_at_once_than_the_profile_says(
    submit: Command, small: tuple[str, ...], one_slot: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    done = submit(*small, "seeds=3", f"profile={one_slot}", f"runs={runs}", "wait=true")
    assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_text()) for path in runs.glob("*/result.json")]
    assert len(results) == 3
    starts = sorted(datetime.fromisoformat(result["started"]) for result in results)
    shortest = min(result["wall_seconds"] for result in results)
    # Times are kept to the second.
    assert all(later - earlier >= timedelta(seconds=shortest - 2) for earlier, later in pairwise(starts))
    (folder,) = (runs / "submissions").glob("2*")
    until(lambda: not is_alive(folder))  # the last result is there a moment before its process has ended
    state = json.loads((folder / "queue.json").read_text())
    assert (state["waiting"], state["running"]) == ([], [])
    assert state["jobs"].keys() == {"local-0", "local-1", "local-2"}
    assert queued_tasks(folder) == {}


def test_a_folder_without_a_queue_is_not_alive(tmp_path: Path) -> None:
    assert not is_alive(tmp_path)
    assert queued_tasks(tmp_path) == {}


WITHOUT_A_QUEUE = (
    r"queue.json (is damaged \(.+\); the tasks in this machine's queue are unknown|was made by a newer version)"
)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"waiting": 3}', '{"waiting": ["a b"]}', '{"waiting": [], "other": []}']
)
def test_a_damaged_record_of_a_queue_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "queue.json").write_text(text)
    assert submitit_jobs(tmp_path) == {}
    with (tmp_path / "queue.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=WITHOUT_A_QUEUE):
            queued_tasks(tmp_path)
    assert queued_tasks(tmp_path) == {}


def test_without_locks_two_submissions_may_meet_and_a_queue_on_this_machine_is_refused(
    tmp_path: Path, code_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_file: int, _how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with StudyFolder(tmp_path / "runs").lock():
        pass
    with pytest.raises(UserError, match=r"is on a file system without locks \(Function not implemented\)"):
        start_queue(tmp_path, LocalQueue({}, 1, ()), code_snapshot)


def test_python_that_cannot_be_started_is_told_as_that(
    code_snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"/python could not be started \(No such file or directory\); check how"):
        start_queue(tmp_path, LocalQueue({}, 1, ()), code_snapshot)


@pytest.mark.parametrize("text", ["", "{", "{}", "[3]"])
def test_a_damaged_list_of_cancelled_tasks_is_written_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "cancelled.json").write_text(text)
    assert cancelled_jobs(tmp_path) == set()
    record_cancelled(tmp_path, ["local-1"])
    record_cancelled(tmp_path, ["local-0"])
    assert cancelled_jobs(tmp_path) == {"local-0", "local-1"}


def test_a_task_is_given_its_gpu_by_the_name_that_it_has(tmp_path: Path, code_snapshot: Snapshot) -> None:
    task: Callable[[], Any] = partial(os.system, "echo given $CUDA_VISIBLE_DEVICES")
    start_queue(tmp_path, LocalQueue({"local-0": task}, 1, ("MIG-5c0d-2", "1")), code_snapshot)
    until(lambda: not is_alive(tmp_path))
    (log,) = tmp_path.glob("*_log.out")
    assert "given MIG-5c0d-2\n" in log.read_text()


def test_a_slot_runs_one_task_at_a_time(tmp_path: Path, code_snapshot: Snapshot) -> None:
    log = tmp_path / "log"
    task: Callable[[], Any] = partial(os.system, f"echo start >> {log}; sleep 1; echo end >> {log}")
    start_queue(tmp_path, LocalQueue({f"local-{number}": task for number in range(3)}, 1, ()), code_snapshot)
    until(lambda: not is_alive(tmp_path))
    assert log.read_text().split() == ["start", "end"] * 3


@pytest.mark.parametrize("version", ["this one", "before snapshots were checked"])
def test_tasks_without_their_queue_are_found_and_ended(
    version: str, code_snapshot: Snapshot, tmp_path: Path
) -> None:
    words = ("-u", "-m", "submitit.core._submit", str(tmp_path))
    given = code_snapshot.command("caltech_exp.executors.task_process", *words) if version == "this one" else words
    environment = {**os.environ, "SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    running = subprocess.Popen([sys.executable, *given], env=environment)  # waits for its pickle
    try:
        until(lambda: has_orphans(tmp_path))
        assert not has_orphans(tmp_path.parent)
        assert end_orphans(tmp_path) == 1
        assert running.wait(60) == -signal.SIGTERM
    finally:
        running.kill()


def test_ctrl_c_ends_the_waiting_and_not_the_runs(small: tuple[str, ...], brake: Path, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "jobs" / "submit.py"
    runs = tmp_path / "runs"
    waiting = subprocess.Popen(
        [sys.executable, str(script), *slowed(small, 60), "seeds=2", "profile=demo", f"runs={runs}", "wait=true"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    until(lambda: bool(list(runs.glob("*/progress.json"))))
    os.killpg(waiting.pid, signal.SIGINT)
    assert "interrupted; the runs go on" in waiting.communicate(timeout=30)[1]
    assert waiting.returncode == 130
    brake.unlink()
    until(lambda: len(list(runs.glob("*/result.json"))) == 2)


def test_ctrl_c_while_runs_are_queued_says_that_they_stay_queued(small: tuple[str, ...], tmp_path: Path) -> None:
    interrupted = """
import os, signal, sys
from caltech_exp.cli import run_command_line
from caltech_exp.commands import submit
from caltech_exp.executors import local
start = local.start_queue
def start_and_interrupt(*words):
    start(*words)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
local.start_queue = start_and_interrupt
run_command_line(submit.main, "")
"""
    words = [*small, "seeds=2", "profile=demo", f"runs={tmp_path / 'runs'}"]
    done = subprocess.run(
        [sys.executable, "-c", interrupted, *words], capture_output=True, text=True, check=False, timeout=120
    )
    (manifest,) = StudyFolder(tmp_path / "runs").manifests()
    assert done.stderr == (
        f"interrupted; 2 tasks of submission {manifest.id} stay queued; python jobs/cancel.py would cancel them\n"
    )
    assert done.returncode == 130
    until(lambda: len(list((tmp_path / "runs").glob("*/result.json"))) == 2)


def test_tasks_that_outlive_their_queue_are_not_trained_twice(
    small: tuple[str, ...], submit: Command, one_slot: Path, brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 60), "seeds=2", f"profile={one_slot}", f"runs={runs}")
    assert submit(*words).returncode == 0
    until(lambda: bool(list(runs.glob("*/progress.json"))))
    (log,) = runs.glob("submissions/*/queue.log")
    subprocess.run(["pkill", "-TERM", "-f", f"caltech_exp.executors.local_worker {log.parent}"], check=True)
    with ThreadPoolExecutor() as beside:
        waiting = beside.submit(submit, *words, "wait=true")
        until(lambda: len(list(runs.glob("submissions/*/manifest.json"))) == 2)
        brake.unlink()
        again = waiting.result()
    assert again.returncode == 0, again.stderr
    assert "1 running" in again.stdout
    assert "queued resnet.runs: 1 task, 1 run" in again.stdout
    results = [json.loads(path.read_text()) for path in runs.glob("*/result.json")]
    assert [result["attempts"] for result in results] == [1, 1]


def test_a_task_told_to_end_saves_where_it_is_and_goes_on_when_submitted_again(
    small: tuple[str, ...], submit: Command, brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 60), "seeds=1", "profile=demo", f"runs={runs}")
    assert submit(*words).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob("*/progress.json")))
    (folder,) = runs.glob("submissions/2*")
    subprocess.run(["pkill", "-TERM", "-f", f"submitit.core._submit {folder}"], check=True)
    until(lambda: bool(list(runs.glob("*/checkpoint.pt"))) and not is_alive(folder))
    brake.unlink()
    dry = submit(*words, "dry_run=true").stdout
    assert "1 lost" in dry
    again = submit(*words, "wait=true")
    assert again.returncode == 0, again.stderr
    (result,) = [json.loads(path.read_text()) for path in runs.glob("*/result.json")]
    assert result["attempts"] == 2
    assert len(result["epochs"]) == 60
    assert not list(runs.glob("*/checkpoint.pt"))
