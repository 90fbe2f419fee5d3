"""Lease files that are damaged, odd, or of an older version."""

import errno
import os
import time
from pathlib import Path

import pytest

from caltech_exp.study import lease
from caltech_exp.study.lease import acquire, lease_files, read_lease
from tests.tools.leases import write_lease


@pytest.mark.usefixtures("short_timeouts")
def test_lease_half_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "lease.000003.json").touch()
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert (lease_info.owner, lease_info.is_alive) == (None, None)
    successor = acquire(tmp_path, "2_0")
    assert successor is not None
    assert successor.number == 4
    successor.release()


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("kind", ["a link to nowhere", "a folder", "a pipe"])
def test_lease_that_is_no_file_has_no_owner(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "lease.000007.json"
    if kind == "a link to nowhere":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert (lease_info.number, lease_info.owner, lease_info.is_alive) == (7, None, None)
    assert not lease_info.is_held(lease_info.heartbeat + lease.TAKE_OVER_SECONDS + 1)
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    assert own_lease.number == 8
    own_lease.release()


@pytest.mark.usefixtures("short_timeouts")
def test_lease_numbers_continue_beyond_six_digits(tmp_path: Path) -> None:
    (tmp_path / "lease.999999.json").touch()
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    assert own_lease.number == 1_000_000
    own_lease.confirm()
    assert acquire(tmp_path, "2_0") is None
    own_lease.release()


def test_other_file_names_are_ignored(tmp_path: Path) -> None:
    for name in ("lease.0000007.json", "lease.٠٠٠٠٠٧.json", "lease.7.json", "lease.000007.json.old"):
        (tmp_path / name).touch()
    assert read_lease(tmp_path) is None
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    assert own_lease.number == 1
    own_lease.release()


def test_lease_never_listed_raises_stale_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.01)
    (tmp_path / "lease.000001.json").touch()
    monkeypatch.setattr(lease, "_last_number", lambda _folder: 0)
    with pytest.raises(OSError, match="the file system does not list a lease that exists") as caught:
        acquire(tmp_path, "1_0")
    assert caught.value.errno == errno.ESTALE  # a fault of the node's


def test_lease_listed_but_missing_has_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_last_number", lambda _folder: 3)
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert (lease_info.number, lease_info.owner) == (3, None)
    assert not lease_info.is_held(time.time())


def test_lease_of_an_older_version_is_read(tmp_path: Path) -> None:
    write_lease(tmp_path)
    assert "token" not in (tmp_path / "lease.000001.json").read_text()
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.is_alive is False
    own_lease = acquire(tmp_path, "2_0")
    assert own_lease is not None
    assert own_lease.number == 2
    own_lease.release()


def test_cloned_machine_is_another_machine(tmp_path: Path) -> None:
    write_lease(tmp_path, host="the-one-it-was-cloned-from")
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.is_alive is None


def test_lease_files_are_sorted_by_number(tmp_path: Path) -> None:
    names = ("lease.000002.json", "lease.999999.json", "lease.1000000.json")
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in lease_files(tmp_path)] == list(names)
