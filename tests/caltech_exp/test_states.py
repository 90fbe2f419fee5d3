"""The state of a run from its files and the queue."""

from pathlib import Path

import pytest

from caltech_exp.results import FAILURE, PROGRESS, RESULT, Failure, Progress, write_record
from caltech_exp.states import run_state

NAME = "0123456789-s0"
PROGRESS_RECORD = Progress(
    run_id=NAME, epoch=3, epochs=30, images_per_second=1.0, submission="s", job="1_0", host="n", when="noon"
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
    log="l",
    when="noon",
)


@pytest.mark.parametrize(
    ("queue", "submitted", "files", "state"),
    [
        ({}, False, "", "pending"),
        (None, False, "", "pending"),
        ({}, True, "", "lost"),
        (None, True, "", "queued"),
        ({NAME: "queued"}, True, "", "queued"),
        ({NAME: "running"}, True, "progress", "running"),
        ({NAME: "running"}, True, "", "queued"),
        ({NAME: "queued"}, True, "progress", "queued"),
        (None, True, "progress", "running"),
        ({}, True, "progress", "lost"),
        ({}, True, "failure", "failed"),
        (None, True, "failure", "failed"),
        ({NAME: "queued"}, True, "failure", "queued"),
        ({}, True, "damaged", "damaged"),
        ({NAME: "running"}, True, "damaged", "queued"),
    ],
)
def test_states(queue: dict[str, str] | None, submitted: bool, files: str, state: str, tmp_path: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    if files == "progress":
        write_record(folder, PROGRESS, PROGRESS_RECORD)
    if files == "failure":
        write_record(folder, FAILURE, FAILURE_RECORD)
    if files == "damaged":
        (folder / RESULT).write_text("{")
    assert run_state(folder, queue, submitted).state == state


def test_a_failure_gives_its_reason_and_log(tmp_path: Path) -> None:
    write_record(tmp_path / NAME, FAILURE, FAILURE_RECORD)
    assert run_state(tmp_path / NAME, {}, True).detail == "no GPU (log: l)"
