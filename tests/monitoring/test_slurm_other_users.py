"""Jobs of strangers in a real Slurm: whatever name and comment they give them, they are no jobs of a study."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command, manifests
from tests.tools.testbed import queue, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]

NOBODY = 65534
UNKNOWN = 54123
"""A user whom this machine's passwd does not know; squeue calls them `nobody` too."""


class Strangers:
    """Queues held jobs as other users."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def queue(self, uid: int, name: str, comment: str, *options: str) -> str:
        words = ("--hold", "--ntasks=1", "--output=/dev/null", f"--job-name={name}", f"--comment={comment}")
        done = subprocess.run(
            ["sbatch", "--parsable", *words, *options, "--wrap=sleep 1000"],
            user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        self.jobs.append(done.stdout.strip())
        return self.jobs[-1]


@pytest.fixture
def strangers() -> Iterator[Strangers]:
    assert os.geteuid() == 0, "only root can be several users"
    found = Strangers()
    yield found
    if found.jobs:
        slurm("scancel", *found.jobs)


@pytest.mark.parametrize("uid", [NOBODY, UNKNOWN])
def test_a_strangers_job_takes_no_runs_place_and_stops_no_command(
    uid: int, strangers: Strangers, submit: Command, status: Command, cancel: Command, small: tuple[str, ...],
    held: Path, tmp_path: Path,
) -> None:  # fmt: skip
    runs = tmp_path / "runs"
    words = (*small, "seeds=2", f"profile={held}", f"runs={runs}")
    assert submit(*words).returncode == 0
    (manifest,) = manifests(runs)
    slurm("scancel", f"--user={os.getuid()}")
    comment = f"caltech_exp {manifest['id']}/0"
    forged = f"x\n1_0|RUNNING|None|resnet.runs|{comment}\n1_1|RUNNING|{os.getuid()}|None|resnet.runs|{comment}"
    strangers.queue(uid, "resnet.runs", comment, "--array=0-1")
    strangers.queue(uid, "resnet.runs", forged, "--array=0-1")
    strangers.queue(uid, "resnet.runs", "a|b|c|d|e|f|g\n\n|")
    strangers.queue(uid, "prepare.runs|x", "|")
    before = sorted(queue())

    seen = status(f"runs={runs}", "json=true")
    assert seen.returncode == 0, seen.stderr
    assert "queued" not in json.loads(seen.stdout)["counts"]
    assert "running" not in json.loads(seen.stdout)["counts"]
    nothing = cancel(f"runs={runs}")
    assert "nothing to cancel" in nothing.stdout, nothing.stderr
    again = submit(*words)
    assert "queued resnet.runs: 2 tasks" in again.stdout, again.stderr
    assert "nothing to submit" in submit(*words).stdout
    ended = cancel(f"runs={runs}")
    assert ended.stdout.startswith("cancelled 2 jobs, 2 runs on Slurm: "), ended.stderr
    assert sorted(queue()) == before


def test_a_copied_comment_does_not_hide_the_job_it_was_copied_from(
    strangers: Strangers, submit: Command, cancel: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    """Also where the study's own user has queued the copy."""
    runs = tmp_path / "runs"
    words = (*small, "seeds=2", f"profile={held}", f"runs={runs}")
    assert submit(*words).returncode == 0
    (manifest,) = manifests(runs)
    known = {task["job"] for task in manifest["tasks"]}  # type: ignore[attr-defined]
    assert known == {job for job, _ in queue()}
    for uid in (NOBODY, os.getuid()):
        strangers.queue(uid, "resnet.runs", f"caltech_exp {manifest['id']}/0", "--array=0-1")
    assert "nothing to submit" in submit(*words).stdout
    ended = cancel(f"runs={runs}")
    assert ended.stdout.startswith("cancelled 2 jobs, 2 runs on Slurm: "), ended.stderr
    assert {job.partition("_")[0] for job, _ in queue()} == set(strangers.jobs)
