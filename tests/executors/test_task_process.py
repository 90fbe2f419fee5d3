"""What a task or the queue of this machine unpickles: the user's own file, which nobody else can have written."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import DelayedSubmission
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from caltech_exp.executors.local import LocalQueue
from caltech_exp.provenance import Snapshot
from tests.tools.testbed import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a submission with a task and a queue, each of which leaves a file if it is unpickled and run."""
    place = tmp_path / "submission"
    place.mkdir(mode=0o755)
    task: Callable[[], Any] = partial(os.system, f"touch {tmp_path}/made")
    DelayedSubmission(task).dump(place / "7_submitted.pkl")
    (place / "queue.pkl").write_bytes(pickle.dumps(LocalQueue({"local-0": task}, 1, ())))
    for path in place.iterdir():
        path.chmod(0o644)
    return place


LOCAL = {**os.environ, "SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7", "PYTHONSAFEPATH": "1"}


def command(code_snapshot: Snapshot, module: str, folder: Path) -> tuple[str, ...]:
    words = ("-u", "-m", "submitit.core._submit") if module == "caltech_exp.executors.task_process" else ()
    return code_snapshot.command(module, *words, str(folder))


def start(code_snapshot: Snapshot, module: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command(code_snapshot, module, folder)],
        env=LOCAL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def give_away(path: Path) -> None:
    os.chown(path, 12345, -1)


def make_a_link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


OPENED: dict[str, tuple[Callable[[Path], object], str]] = {
    "of a group": (
        lambda path: path.chmod(0o664),
        "can be written by other users; chmod go-w it and submit again",
    ),
    "of all": (lambda path: path.chmod(0o666), "can be written by other users; chmod go-w it and submit again"),
    "a link": (make_a_link, "is a link; put the file itself there and submit again"),
    "in an open folder": (lambda path: path.parent.chmod(0o775), "can be written by other users; chmod go-w it"),
    "another user's": (give_away, "belongs to user 12345, not to root who would execute it; submit again"),
}
FILES = {
    "caltech_exp.executors.task_process": "7_submitted.pkl",
    "caltech_exp.executors.local_worker": "queue.pkl",
}


@pytest.mark.parametrize("module", FILES)
def test_a_file_of_ones_own_is_run(module: str, code_snapshot: Snapshot, folder: Path) -> None:
    done = start(code_snapshot, module, folder)
    assert done.returncode == 0, done.stderr
    assert (folder.parent / "made").exists()


@pytest.mark.parametrize("what", OPENED)
@pytest.mark.parametrize("module", FILES)
def test_a_file_that_others_may_have_written_is_not_unpickled(
    module: str, what: str, code_snapshot: Snapshot, folder: Path
) -> None:
    if what == "another user's" and os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI needs several users: run it as root")
        pytest.skip("only root may give a file away")
    change, message = OPENED[what]
    change(folder / FILES[module])
    done = start(code_snapshot, module, folder)
    assert done.returncode == 2
    assert not (folder.parent / "made").exists()
    last = done.stderr.splitlines()[-1]
    assert message in last
    assert f"error: {json.loads((folder / '7_refused.json').read_text())['reason']}" == last


@pytest.mark.parametrize("mask", [0o000, 0o002])
def test_what_a_requeued_task_will_unpickle_is_closed_to_others(
    mask: int, code_snapshot: Snapshot, folder: Path, tmp_path: Path
) -> None:
    class Waits:
        """Pickled by value, as it stands in no module."""

        def __call__(self) -> None:
            import signal

            os.system(f"touch {tmp_path}/began")
            while True:
                signal.pause()

        def checkpoint(self) -> DelayedSubmission:
            return DelayedSubmission(self)

    pickled = folder / "7_submitted.pkl"
    waits = DelayedSubmission(Waits())
    waits.set_timeout(60, 3)
    waits.dump(pickled)
    pickled.chmod(0o644)
    before = pickled.stat().st_ino
    running = subprocess.Popen(
        [sys.executable, *command(code_snapshot, "caltech_exp.executors.task_process", folder)],
        env=LOCAL,
        umask=mask,
    )
    until((tmp_path / "began").exists)
    running.send_signal(signal.SIGUSR2)
    assert running.wait(60) == LOCAL_REQUEUE_RETURN_CODE
    assert pickled.stat().st_ino != before
    assert pickled.stat().st_mode & 0o777 == 0o644
