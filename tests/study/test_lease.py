"""Who acquires a run, between real processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from caltech_exp.study import lease
from caltech_exp.study.lease import acquire, lease_files, read_lease
from tests.namespaces import in_namespaces
from tests.tools.leases import HOLD, start_owner, write_lease


def test_timeouts_leave_room_for_missed_heartbeats_and_nfs() -> None:
    assert 2 * lease.HEARTBEAT_SECONDS < lease.EXPIRE_SECONDS  # a heartbeat may be missed
    assert lease.TAKE_OVER_SECONDS > lease.EXPIRE_SECONDS + 60  # seconds for which NFS keeps time stamps to itself


def test_run_has_one_owner(tmp_path: Path) -> None:
    first = acquire(tmp_path, "1_0")
    assert first is not None
    assert acquire(tmp_path, "2_0") is None
    first.release()
    second = acquire(tmp_path, "2_0")
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    second.release()


def test_one_of_many_processes_acquires_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD.replace("while own_lease:", "for _ in range(200):"), str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    firsts = []
    for process in processes:
        assert process.stdout is not None
        firsts.append(process.stdout.readline().strip())
    assert sorted(firsts) == ["held"] + ["left"] * 7
    for process in processes:
        process.kill()
        process.wait()


def test_owner_killed_on_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    killed = start_owner(tmp_path)
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.is_alive
    assert lease_info.owner is not None
    assert (lease_info.owner.pid, lease_info.owner.job) == (killed.pid, "1_0")
    killed.kill()
    killed.wait()
    start = time.monotonic()
    successor = acquire(tmp_path, "2_0")
    assert time.monotonic() - start < lease.TAKE_OVER_SECONDS / 10
    assert successor is not None
    assert successor.number == 2
    successor.release()


def test_reused_process_number_is_not_the_owner(tmp_path: Path) -> None:
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    own_lease.release()
    path = lease_files(tmp_path)[0]
    path.write_text(
        path.read_text().replace('"started": ', '"started": 1')
    )  # this process, started at another time
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.heartbeat > 0
    assert lease_info.is_alive is False


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_owner_dead_on_another_machine_is_replaced_after_a_while_whatever_the_clocks_say(
    skew: int, tmp_path: Path
) -> None:
    killed = start_owner(tmp_path, "another machine")
    killed.kill()
    killed.wait()
    (path,) = lease_files(tmp_path)
    os.utime(path, (time.time() + skew, time.time() + skew))
    start = time.monotonic()
    successor = acquire(tmp_path, "2_0")
    assert successor is not None
    assert time.monotonic() - start >= lease.TAKE_OVER_SECONDS
    successor.release()


@pytest.mark.usefixtures("short_timeouts")
def test_owner_alive_on_another_machine_keeps_the_run(tmp_path: Path) -> None:
    alive = start_owner(tmp_path, "another machine")
    assert acquire(tmp_path, "2_0") is None
    alive.kill()
    alive.wait()


def test_lease_info_is_held_while_its_heartbeat_is_fresh(tmp_path: Path) -> None:
    process = start_owner(tmp_path, "another machine")
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.is_alive is None
    assert lease_info.is_held(lease_info.heartbeat + 10)
    assert not lease_info.is_held(lease_info.heartbeat + lease.TAKE_OVER_SECONDS + 1)
    process.kill()
    process.wait()


def test_acquire_without_waiting_takes_only_a_free_run(tmp_path: Path) -> None:
    write_lease(tmp_path, machine="another machine")
    assert acquire(tmp_path, "2_0", wait=False) is None
    os.utime(tmp_path / "lease.000001.json", (0, 0))
    own_lease = acquire(tmp_path, "2_0", wait=False)
    assert own_lease is not None
    own_lease.release()


HIDDEN = """
import os, signal, sys
from pathlib import Path
from caltech_exp.study import lease
lease.HEARTBEAT_SECONDS, lease.POLL_SECONDS, lease.EXPIRE_SECONDS, lease.TAKE_OVER_SECONDS = 0.1, 0.05, 0.5, 1.0
folder = Path(sys.argv[1])

def child(user, work):
    number = os.fork()
    if number == 0:
        os.setgroups([]); os.setgid(user); os.setuid(user)
        work()
        os._exit(0)
    return number

def hold():
    assert lease.acquire(folder, "1_0")
    os.write(tell, b".")
    signal.pause()

def look():
    hidden = not os.path.exists(f"/proc/{holder}")
    alive = lease.read_lease(folder).is_alive
    print("hidden" if hidden else "seen", alive, "taken" if lease.acquire(folder, "2_0") else "left", flush=True)

ready, tell = os.pipe()
holder = child(65001, hold)
os.read(ready, 1)
os.waitpid(child(65002, look), 0)
os.kill(holder, signal.SIGKILL)
os.waitpid(holder, 0)
os.waitpid(child(65002, look), 0)
"""


def test_owner_hidden_by_proc_does_not_count_as_dead() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)  # of two users
        mount = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        words = in_namespaces("-m", "sh", "-c", mount, "sh", sys.executable, "-c", HIDDEN, str(folder))
    finally:
        shutil.rmtree(folder)
    assert words.splitlines() == ["hidden None left", "hidden False taken"]


def test_process_numbers_count_only_with_the_matching_proc() -> None:
    code = "from caltech_exp.machine import machine_id; print([machine_id()])"
    assert in_namespaces("-pf", sys.executable, "-c", code) == "['']\n"
    assert in_namespaces("-pf", "--mount-proc", sys.executable, "-c", code) != "['']\n"
