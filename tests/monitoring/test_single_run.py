"""One run on the terminal: how it is named, what is shown of it, and its log as it grows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp.monitoring.logs import STARTED, LogReader
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import Lease, acquire
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import CurvePoint
from caltech_exp.submission.log_limit import shorten
from tests.conftest import CHECKOUT, Command
from tests.tools.paper_study import JOB, SUBMISSION, log_of, write_paper_study, write_progress, write_result
from tests.tools.testbed import path_with, show_queue, until

CURVE = tuple(CurvePoint(number, 4.6 / number, 4.7 / number, 0.1 * number) for number in range(1, 4))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def plan(runs: Path) -> list[PlannedRun]:
    """The learning rates with twelve seeds; the first run is finished, the second is being trained."""
    plan = write_paper_study(runs, seeds=12)
    write_result(runs, plan[0])
    log_of(runs, 0).write_text("epoch 30\nrun finished\n")
    write_progress(runs, plan[1], curve=CURVE)
    log_of(runs, 1).write_text(f"{STARTED}(job_id=1)\nepoch 1\n\x1b[31mepoch 2\n")
    return plan


@pytest.fixture
def lease(runs: Path, plan: list[PlannedRun]) -> Iterator[Lease]:
    lease = acquire(runs / plan[1].id, f"{JOB}_1")
    assert lease is not None
    yield lease
    lease.release()


@pytest.fixture
def path(tmp_path: Path) -> str:
    path_with(tmp_path, "sacct", "exit 1")
    return show_queue(tmp_path, *(f"{JOB}_{index}|PENDING|None|scratch.runs|" for index in range(2, 60)))


def test_finished_run_is_named_by_its_row_and_seed(
    status: Command, runs: Path, plan: list[PlannedRun], path: str
) -> None:
    text = status(f"runs={runs}", "run=scratch.lr=0.001", "seed=0", PATH=path).stdout
    assert text.startswith(f"run       {plan[0].id}: scratch.lr=1e-3\nstate     finished\n")
    assert "\nsettings  seed=0\n" in text
    assert " lr=0.001 " in text
    assert "\nepochs    30 of 30\n" in text
    assert (
        f"\naccuracy  {'▁' * 30} 0.500, best 0.500 after epoch 1\nloss      {'▁' * 30} 1.000 in training\n" in text
    )
    assert "\ntest      0.500\n" in text
    assert f"\nfiles     {runs / plan[0].id}\nlog       {log_of(runs, 0)}\n" in text
    assert text.endswith("\n    epoch 30\n    run finished\n")
    other = status(f"runs={runs}", "run=scratch.lr=5e-2", "seed=3", PATH=path).stdout
    assert "\nsettings  seed=3 lr=0.05\n" in other
    assert "\nlog       none yet\n" in other


@pytest.mark.usefixtures("lease")
def test_running_run_as_data(status: Command, runs: Path, plan: list[PlannedRun], path: str) -> None:
    whole = json.loads(status(f"runs={runs}", f"run={plan[1].id}", "json=true", PATH=path).stdout)  # and s10, s11
    assert (whole["id"], whole["state"]) == (plan[1].id, "running")
    assert whole["serves"] == ["scratch.template=template", "scratch.lr=1e-3"]
    assert whole["curve"] == [list(point) for point in CURVE]
    assert whole["settings"]["lr"] == 0.001
    assert whole["log"] == str(log_of(runs, 1))
    assert whole["last_lines"] == [f"{STARTED}(job_id=1)", "epoch 1", "\\x1b[31mepoch 2"]
    text = status(f"runs={runs}", f"run={plan[1].id}", PATH=path, PYTHONIOENCODING="ascii").stdout
    assert "\naccuracy  _:# 0.300, best 0.300 after epoch 3\nloss      #-_ 1.533 in training\n" in text


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["run=zzz"], "zzz: no such run; see json=true"),
        (["run=scratch.lr=1e-3", "seed=12"], "no run with seed=12; known: 0, 1, 2,"),
        (["run=scratch.lr=1e-3"], "scratch.lr=1e-3 means 12 runs: "),
        (["run=scratch.lr=7e-3"], "unknown row of scratch.lr '7e-3'"),
        (["run=scratch.lr=1e-3", "table=scratch.lr"], "run= cannot be combined with table=; leave one out"),
        (["run=a", "log=b"], "run= cannot be combined with log=; leave one out"),
        (["follow=true"], "follow= and seed= are of one run; name it"),
        (["seed=1"], "follow= and seed= are of one run; name it"),
        (["results=true", "state=failed"], "results= cannot be combined with state="),
        (["log=scratch.lr=1e-3", "seed=5"], "is queued and has no log that can be read yet"),
    ],
)
@pytest.mark.usefixtures("plan")
def test_mistakes_cost_one_line(words: list[str], error: str, status: Command, runs: Path, path: str) -> None:
    done = status(f"runs={runs}", *words, PATH=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_log_is_printed_with_its_control_codes_escaped(
    status: Command, runs: Path, plan: list[PlannedRun], path: str
) -> None:
    done = status(f"runs={runs}", f"log={plan[1].id}", PATH=path)
    assert done.stdout == f"{STARTED}(job_id=1)\nepoch 1\n\\x1b[31mepoch 2\n"


def follow(runs: Path, run: PlannedRun, path: str, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(CHECKOUT / "jobs/status.py"), f"runs={runs}", f"log={run.id}", "follow=true"]
    with output.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "PATH": path, "COLUMNS": "200"}
        )


def test_followed_log_goes_on_over_a_requeue_and_another_submission(
    runs: Path, plan: list[PlannedRun], path: str, tmp_path: Path, lease: Lease
) -> None:
    run, output = plan[1], tmp_path / "printed"
    process = follow(runs, run, path, output)
    try:
        until(lambda: b"epoch 2" in output.read_bytes())
        lease.release()
        again = acquire(runs / run.id, f"{JOB}_1")  # Slurm appends to the same log
        assert again is not None
        with log_of(runs, 1).open("a") as log:
            log.write("epoch 3\n")
        until(lambda: b"epoch 3\n" in output.read_bytes())
        again.release()
        (manifest,) = StudyFolder(runs).manifests()
        task = manifest.tasks[1].model_copy(update={"index": 0, "job": "4712_0"})
        second = SUBMISSION.replace("0000-", "0001-")
        StudyFolder(runs).write_manifest(manifest.model_copy(update={"id": second, "tasks": (task,)}))
        (runs / "submissions" / second / "4712_0_0_log.out").write_text("epoch 4\n")
        last = acquire(runs / run.id, "4712_0")
        assert last is not None
        until(lambda: b"epoch 4\n" in output.read_bytes())
        write_result(runs, run)
        last.release()
        assert process.wait(60) == 0
    finally:
        process.kill()
    lines = output.read_text().splitlines()
    assert [line for line in lines if line.startswith(("epoch", "\\"))] == [
        "epoch 1", "\\x1b[31mepoch 2", "epoch 3", "epoch 4",
    ]  # fmt: skip
    assert [line for line in lines if line.startswith("log of ")] == [
        f"log of {run.id}: {log_of(runs, 1)}",
        f"log of {run.id}: {runs / 'submissions' / second / '4712_0_0_log.out'}",
    ]
    assert lines[-1] == f"{run.id} finished"


@pytest.mark.usefixtures("lease")
def test_ctrl_c_ends_following_with_one_line(
    runs: Path, plan: list[PlannedRun], path: str, tmp_path: Path
) -> None:
    output = tmp_path / "printed"
    process = follow(runs, plan[1], path, output)
    until(lambda: b"epoch 2" in output.read_bytes())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert output.read_text().splitlines()[-1] == "interrupted; the run goes on"


def test_log_of_a_lost_run_ends_at_once(runs: Path, plan: list[PlannedRun], path: str, tmp_path: Path) -> None:
    output = tmp_path / "printed"
    assert follow(runs, plan[1], path, output).wait(60) == 1
    assert output.read_text().splitlines()[-1].startswith(f"{plan[1].id} lost: epoch 3 of 30, ")


def test_reader_goes_on_behind_what_was_left_out_of_a_log(tmp_path: Path) -> None:
    path, reader = tmp_path / "log", LogReader()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    text = "".join(f"line {number}\n" for number in range(10_000))
    os.write(log, text.encode())
    assert reader.read(path) == text
    os.write(log, b"half a")
    assert reader.read(path) == ""
    os.write(log, b" line\nnew\n")
    shorten(log, 50_000)
    assert reader.read(path) == "half a line\nnew\n"
    os.close(log)
    assert reader.read(tmp_path / "missing") == ""


def test_reader_follows_no_link_and_opens_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    assert LogReader().read(tmp_path / "link") == LogReader().read(tmp_path / "pipe") == ""
