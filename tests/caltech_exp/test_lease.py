"""Leases between real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caltech_exp import lease
from caltech_exp.lease import LeaseLostError, lease_files, read_sign, take
from tests.jobs.testbed import until

HOLD = """
import sys, time
from pathlib import Path
from caltech_exp import lease
lease.HEARTBEAT_SECONDS = 0.1
if len(sys.argv) > 2:
    lease._machine = lambda: sys.argv[2]
held = lease.take(Path(sys.argv[1]), "1_0")
print("held" if held else "left", flush=True)
while held:
    time.sleep(0.02)
    held.check()
"""


def holder(folder: Path, *machine: str) -> "subprocess.Popen[str]":
    """A process that takes the run and holds it; what it printed first has been read."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *machine], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over after a second instead of minutes."""
    monkeypatch.setattr(lease, "TAKE_OVER_SECONDS", 1.0)
    monkeypatch.setattr(lease, "EXPIRE_SECONDS", 0.5)
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.05)


def test_a_run_has_one_holder(tmp_path: Path) -> None:
    first = take(tmp_path, "1_0")
    assert first is not None
    assert take(tmp_path, "2_0") is None
    first.release()
    second = take(tmp_path, "2_0")
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    second.release()


def test_of_many_processes_at_once_one_takes_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD.replace("while held:", "for _ in range(200):"), str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    firsts = []
    for process in processes:
        assert process.stdout is not None
        firsts.append(process.stdout.readline().strip())
    assert sorted(firsts) == ["held"] + ["left"] * 7
    for process in processes:
        process.kill()
        process.wait()


def test_who_was_killed_on_this_machine_is_succeeded_at_once(tmp_path: Path) -> None:
    killed = holder(tmp_path)
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.alive
    assert sign.holder is not None
    assert (sign.holder.pid, sign.holder.job) == (killed.pid, "1_0")
    killed.kill()
    killed.wait()
    start = time.monotonic()
    successor = take(tmp_path, "2_0")
    assert time.monotonic() - start < lease.TAKE_OVER_SECONDS / 10
    assert successor is not None
    assert successor.number == 2
    successor.release()


def test_a_process_number_used_again_is_not_the_holder(tmp_path: Path) -> None:
    held = take(tmp_path, "1_0")
    assert held is not None
    held.release()
    path = lease_files(tmp_path)[0]
    path.write_text(
        path.read_text().replace('"started": ', '"started": 1')
    )  # this process, started at another time
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.beat > 0
    assert sign.alive is False


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_who_died_on_another_machine_is_succeeded_after_a_while_whatever_the_clocks_say(
    skew: int, tmp_path: Path
) -> None:
    killed = holder(tmp_path, "another machine")
    killed.kill()
    killed.wait()
    (path,) = lease_files(tmp_path)
    os.utime(path, (time.time() + skew, time.time() + skew))
    start = time.monotonic()
    successor = take(tmp_path, "2_0")
    assert successor is not None
    assert time.monotonic() - start >= lease.TAKE_OVER_SECONDS
    successor.release()


@pytest.mark.usefixtures("soon")
def test_who_lives_on_another_machine_is_left_alone(tmp_path: Path) -> None:
    alive = holder(tmp_path, "another machine")
    assert take(tmp_path, "2_0") is None
    alive.kill()
    alive.wait()


@pytest.mark.usefixtures("soon")
def test_who_was_frozen_and_succeeded_stops_when_it_wakes(tmp_path: Path) -> None:
    frozen = holder(tmp_path, "another machine")
    frozen.send_signal(signal.SIGSTOP)
    successor = take(tmp_path, "2_0")
    assert successor is not None
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(timeout=30) == 1  # LeaseLostError
    successor.check()
    successor.release()


@pytest.mark.usefixtures("soon")
def test_a_holder_that_cannot_show_signs_of_life_stops(tmp_path: Path) -> None:
    held = take(tmp_path, "1_0")
    assert held is not None
    lease_files(tmp_path)[0].unlink()  # as if the file system were gone
    time.sleep(0.7)
    with pytest.raises(LeaseLostError, match="another process trains the run"):
        held.check()
    held.release()


@pytest.mark.usefixtures("soon")
def test_a_lease_whose_writer_died_half_way_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "lease.000003.json").touch()
    sign = read_sign(tmp_path)
    assert sign is not None
    assert (sign.holder, sign.alive) == (None, None)
    successor = take(tmp_path, "2_0")
    assert successor is not None
    assert successor.number == 4
    successor.release()


def test_for_who_looks_once_a_run_is_held_as_long_as_its_heartbeat_is_fresh(tmp_path: Path) -> None:
    process = holder(tmp_path, "another machine")
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.alive is None
    assert sign.is_held(sign.beat + 10)
    assert not sign.is_held(sign.beat + lease.TAKE_OVER_SECONDS + 1)
    process.kill()
    process.wait()


def test_the_heartbeat_goes_on_while_the_holder_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    held = take(tmp_path, "1_0")
    assert held is not None
    (path,) = lease_files(tmp_path)
    first = path.stat().st_mtime_ns
    until(lambda: path.stat().st_mtime_ns > first, 10)
    held.check()
    held.release()
    assert path.stat().st_mtime == 0
