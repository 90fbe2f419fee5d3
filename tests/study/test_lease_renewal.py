"""Heartbeats, and owners whose lease is overdue."""

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import pytest

from caltech_exp import files
from caltech_exp.study import lease
from caltech_exp.study.lease import Lease, LeaseLostError, acquire, lease_files, read_lease
from tests.tools.leases import pass_time, start_owner
from tests.tools.testbed import until


def test_heartbeat_continues_while_the_owner_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    (path,) = lease_files(tmp_path)
    first = path.stat().st_mtime_ns
    until(lambda: path.stat().st_mtime_ns > first, 10)
    own_lease.check()
    own_lease.release()
    assert path.stat().st_mtime == 0


@pytest.mark.usefixtures("short_timeouts")
def test_frozen_owner_stops_if_another_acquired_the_run(tmp_path: Path) -> None:
    frozen = start_owner(tmp_path, "another machine")
    frozen.send_signal(signal.SIGSTOP)
    successor = acquire(tmp_path, "2_0")
    assert successor is not None
    frozen.send_signal(signal.SIGCONT)
    assert frozen.wait(timeout=30) == 1  # LeaseLostError
    successor.check()
    successor.release()


def test_frozen_owner_continues_if_no_other_acquired_the_run(tmp_path: Path) -> None:
    frozen = start_owner(tmp_path, "another machine", "0.5")
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
def overdue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lease]:
    """A lease of this process that has shown no sign of life for too long: only `check` can."""
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1000.0)
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    own_lease._renewed -= lease.EXPIRE_SECONDS + 1
    yield own_lease
    own_lease.release()


def test_overdue_owner_creates_the_next_lease(
    overdue: Lease, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overdue.check()
    assert (
        f"run {tmp_path.name}: no heartbeat for 91 s, but no other process acquired the run; training continues"
        in capsys.readouterr().out
    )
    assert (overdue.number, overdue.attempt) == (2, 1)
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.owner is not None
    assert (lease_info.number, lease_info.owner.job, lease_info.is_alive) == (2, "1_0", True)
    assert acquire(tmp_path, "2_0") is None
    overdue.check()
    overdue.release()
    assert [path.stat().st_mtime == 0 for path in lease_files(tmp_path)] == [False, True]
    successor = acquire(tmp_path, "2_0")
    assert successor is not None
    assert (successor.number, successor.attempt) == (3, 3)
    successor.release()


def test_overdue_owner_stops_if_another_acquired_the_run(overdue: Lease, tmp_path: Path) -> None:
    assert lease._create(tmp_path, 2, "2_0", "another token")
    with pytest.raises(LeaseLostError, match="another process acquired the run"):
        overdue.check()
    overdue.release()
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.heartbeat > 0  # the successor's


def test_overdue_owner_stops_if_another_finished_the_run(overdue: Lease, tmp_path: Path) -> None:
    lease_files(tmp_path)[0].unlink()  # as the successor does with all leases, its own included
    with pytest.raises(LeaseLostError, match="another process acquired the run"):
        overdue.check()
    assert lease_files(tmp_path) == []


def test_overdue_owner_stops_if_the_file_system_does_not_answer(
    overdue: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(*_: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(lease, "_create", no_answer)
    with pytest.raises(LeaseLostError, match=r"cannot be renewed \(Input/output error\).* resumed from its last"):
        overdue.check()


def test_heartbeat_creates_the_next_lease_of_an_overdue_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    own_lease._renewed -= lease.EXPIRE_SECONDS + 1
    until(lambda: len(lease_files(tmp_path)) == 2, 10)
    first, second = lease_files(tmp_path)
    beats = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    until(lambda: second.stat().st_mtime_ns > beats[1], 10)
    assert first.stat().st_mtime_ns == beats[0]
    own_lease.check()
    own_lease.release()
    assert second.stat().st_mtime == 0


def test_overdue_owner_renews_again_after_the_file_system_hung(
    overdue: Lease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = lease._create

    def slow(folder: Path, number: int, job: str, token: str) -> bool:
        if number == 2:  # as long as others would wait
            pass_time(lease.EXPIRE_SECONDS + 1, monkeypatch)
        return create(folder, number, job, token)

    monkeypatch.setattr(lease, "_create", slow)
    overdue.check()
    assert overdue.number == 3
    assert len(lease_files(tmp_path)) == 3


def finish(folder: Path) -> None:
    """Remove the leases, as who finishes the run does."""
    for path in lease_files(folder):
        path.unlink()


def test_suspended_owner_does_not_mistake_a_later_lease_for_its_own(tmp_path: Path) -> None:
    asleep = start_owner(tmp_path, "another machine")
    asleep.send_signal(signal.SIGSTOP)
    finish(tmp_path)
    later = acquire(tmp_path, "3_0")
    assert later is not None
    assert later.number == 1
    asleep.send_signal(signal.SIGCONT)
    assert asleep.wait(timeout=30) == 1  # LeaseLostError
    later.confirm()
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert (lease_info.number, lease_info.owner.job if lease_info.owner else "", lease_info.heartbeat > 0) == (
        1,
        "3_0",
        True,
    )
    later.release()


def test_overdue_owner_does_not_replace_a_later_lease_of_the_same_number(overdue: Lease, tmp_path: Path) -> None:
    finish(tmp_path)
    assert lease._create(tmp_path, 1, "3_0", "another token")
    with pytest.raises(LeaseLostError, match="another process acquired the run"):
        overdue.check()
    assert [path.name for path in lease_files(tmp_path)] == ["lease.000001.json"]


def test_release_leaves_a_later_lease_of_the_same_number(tmp_path: Path) -> None:
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    finish(tmp_path)
    assert lease._create(tmp_path, 1, "3_0", "another token")
    own_lease.release()
    assert lease_files(tmp_path)[0].stat().st_mtime > 0


def test_time_in_suspend_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1000.0)
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    pass_time(500.0, monkeypatch)
    own_lease.check()
    assert own_lease.number == 2
    assert "no heartbeat for 500 s" in capsys.readouterr().out
    own_lease.release()


def test_time_spent_creating_a_lease_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1000.0)
    create = lease._create

    def slow(*given: object) -> bool:
        created = create(*given)  # type: ignore[arg-type]
        monkeypatch.setattr(lease, "_create", create)
        pass_time(lease.EXPIRE_SECONDS + 1, monkeypatch)
        return created

    monkeypatch.setattr(lease, "_create", slow)
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    own_lease.check()
    assert own_lease.number == 2
    own_lease.release()


def test_stale_folder_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    fails = iter([True, False, True, False])
    read = files.open_file

    def stale(path: Path) -> BufferedReader:
        if next(fails, False):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(path)

    monkeypatch.setattr(files, "open_file", stale)
    own_lease.confirm()
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.is_alive
    own_lease.release()


def test_request_that_is_a_pipe_asks_for_nothing(tmp_path: Path) -> None:
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    os.mkfifo(tmp_path / lease.REQUEST)
    own_lease.confirm()
    assert not own_lease.is_requested
    own_lease.release()


def test_steps_renew_the_lease_where_no_thread_can_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", full)
        own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    pass_time(lease.EXPIRE_SECONDS + 1, monkeypatch)
    own_lease.check()
    assert own_lease.number == 2
    own_lease.release()
    assert lease_files(tmp_path)[1].stat().st_mtime == 0
