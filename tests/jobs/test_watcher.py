"""The campaign's witness: without it a campaign could not fail for two processes at one run."""

from pathlib import Path

from tests.jobs.watcher import Watcher


def test_two_processes_at_one_run_would_be_seen() -> None:
    watcher = Watcher(Path("nowhere"))
    watcher.holders = {("run", 1): (10, 1, 0.0), ("run", 2): (11, 1, 5.0)}
    watcher.alive = {(10, 1): 4.9, (11, 1): 9.0}
    assert not watcher.overlaps()
    watcher.alive[10, 1] = 6.0
    assert watcher.overlaps() == ["run: lease 2 while the holder of 1 was alive"]
    watcher.given_back.add(("run", 1))
    assert not watcher.overlaps()
