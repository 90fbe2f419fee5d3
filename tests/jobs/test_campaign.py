"""The campaign in its short form: every kind of disturbance once, against two runs. `make campaign` is the long
one."""

from pathlib import Path

import pytest

from tests.jobs import campaign

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def test_disturbed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    counts = campaign.start(tmp_path, runs=2, disturbances=4, seed=1, epochs=20)
    assert counts["leases taken"] > 2  # something was disturbed while it trained


def test_two_processes_at_one_run_would_be_seen() -> None:
    watcher = campaign.Watcher(Path("nowhere"))
    watcher.holders = {("run", 1): (10, 1, 0.0), ("run", 2): (11, 1, 5.0)}
    watcher.alive = {(10, 1): 4.9, (11, 1): 9.0}
    assert not watcher.overlaps()
    watcher.alive[10, 1] = 6.0
    assert watcher.overlaps() == ["run: lease 2 while the holder of 1 was alive"]
    watcher.given_back.add(("run", 1))
    assert not watcher.overlaps()
