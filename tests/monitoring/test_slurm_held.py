"""Jobs that a real Slurm has requeued and holds: released once, then named with their node."""

from pathlib import Path

import pytest

from caltech_exp.study.results import PROGRESS
from tests.conftest import Command, slowed
from tests.tools.testbed import profile, queue, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def reasons() -> set[str]:
    return set(slurm("squeue", "--noheader", "--array", "--format=%T %r").splitlines())


@pytest.mark.usefixtures("brake")
def test_a_held_job_is_released_once_and_then_named_with_its_node(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 1000), "seeds=1", f"profile={profile(tmp_path)}", f"runs={runs}")
    assert submit(*words).returncode == 0
    ((job, _),) = queue()
    for line in (
        f"released {job}, which Slurm held: job requeued in held state",
        f"not released again: {job} failed on node gpu01 after being released (job requeued in held state); "
        f"once the node works, run `scontrol release {job}`",
    ):
        until(lambda: "RUNNING None" in reasons())
        until(lambda: bool(list(runs.glob(f"*/{PROGRESS}"))))
        slurm("scontrol", "requeuehold", job)
        until(lambda: "PENDING job requeued in held state" in reasons())
        done = submit(*words)
        assert done.returncode == 0, done.stderr
        assert line in done.stdout
    assert reasons() == {"PENDING job requeued in held state"}


def test_a_job_that_a_person_holds_is_left_alone(
    submit: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    words = (*small, "seeds=1", f"profile={held}", f"runs={tmp_path / 'runs'}")
    assert submit(*words).returncode == 0
    assert "released" not in submit(*words).stdout
    assert reasons() == {"PENDING JobHeldUser"}
