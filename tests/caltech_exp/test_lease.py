"""Leases between real processes."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp import lease
from caltech_exp.lease import Lease, LeaseLostError, lease_files, read_sign, take
from tests.jobs.testbed import until

HOLD = """
import sys, time
from pathlib import Path
from caltech_exp import lease
lease.HEARTBEAT_SECONDS = 0.1
if len(sys.argv) > 2:
    lease.machine = lambda: sys.argv[2]
if len(sys.argv) > 3:
    lease.EXPIRE_SECONDS = float(sys.argv[3])
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


def test_a_holder_that_lives_is_not_succeeded() -> None:
    assert 2 * lease.HEARTBEAT_SECONDS < lease.EXPIRE_SECONDS  # a heartbeat may be missed
    assert lease.TAKE_OVER_SECONDS > lease.EXPIRE_SECONDS + 60  # seconds for which NFS keeps time stamps to itself


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


def test_who_was_frozen_and_not_succeeded_goes_on(tmp_path: Path) -> None:
    frozen = holder(tmp_path, "another machine", "0.5")
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(0.7)
    assert len(lease_files(tmp_path)) == 1
    frozen.send_signal(signal.SIGCONT)
    until(lambda: len(lease_files(tmp_path)) == 2, 30)
    second = lease_files(tmp_path)[1]
    first = second.stat().st_mtime_ns
    until(lambda: second.stat().st_mtime_ns > first, 30)
    assert frozen.poll() is None
    frozen.kill()
    frozen.wait()


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lease]:
    """A lease of this process that has shown no sign of life for too long: only `check` can."""
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1000.0)
    held = take(tmp_path, "1_0")
    assert held is not None
    held._renewed -= lease.EXPIRE_SECONDS + 1
    yield held
    held.release()


def test_a_silent_holder_whom_nobody_succeeded_takes_the_next_lease(
    silent: Lease, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent.check()
    assert (
        f"run {tmp_path.name}: 91 s without a sign of life; nobody took it, it goes on" in capsys.readouterr().out
    )
    assert (silent.number, silent.attempt) == (2, 1)
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.holder is not None
    assert (sign.number, sign.holder.job, sign.alive) == (2, "1_0", True)
    assert take(tmp_path, "2_0") is None
    silent.check()
    silent.release()
    assert [path.stat().st_mtime == 0 for path in lease_files(tmp_path)] == [False, True]
    successor = take(tmp_path, "2_0")
    assert successor is not None
    assert (successor.number, successor.attempt) == (3, 3)
    successor.release()


def test_a_silent_holder_who_was_succeeded_stops(silent: Lease, tmp_path: Path) -> None:
    assert lease._create(tmp_path, 2, "2_0")
    with pytest.raises(LeaseLostError, match="another process took the run"):
        silent.check()
    silent.release()
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.beat > 0  # the successor's


def test_a_silent_holder_whose_successor_finished_stops(silent: Lease, tmp_path: Path) -> None:
    lease_files(tmp_path)[0].unlink()  # as the successor does with all leases, its own included
    with pytest.raises(LeaseLostError, match="another process took the run"):
        silent.check()
    assert lease_files(tmp_path) == []


def test_a_silent_holder_whose_file_system_does_not_answer_stops_and_says_so(
    silent: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(_folder: Path, _number: int, _job: str) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(lease, "_create", no_answer)
    with pytest.raises(LeaseLostError, match=r"cannot be renewed \(Input/output error\).* goes on from its last"):
        silent.check()


def test_the_heartbeat_takes_the_next_lease_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    held = take(tmp_path, "1_0")
    assert held is not None
    held._renewed -= lease.EXPIRE_SECONDS + 1
    until(lambda: len(lease_files(tmp_path)) == 2, 10)
    first, second = lease_files(tmp_path)
    beats = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    until(lambda: second.stat().st_mtime_ns > beats[1], 10)
    assert first.stat().st_mtime_ns == beats[0]
    held.check()
    held.release()
    assert second.stat().st_mtime == 0


def test_a_file_system_that_hangs_meanwhile_is_asked_again(
    silent: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = lease._create

    def slow(folder: Path, number: int, job: str) -> bool:
        if number == 2:  # as long as others would wait
            now = time.monotonic
            monkeypatch.setattr(time, "monotonic", lambda: now() + lease.EXPIRE_SECONDS + 1)
        return create(folder, number, job)

    monkeypatch.setattr(lease, "_create", slow)
    silent.check()
    assert silent.number == 3
    assert len(lease_files(tmp_path)) == 3


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
