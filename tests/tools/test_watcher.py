"""The campaign's witness: without it a campaign could not fail for two processes at one run."""

import json
import signal
import subprocess
from pathlib import Path

from tests.tools.testbed import until
from tests.tools.watcher import Watcher


def test_two_processes_at_one_run_would_be_seen() -> None:
    watcher = Watcher(Path("nowhere"))
    watcher.holders = {("run", 1): (10, 1, 0.0), ("run", 2): (11, 1, 5.0)}
    watcher.alive = {(10, 1): 4.9, (11, 1): 9.0}
    assert not watcher.overlaps()
    watcher.alive[10, 1] = 6.0
    assert watcher.overlaps() == ["run: lease 2 while the holder of 1 was alive"]
    watcher.given_back.add(("run", 1))
    assert not watcher.overlaps()


def test_a_stopped_holder_may_be_succeeded_and_must_end_when_it_wakes_up() -> None:
    watcher = Watcher(Path("nowhere"))
    watcher.holders = {("run", 1): (10, 1, 0.0), ("run", 2): (11, 1, 200.0)}
    watcher.alive = {(10, 1): 300.0, (11, 1): 310.0}
    watcher.stopped_at = {("run", 2): 5.0}
    assert not watcher.overlaps()
    assert watcher.is_succeeded(10)
    assert not watcher.is_succeeded(11)
    watcher.stopped_at = {("run", 2): 60.0}
    assert watcher.overlaps() == ["run: the holder of lease 1 woke up and went on beside 2"]


def test_a_stopped_process_is_seen_as_one(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        fields = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()
        lease = {"pid": sleeper.pid, "started": int(fields[19])}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "lease.000001.json").write_text(json.dumps(lease))
        watcher = Watcher(tmp_path)
        watcher.look()
        assert watcher.holding() == {sleeper.pid}
        sleeper.send_signal(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{sleeper.pid}/stat").read_text().split()[2] == "T")
        (tmp_path / "run" / "lease.000002.json").write_text(json.dumps({**lease, "started": 0}))
        watcher.look()
        assert watcher.stopped_at == {("run", 2): 0.0}
        sleeper.send_signal(signal.SIGCONT)

        def is_seen_running() -> bool:
            watcher.look()
            return watcher.stopped_at["run", 2] > 0

        until(is_seen_running)
    finally:
        sleeper.kill()
        sleeper.wait()
