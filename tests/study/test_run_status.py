"""The state of a run from its files and the queue."""

import json
import os
import socket
from pathlib import Path

import pytest

from caltech_exp.provenance import TaskOrigin, code_version
from caltech_exp.records import write_record
from caltech_exp.study.lease import acquire, lease_files
from caltech_exp.study.results import FAILURE, PROGRESS, RESULT, Failure, Progress
from caltech_exp.study.run_status import CHECKPOINT, QueuedTask, run_status
from caltech_exp.training.failures import record_failure_of_free_run

NAME = "0123456789-s0"
PROGRESS_RECORD = Progress(
    run_id=NAME,
    epoch=3,
    epochs=30,
    images_per_second=1.0,
    submission="s",
    job="1_0",
    host="n",
    when="2026-01-01T12:00:00Z",
)
FAILURE_RECORD = Failure(
    run_id=NAME,
    error="no GPU",
    traceback="",
    kind="mistake",
    submission="s",
    job="1_0",
    host="n",
    node="n",
    log="/where/the/node/sees/it/1_0_0_log.out",
    when="2026-01-01T12:00:00Z",
)

RUNS, WAITS = QueuedTask("s", is_running=True), QueuedTask("s", is_running=False)


@pytest.mark.parametrize(
    ("queue", "submitted", "files", "state"),
    [
        ({}, False, "", "pending"),
        (None, False, "", "pending"),
        ({}, True, "", "lost"),
        (None, True, "", "queued"),
        ({NAME: WAITS}, True, "", "queued"),
        ({NAME: RUNS}, True, "progress", "queued"),
        ({NAME: RUNS}, True, "progress lease", "running"),
        ({}, True, "progress lease", "running"),
        (None, True, "lease", "running"),
        ({}, True, "damaged lease", "running"),
        ({NAME: RUNS}, True, "", "queued"),
        ({NAME: WAITS}, True, "progress", "queued"),
        (None, True, "progress", "queued"),
        ({}, True, "progress", "lost"),
        ({}, True, "failure", "failed"),
        (None, True, "failure", "failed"),
        ({NAME: WAITS}, True, "failure", "queued"),
        ({NAME: RUNS}, True, "failure", "failed"),
        ({NAME: QueuedTask("another", is_running=True)}, True, "failure", "queued"),
        ({NAME: RUNS}, True, "failure lease", "running"),
        ({}, True, "damaged", "damaged"),
        ({NAME: RUNS}, True, "damaged", "queued"),
    ],
)
def test_run_status_from_files_and_queue(
    queue: dict[str, QueuedTask] | None, submitted: bool, files: str, state: str, tmp_path: Path
) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    lease = acquire(folder, "1_0") if "lease" in files else None
    if "progress" in files:
        write_record(folder, PROGRESS, PROGRESS_RECORD)
    if "failure" in files:
        write_record(folder, FAILURE, FAILURE_RECORD)
    if "damaged" in files:
        (folder / RESULT).write_text("{")
    assert run_status(folder, queue, submitted).state == state
    if lease:
        lease.release()


@pytest.mark.parametrize(
    ("queue", "files", "state"),
    [
        ({}, "", "cancelled"),
        (None, "", "cancelled"),  # a report does not ask the queue
        ({}, "progress", "cancelled"),
        ({NAME: RUNS}, "progress", "queued"),
        ({}, "progress lease", "running"),  # it saves a checkpoint
        ({}, "failure", "cancelled"),  # of an earlier submission
        ({}, "failure of it", "failed"),
        ({}, "damaged", "damaged"),
    ],
)
def test_run_whose_last_job_was_cancelled(
    queue: dict[str, QueuedTask] | None, files: str, state: str, tmp_path: Path
) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    lease = acquire(folder, "1_0") if "lease" in files else None
    if "progress" in files:
        write_record(folder, PROGRESS, PROGRESS_RECORD)
    if "failure" in files:
        submission = "s2" if "of it" in files else "s1"
        write_record(folder, FAILURE, FAILURE_RECORD.model_copy(update={"submission": submission}))
    if "damaged" in files:
        (folder / RESULT).write_text("{")
    assert run_status(folder, queue, True, cancelled_in="s2").state == state
    if lease:
        lease.release()


def test_running_detail_names_epoch_rate_heartbeat_and_job(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    lease = acquire(folder, "12_3")
    assert lease is not None
    write_record(folder, PROGRESS, PROGRESS_RECORD)
    state = run_status(folder, {}, True, now=lease_files(folder)[0].stat().st_mtime + 7)
    assert state.detail == f"epoch 3 of 30, 1 images/s, heartbeat 7 s ago, job 12_3 on {socket.gethostname()}"
    lease.release()
    assert run_status(folder, {}, True).state == "lost"


def test_run_status_blames_only_a_broken_node(tmp_path: Path) -> None:
    write_record(tmp_path / NAME, FAILURE, FAILURE_RECORD)
    assert run_status(tmp_path / NAME, {}, True).node == ""
    write_record(tmp_path / NAME, FAILURE, FAILURE_RECORD.model_copy(update={"kind": "node"}))
    assert run_status(tmp_path / NAME, {}, True).node == "n"


def test_failed_detail_names_reason_and_log(tmp_path: Path) -> None:
    write_record(tmp_path / NAME, FAILURE, FAILURE_RECORD)
    assert run_status(tmp_path / NAME, {}, True).detail == "no GPU"  # there is no log
    log = tmp_path / "submissions" / "s" / "1_0_0_log.out"
    log.parent.mkdir(parents=True)
    log.touch()
    assert run_status(tmp_path / NAME, {}, True).detail == f"no GPU (log: {log})"
    write_record(tmp_path / NAME, FAILURE, FAILURE_RECORD.model_copy(update={"log": "/etc/shadow"}))
    assert run_status(tmp_path / NAME, {}, True).detail == "no GPU"


def test_failed_run_is_in_task_while_its_task_runs(tmp_path: Path) -> None:
    write_record(tmp_path / NAME, FAILURE, FAILURE_RECORD)
    assert run_status(tmp_path / NAME, {NAME: RUNS}, True).in_task
    assert not run_status(tmp_path / NAME, {}, True).in_task
    assert not run_status(tmp_path / NAME, None, True).in_task


NEWER = {
    RESULT: b'{"schema_version": 2, "anything": []}',
    FAILURE: b'{"schema_version": 2}',
    PROGRESS: json.dumps({**PROGRESS_RECORD.model_dump(), "learned": 1}).encode(),
    "lease.000001.json": b'{"schema_version": 3}',
    CHECKPOINT: b"content" + b"caltech_exp checkpoint 2 sha256 " + b"0" * 64,
}


@pytest.mark.parametrize("name", NEWER)
@pytest.mark.parametrize("queue", [None, {}, {NAME: RUNS}])
def test_run_with_a_record_of_a_newer_version_is_left_alone(
    name: str, queue: dict[str, QueuedTask] | None, tmp_path: Path
) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / name).write_bytes(NEWER[name])
    os.utime(folder / name, (0, 0))
    state = run_status(folder, queue, True)
    assert state.state == "newer"
    assert state.detail.startswith(f"{name}: made by a newer version of caltech_exp (")
    assert state.detail.endswith("); this version reads 1; update")
    record_failure_of_free_run(tmp_path, NAME, ValueError("bad"), TaskOrigin("s", "1_0", "l", code_version()), "0")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: NEWER[name]}


def test_run_that_a_newer_version_trains_is_running(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "lease.000001.json").write_bytes(NEWER["lease.000001.json"])
    assert run_status(tmp_path / NAME, {}, True).state == "running"


def test_half_a_checkpoint_does_not_count_as_newer(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / CHECKPOINT).write_bytes(NEWER[CHECKPOINT][:-1])
    assert run_status(tmp_path / NAME, {}, True).state == "lost"
