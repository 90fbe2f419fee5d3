"""The lease of a run: at most one process trains it. docs/faults.md describes the protocol and why it is safe.

Leases are the files lease.000001.json, lease.000002.json, ... in the run's folder; the last one counts. A process
acquires the run by creating the next file (O_CREAT | O_EXCL) and touches it every HEARTBEAT_SECONDS. Processes on
other machines acquire the run once the file has not changed for TAKE_OVER_SECONDS by their own clock. An owner
whose heartbeats stopped for EXPIRE_SECONDS must create the next file before it goes on. A released lease has the
time stamp 0; a finished run has no leases. An owner recognizes its file by a random token.

A job that Slurm restarted asks its former process, which may still run on a node that is cut off, to release the
run: the file REQUEST holds the token of the former process's lease.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from caltech_exp.bootstrap import look_again
from caltech_exp.files import RefusedFileError, boot_seconds, names_in, read_file, utc_now, write_atomically
from caltech_exp.machine import host_name, is_alive, machine_id, process_start
from caltech_exp.records import Count, HostName, JobId, StrictRecord, Time, read_record

HEARTBEAT_SECONDS = 15.0
EXPIRE_SECONDS = 90.0
# Longer than EXPIRE_SECONDS by more than network file systems delay time stamps (NFS: 60 s).
TAKE_OVER_SECONDS = 180.0
POLL_SECONDS = 1.0
# A lease that the file system says exists may not be listed for a while (NFS: up to 60 s).
MAX_POLLS = 60
READ_ATTEMPTS = 5
READ_SECONDS = 0.02
REQUEST = "lease.request"

_NAME = re.compile(r"lease\.([0-9]{6}|[1-9][0-9]{6,})\.json")


class LeaseLostError(Exception):
    """Another process trains this run now, or may."""


class ReplacedError(LeaseLostError):
    """Slurm has started this process's job again: the new process trains its runs."""


class Owner(StrictRecord):
    """The process that acquired the lease.

    machine  boot id and process name space: processes of the same machine can look each other up by number
    started  when the process started, in clock ticks since boot, because process numbers are reused
    token    random, unique to this lease; empty in leases of older versions
    restarts how often Slurm had restarted the job
    """

    job: JobId
    host: HostName
    machine: str
    pid: int = Field(ge=1, lt=2**31)
    started: Count
    since: Time
    token: str = ""
    restarts: Count = 0


@dataclass(frozen=True)
class LeaseInfo:
    """The last lease of a run; `owner` is None if the file cannot be read.

    number     how often the run has been acquired
    heartbeat  time stamp of the last heartbeat in seconds; 0 if the lease was released
    is_alive   whether the owner's process lives; None if that cannot be told from this machine
    """

    number: int
    owner: Owner | None
    heartbeat: float
    is_alive: bool | None = field(compare=False)

    def is_held(self, now: float) -> bool:
        """Whether the run is being trained, judged without waiting; `now` by the file system's clock."""
        if self.heartbeat == 0 or self.is_alive is not None:
            return bool(self.is_alive) and self.heartbeat != 0
        return now - self.heartbeat < TAKE_OVER_SECONDS


def read_lease(folder: Path) -> LeaseInfo | None:
    """The last lease of the run in `folder`; None if the run was never acquired or is finished."""
    for attempt in range(READ_ATTEMPTS):
        time.sleep(READ_SECONDS * attempt)
        number = _last_number(folder)
        if number == 0:
            return None
        with contextlib.suppress(FileNotFoundError):  # removed in between
            return _read_lease(folder, number)
    return LeaseInfo(number, None, -1.0, None)


def _read_lease(folder: Path, number: int) -> LeaseInfo:
    """Raises FileNotFoundError if lease `number` is gone."""
    path = _path(folder, number)
    status = look_again(path.lstat)
    if not stat.S_ISREG(status.st_mode):  # for example a broken link: no process updates it
        return LeaseInfo(number, None, status.st_mtime, None)
    owner = read_record(path, Owner)
    # After opening the file: on NFS that updates the time stamp.
    heartbeat = look_again(path.stat).st_mtime
    if not isinstance(owner, Owner):
        return LeaseInfo(number, None, heartbeat, None)
    return LeaseInfo(number, owner, heartbeat, _is_owner_alive(owner))


class Lease:
    """The lease that this process holds on a run.

    attempt       how often the run has been acquired, this time included
    is_requested  whether the process that Slurm started in place of this one has asked for the run
    """

    def __init__(self, folder: Path, number: int, job: str, token: str, renewed: float) -> None:
        self.folder = folder
        self.attempt = number
        self.number = number
        self.is_requested = False
        self._job = job
        self._token = token
        self._renewed = renewed
        self._is_lost = False
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True)
        with contextlib.suppress(RuntimeError):  # too many processes on this node: then only `check` renews it
            self._thread.start()

    def check(self) -> None:
        """Raises LeaseLostError if another process may own the run by now.

        An overdue lease is renewed first, which waits for a file system that hangs.
        """
        while self._is_overdue() and not self._is_lost:  # again, should the file system have hung meanwhile
            try:
                self._renew()
            except OSError as error:
                raise LeaseLostError(
                    f"its lease cannot be renewed ({error.strerror or error}), so another process may acquire the "
                    "run; submit again, and it is resumed from its last checkpoint"
                ) from None
        if self._is_lost:
            raise LeaseLostError("its lease is lost: another process acquired the run")

    def confirm(self) -> None:
        """As `check`, after reading the run's folder: before anything is written that others read."""
        with contextlib.suppress(OSError):  # nobody else acquires the run while the lease is not overdue
            self._renew()
        self.check()

    def release(self) -> None:
        self._ended.set()
        if self._thread.ident:
            self._thread.join()
        if not self._is_lost:
            with contextlib.suppress(OSError):
                if self._is_own(self.number):
                    os.utime(_path(self.folder, self.number), (0, 0))  # needs no space on a full disk

    def _is_overdue(self) -> bool:
        return boot_seconds() - self._renewed > EXPIRE_SECONDS

    def _send_heartbeats(self) -> None:
        # Heartbeats stop once the run is requested: a process that never reaches its next step then loses the run.
        while not (self._ended.wait(HEARTBEAT_SECONDS) or self._is_lost or self.is_requested):
            with contextlib.suppress(OSError):
                self._renew()

    def _renew(self) -> None:
        """Touch the lease, unless the run is requested or another process owns it. Raises OSError."""
        with self._renewing:  # the heartbeat and `check` may come at once
            if self._is_lost:
                return
            before = boot_seconds()
            if self._is_overdue():
                self._is_lost = not self._acquire_next()
            elif not self._is_own(self.number) or _last_number(self.folder) > self.number:
                self._is_lost = True
            elif self.is_requested or _read_bytes(self.folder / REQUEST) == self._token.encode():
                self.is_requested = True
                return
            else:
                os.utime(_path(self.folder, self.number))
            if not self._is_lost:
                self._renewed = before

    def _acquire_next(self) -> bool:
        """Create the next lease; False if another process acquired the run. Raises OSError."""
        if not self._is_own(self.number):  # another process finished the run and removed its leases
            return False
        if not _create(self.folder, self.number + 1, self._job, self._token) and not self._is_own(self.number + 1):
            return False
        if not self._is_own(self.number):
            _path(self.folder, self.number + 1).unlink(missing_ok=True)
            return False
        self.number += 1
        seconds = boot_seconds() - self._renewed
        print(
            f"run {self.folder.name}: no heartbeat for {seconds:.0f} s, but no other process acquired the run; "
            "training continues",
            flush=True,
        )
        return True

    def _is_own(self, number: int) -> bool:
        """Whether lease `number` exists and belongs to this process. Raises OSError if it cannot be read."""
        content = _read_bytes(_path(self.folder, number))
        return content is not None and self._token.encode() in content


def acquire(folder: Path, job: str, *, wait: bool = True) -> Lease | None:
    """Acquire the lease of the run in `folder` for `job`; None if another process holds it.

    Waits up to TAKE_OVER_SECONDS only when the last owner is on another machine and its heartbeats have stopped;
    with wait=False the answer is then None. A former process of the same job is asked to release the run, and
    waited for. Raises OSError if the folder cannot be written, ReplacedError if the owner is the process that
    Slurm started in place of this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before: LeaseInfo | None = None
    unchanged_since = 0.0
    polls = 0
    while True:
        lease = read_lease(folder)
        number = lease.number if lease else 0
        if lease and lease.heartbeat != 0 and lease.is_alive is not False:
            is_former = _is_former(lease.owner, job)
            if not wait or (lease.is_alive and not is_former):
                return None
            has_changed = before is not None and before != lease
            if has_changed and not is_former:
                return None
            if is_former and (has_changed or lease.is_alive):
                _request(folder, lease)
            if before is None or has_changed:
                before, unchanged_since = lease, boot_seconds()
            if boot_seconds() - unchanged_since < TAKE_OVER_SECONDS:
                time.sleep(POLL_SECONDS)
                continue
        token, renewed = secrets.token_hex(16), boot_seconds()
        if _create(folder, number + 1, job, token):
            with contextlib.suppress(OSError):
                (folder / REQUEST).unlink(missing_ok=True)
            return Lease(folder, number + 1, job, token, renewed)
        polls += 1
        if polls > MAX_POLLS:
            reason = "the file system does not list a lease that exists"
            raise OSError(errno.ESTALE, reason, str(_path(folder, number + 1)))
        time.sleep(POLL_SECONDS if polls > 1 else 0)


@contextlib.contextmanager
def hold(lease: Lease) -> Iterator[Lease]:
    """Release the lease when the block ends, however it ends."""
    try:
        yield lease
    finally:
        lease.release()


def lease_files(folder: Path) -> list[Path]:
    """The leases of the run in `folder`, the first one first."""
    return [_path(folder, number) for number in _numbers(folder)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"lease.{number:06}.json"


def _numbers(folder: Path) -> list[int]:
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names_in(folder)) if match)


def _last_number(folder: Path) -> int:
    """The number of the last lease, 0 if there is none."""
    try:
        return max(_numbers(folder), default=0)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _read_bytes(path: Path) -> bytes | None:
    """The content of a lease or request, None if there is none. Raises OSError."""
    try:
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError, RefusedFileError):
        return None


def _create(folder: Path, number: int, job: str, token: str) -> bool:
    """Create lease `number`; False if another process already has. Raises OSError, for example on a full disk."""
    owner = Owner(
        job=job,
        host=host_name(),
        machine=machine_id(),
        pid=os.getpid(),
        started=process_start(os.getpid()) or 0,
        since=utc_now(),
        token=token,
        restarts=_restarts(),
    )
    path = _path(folder, number)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(owner.model_dump_json(indent=1).encode() + b"\n")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _is_owner_alive(owner: Owner) -> bool | None:
    """None if the owner is on another machine, or its process cannot be seen."""
    if not owner.machine or (owner.machine, owner.host) != (machine_id(), host_name()):
        return None
    return is_alive(owner.pid, owner.started)


def _restarts() -> int:
    """How often Slurm has restarted this job."""
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(count) if re.fullmatch("[0-9]{1,9}", count) else 0


def _is_former(owner: Owner | None, job: str) -> bool:
    """Whether the owner is a process of this job from before Slurm restarted it.

    Raises ReplacedError if this process is the one from before.
    """
    if owner is None or owner.job != job:
        return False
    if owner.restarts > _restarts():
        raise ReplacedError(f"Slurm has restarted job {job}, on {owner.host}, which trains its runs")
    return owner.restarts < _restarts()


def _request(folder: Path, lease: LeaseInfo) -> None:
    """Ask the owner of the last lease to release the run, unless that has been done."""
    if lease.owner is None or not lease.owner.token:
        return
    with contextlib.suppress(OSError):  # the next poll tries again
        if _read_bytes(folder / REQUEST) != lease.owner.token.encode():
            write_atomically(folder / REQUEST, lease.owner.token)
            print(
                f"run {folder.name}: the former process of this job still trains it on {lease.owner.host}; "
                "asked it to stop, and waiting until it has",
                flush=True,
            )
