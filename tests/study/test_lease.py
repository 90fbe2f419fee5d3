"""Leases between real processes."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp.machine import machine
from caltech_exp.study import lease
from caltech_exp.study.lease import Holder, Lease, LeaseLostError, ReplacedError, lease_files, read_sign, take
from tests.namespaces import in_namespaces
from tests.tools.testbed import until

HOLD = """
import sys, time
from pathlib import Path
from caltech_exp.study import lease
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
    if held.is_asked:
        held.release()
        print("gave it up")
        break
"""


def holder(folder: Path, *machine: str) -> "subprocess.Popen[str]":
    """A process that takes the run and holds it; what it printed first has been read."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *machine], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def let_time_pass(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had been suspended: of the clocks that measure, the one that then stands still does."""
    clock = time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda which: clock(which) + (seconds if which == time.CLOCK_BOOTTIME else 0)
    )


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
    assert lease._create(tmp_path, 2, "2_0", "another token")
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
    def no_answer(*_: object) -> bool:
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

    def slow(folder: Path, number: int, job: str, token: str) -> bool:
        if number == 2:  # as long as others would wait
            let_time_pass(lease.EXPIRE_SECONDS + 1, monkeypatch)
        return create(folder, number, job, token)

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


def finish(folder: Path) -> None:
    """Remove the leases, as who finishes the run does."""
    for path in lease_files(folder):
        path.unlink()


def test_who_slept_does_not_take_a_later_lease_of_the_same_number_for_its_own(tmp_path: Path) -> None:
    asleep = holder(tmp_path, "another machine")
    asleep.send_signal(signal.SIGSTOP)
    finish(tmp_path)
    later = take(tmp_path, "3_0")
    assert later is not None
    assert later.number == 1
    asleep.send_signal(signal.SIGCONT)
    assert asleep.wait(timeout=30) == 1  # LeaseLostError
    later.confirm()
    sign = read_sign(tmp_path)
    assert sign is not None
    assert (sign.number, sign.holder.job if sign.holder else "", sign.beat > 0) == (1, "3_0", True)
    later.release()


def test_who_slept_long_does_not_succeed_a_later_lease_of_the_same_number(silent: Lease, tmp_path: Path) -> None:
    finish(tmp_path)
    assert lease._create(tmp_path, 1, "3_0", "another token")
    with pytest.raises(LeaseLostError, match="another process took the run"):
        silent.check()
    assert [path.name for path in lease_files(tmp_path)] == ["lease.000001.json"]


def test_who_slept_does_not_give_back_a_later_lease_of_the_same_number(tmp_path: Path) -> None:
    held = take(tmp_path, "1_0")
    assert held is not None
    finish(tmp_path)
    assert lease._create(tmp_path, 1, "3_0", "another token")
    held.release()
    assert lease_files(tmp_path)[0].stat().st_mtime > 0


def test_the_time_that_a_suspended_machine_sleeps_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1000.0)
    held = take(tmp_path, "1_0")
    assert held is not None
    let_time_pass(500.0, monkeypatch)
    held.check()
    assert held.number == 2
    assert "500 s without a sign of life" in capsys.readouterr().out
    held.release()


def test_the_time_that_creating_a_lease_takes_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 1000.0)
    create = lease._create

    def slow(*given: object) -> bool:
        created = create(*given)  # type: ignore[arg-type]
        monkeypatch.setattr(lease, "_create", create)
        let_time_pass(lease.EXPIRE_SECONDS + 1, monkeypatch)
        return created

    monkeypatch.setattr(lease, "_create", slow)
    held = take(tmp_path, "1_0")
    assert held is not None
    held.check()
    assert held.number == 2
    held.release()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("kind", ["a link to nowhere", "a folder", "a pipe"])
def test_a_lease_that_is_no_file_is_nobodys(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "lease.000007.json"
    if kind == "a link to nowhere":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    sign = read_sign(tmp_path)
    assert sign is not None
    assert (sign.number, sign.holder, sign.alive) == (7, None, None)
    assert not sign.is_held(sign.beat + lease.TAKE_OVER_SECONDS + 1)
    held = take(tmp_path, "1_0")
    assert held is not None
    assert held.number == 8
    held.release()


@pytest.mark.usefixtures("soon")
def test_after_the_last_number_of_six_digits_comes_one_of_seven(tmp_path: Path) -> None:
    (tmp_path / "lease.999999.json").touch()
    held = take(tmp_path, "1_0")
    assert held is not None
    assert held.number == 1_000_000
    held.confirm()
    assert take(tmp_path, "2_0") is None
    held.release()


def test_names_that_no_lease_has_are_nothing(tmp_path: Path) -> None:
    for name in ("lease.0000007.json", "lease.٠٠٠٠٠٧.json", "lease.7.json", "lease.000007.json.old"):
        (tmp_path / name).touch()
    assert read_sign(tmp_path) is None
    held = take(tmp_path, "1_0")
    assert held is not None
    assert held.number == 1
    held.release()


def test_a_lease_that_the_file_system_never_lists_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.01)
    (tmp_path / "lease.000001.json").touch()
    monkeypatch.setattr(lease, "_last", lambda _folder: 0)
    with pytest.raises(OSError, match="a lease exists there that the file system does not list") as caught:
        take(tmp_path, "1_0")
    assert caught.value.errno == errno.ESTALE  # a fault of the node's


def test_a_lease_that_is_listed_and_never_there_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_last", lambda _folder: 3)
    sign = read_sign(tmp_path)
    assert sign is not None
    assert (sign.number, sign.holder) == (3, None)
    assert not sign.is_held(time.time())


def lease_of(folder: Path, **fields: object) -> None:
    """The first lease of the run, as a process that has ended left it; None leaves a field out."""
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    holder = {"job": "1_0", "host": socket.gethostname(), "machine": machine(), "pid": int(ended.stdout),
              "started": 1, "since": "noon", **fields}  # fmt: skip
    (folder / "lease.000001.json").write_text(
        Holder.model_validate(
            {name: value for name, value in holder.items() if value is not None}
        ).model_dump_json(exclude_unset=True)
    )


def test_a_lease_of_an_older_version_is_read(tmp_path: Path) -> None:
    lease_of(tmp_path)
    assert "token" not in (tmp_path / "lease.000001.json").read_text()
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.alive is False
    held = take(tmp_path, "2_0")
    assert held is not None
    assert held.number == 2
    held.release()


def test_a_machine_cloned_while_it_ran_is_another_one(tmp_path: Path) -> None:
    lease_of(tmp_path, host="the-one-it-was-cloned-from")
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.alive is None


HIDDEN = """
import os, signal, sys
from pathlib import Path
from caltech_exp.study import lease
lease.HEARTBEAT_SECONDS, lease.LOOK_SECONDS, lease.EXPIRE_SECONDS, lease.TAKE_OVER_SECONDS = 0.1, 0.05, 0.5, 1.0
folder = Path(sys.argv[1])

def child(user, work):
    number = os.fork()
    if number == 0:
        os.setgroups([]); os.setgid(user); os.setuid(user)
        work()
        os._exit(0)
    return number

def hold():
    assert lease.take(folder, "1_0")
    os.write(tell, b".")
    signal.pause()

def look():
    hidden = not os.path.exists(f"/proc/{holder}")
    alive = lease.read_sign(folder).alive
    print("hidden" if hidden else "seen", alive, "taken" if lease.take(folder, "2_0") else "left", flush=True)

ready, tell = os.pipe()
holder = child(65001, hold)
os.read(ready, 1)
os.waitpid(child(65002, look), 0)
os.kill(holder, signal.SIGKILL)
os.waitpid(holder, 0)
os.waitpid(child(65002, look), 0)
"""


def test_a_holder_that_proc_hides_is_not_taken_for_dead() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)  # of two users
        mount = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
        words = in_namespaces("-m", "sh", "-c", mount, "sh", sys.executable, "-c", HIDDEN, str(folder))
    finally:
        shutil.rmtree(folder)
    assert words.splitlines() == ["hidden None left", "hidden False taken"]


def test_numbers_of_processes_count_only_with_a_proc_that_has_them() -> None:
    code = "from caltech_exp.machine import machine; print([machine()])"
    assert in_namespaces("-pf", sys.executable, "-c", code) == "['']\n"
    assert in_namespaces("-pf", "--mount-proc", sys.executable, "-c", code) != "['']\n"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("where", ["this machine", "another machine"])
def test_the_former_process_of_a_job_that_slurm_started_again_is_asked_for_the_run(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    former = holder(tmp_path, *([where] if where == "another machine" else []))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    held = take(tmp_path, "1_0")
    assert held is not None
    assert held.number == 2
    assert former.wait(timeout=30) == 0
    assert former.stdout is not None
    assert former.stdout.read() == "gave it up\n"
    assert "the former process of this job still trains it on" in capsys.readouterr().out
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["lease.000001.json", "lease.000002.json"]
    held.release()


@pytest.mark.usefixtures("soon")
def test_a_former_process_that_does_not_come_to_its_next_step_falls_silent_and_is_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = take(tmp_path, "1_0")  # a thread beats for it, and nobody calls `check`
    assert former is not None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    held = take(tmp_path, "1_0")
    assert held is not None
    assert held.number == 2
    with pytest.raises(LeaseLostError, match="another process took the run"):
        former.confirm()
    former.release()
    held.confirm()
    held.release()


def test_a_former_process_that_comes_to_a_run_of_the_new_one_learns_that_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    held = take(tmp_path, "1_0")
    assert held is not None
    assert take(tmp_path, "1_0") is None  # a second process of the same start
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(ReplacedError, match=f"started job 1_0 again, on {socket.gethostname()}"):
        take(tmp_path, "1_0")
    assert take(tmp_path, "2_0") is None  # another job
    held.release()


def test_without_waiting_a_run_is_taken_only_if_it_is_free(tmp_path: Path) -> None:
    lease_of(tmp_path, machine="another machine")
    assert take(tmp_path, "2_0", waiting=False) is None
    os.utime(tmp_path / "lease.000001.json", (0, 0))
    held = take(tmp_path, "2_0", waiting=False)
    assert held is not None
    held.release()


def test_a_holder_whose_folder_is_stale_for_a_moment_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = take(tmp_path, "1_0")
    assert held is not None
    fails = iter([True, False, True, False])
    read = Path.read_bytes

    def stale(path: Path) -> bytes:
        if next(fails, False):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", stale)
    held.confirm()
    sign = read_sign(tmp_path)
    assert sign is not None
    assert sign.alive
    held.release()


def test_where_no_thread_can_be_started_steps_renew_the_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", full)
        held = take(tmp_path, "1_0")
    assert held is not None
    let_time_pass(lease.EXPIRE_SECONDS + 1, monkeypatch)
    held.check()
    assert held.number == 2
    held.release()
    assert lease_files(tmp_path)[1].stat().st_mtime == 0


def test_the_files_of_leases_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ("lease.000002.json", "lease.999999.json", "lease.1000000.json")
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in lease_files(tmp_path)] == list(names)
