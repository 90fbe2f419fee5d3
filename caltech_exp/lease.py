"""One writer per run: whoever trains it holds a lease on its folder.

Leases are the files lease.000001.json, lease.000002.json, ... of the run's folder; the last one counts. A process
takes the run by creating the next file, which the file system lets exactly one process do (O_CREAT | O_EXCL: local
disks, NFS from version 3, Lustre, GPFS, BeeGFS). That is all this rests on: no lock daemon, no clock that two
machines would have to agree on.

The holder touches its file every HEARTBEAT_SECONDS. On the same machine, another process sees whether the holder's
process still lives; on another one it watches the file with its own clock, and takes the run over when the file
did not change for TAKE_OVER_SECONDS. A holder that could not touch its file for EXPIRE_SECONDS, frozen or cut off
from its file system, goes on only if it gets the next file itself: where nobody came, it does, and who comes at
that moment finds a fresh file; where a successor came, it stops at its next step. A run with a result has no
leases: who finds its own gone stops too. A lease that is given back has the time stamp 0.
"""

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.clock import utc_now
from caltech_exp.process import machine, start_of
from caltech_exp.record import StrictRecord
from caltech_exp.results import Damaged, read_record

HEARTBEAT_SECONDS = 15.0
EXPIRE_SECONDS = 90.0
TAKE_OVER_SECONDS = 180.0
"""Longer than EXPIRE_SECONDS by more than network file systems keep time stamps to themselves (NFS: 60 s)."""
LOOK_SECONDS = 1.0

_NAME = re.compile(r"lease\.(\d{6})\.json")


class LeaseLostError(Exception):
    """Another process trains this run now, or may."""


class Holder(StrictRecord):
    """The process that took the lease.

    machine  its boot and process name space: processes of the same machine know each other by number
    started  when that process started, in clock ticks since boot; numbers are used again
    """

    job: str
    host: str
    machine: str
    pid: int
    started: int
    since: str


@dataclass(frozen=True)
class Sign:
    """What the last lease of a run tells; `holder` is None where the file does not.

    number  how often the run has been taken
    beat    time stamp of the last heartbeat, seconds; 0 for a lease that was given back
    alive   whether its process lives: True or False on this machine, None if that cannot be told from here
    """

    number: int
    holder: Holder | None
    beat: float
    alive: bool | None

    def is_held(self, now: float) -> bool:
        """Whether the run is being trained, for one who looks once; `now` by the file system's clock."""
        if self.beat == 0 or self.alive is not None:
            return bool(self.alive) and self.beat != 0
        return now - self.beat < TAKE_OVER_SECONDS


def read_sign(folder: Path) -> Sign | None:
    """The last lease of the run in `folder`, None if nobody ever took it or it is finished."""
    while (number := _last(folder)) > 0:
        path = _path(folder, number)
        with contextlib.suppress(FileNotFoundError):  # it went as we looked
            holder = read_record(path, Holder)
            beat = path.stat().st_mtime
            found = None if isinstance(holder, Damaged) else holder
            return Sign(number, found, beat, _is_alive(found) if found else None)
    return None


class Lease:
    """A run's lease, held by `job`; give it back with `release`.

    attempt  how often the run had been taken when this process took it, this time included
    """

    def __init__(self, folder: Path, number: int, job: str) -> None:
        self.folder = folder
        self.attempt = number
        self.number = number
        self._job = job
        self._renewed = time.monotonic()
        self._superseded = False
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises LeaseLostError if the run may be another's by now.

        A lease that is overdue is taken anew first; that waits for a file system that hangs.
        """
        while self._overdue() and not self._superseded:  # again, should the file system have hung meanwhile
            try:
                self._renew()
            except OSError as error:
                why = f"its lease cannot be renewed ({error.strerror or error}), and others may take the run"
                raise LeaseLostError(f"{why}: submitted again, it goes on from its last checkpoint") from None
        if self._superseded:
            raise LeaseLostError("its lease is lost: another process took the run")

    def release(self) -> None:
        """Give the run back."""
        self._ended.set()
        self._thread.join()
        if not self._superseded:
            with contextlib.suppress(OSError):
                os.utime(_path(self.folder, self.number), (0, 0))  # needs no space on a full disk

    def _overdue(self) -> bool:
        return time.monotonic() - self._renewed > EXPIRE_SECONDS

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS) and not self._superseded:
            with contextlib.suppress(OSError):
                self._renew()

    def _renew(self) -> None:
        """Show a sign of life, or learn that the run is another's. Raises OSError."""
        with self._renewing:  # the heartbeat and `check` may come at once
            if self._superseded:
                return
            before = time.monotonic()
            if self._overdue():
                self._superseded = not self._take_next()
            elif _last(self.folder) > self.number:
                self._superseded = True
            else:
                os.utime(_path(self.folder, self.number))
            if not self._superseded:
                self._renewed = before

    def _take_next(self) -> bool:
        """Whether nobody had taken the run, which has the next lease now. Raises OSError."""
        if not _create(self.folder, self.number + 1, self._job):
            return False
        if not _path(self.folder, self.number).exists():  # a successor finished the run and removed its leases
            _path(self.folder, self.number + 1).unlink(missing_ok=True)
            return False
        self.number += 1
        seconds = time.monotonic() - self._renewed
        print(
            f"run {self.folder.name}: {seconds:.0f} s without a sign of life; nobody took it, it goes on",
            flush=True,
        )
        return True


def take(folder: Path, job: str) -> Lease | None:
    """Take the run in `folder` for `job`, or None if another process trains it.

    Returns at once unless the last holder was on another machine and neither gave the run back nor shows a sign of
    life: it has TAKE_OVER_SECONDS to do so. Raises OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watched: tuple[int, float] | None = None
    since = 0.0
    while True:
        sign = read_sign(folder)
        number = sign.number if sign else 0
        if sign and sign.beat != 0 and sign.alive is not False:
            if sign.alive:
                return None
            if watched is None:
                watched, since = (sign.number, sign.beat), time.monotonic()
            elif watched != (sign.number, sign.beat):
                return None
            if time.monotonic() - since < TAKE_OVER_SECONDS:
                time.sleep(LOOK_SECONDS)
                continue
        if _create(folder, number + 1, job):
            return Lease(folder, number + 1, job)


@contextlib.contextmanager
def held(lease: Lease) -> Iterator[Lease]:
    """Give the lease back when the block ends, however it ends."""
    try:
        yield lease
    finally:
        lease.release()


def lease_files(folder: Path) -> list[Path]:
    """The leases of the run in `folder`, the first one first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _path(folder: Path, number: int) -> Path:
    return folder / f"lease.{number:06}.json"


def _last(folder: Path) -> int:
    """The number of the last lease, 0 if there is none."""
    try:
        names = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(match[1]) for match in map(_NAME.fullmatch, names) if match), default=0)


def _create(folder: Path, number: int, job: str) -> bool:
    """Whether this process, and no other, made lease `number`. Raises OSError for a full disk and the like."""
    holder = Holder(
        job=job,
        host=socket.gethostname(),
        machine=machine(),
        pid=os.getpid(),
        started=start_of(os.getpid()) or 0,
        since=utc_now(),
    )
    path = _path(folder, number)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(handle, holder.model_dump_json(indent=1).encode() + b"\n")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def _is_alive(holder: Holder) -> bool | None:
    """Whether the holder's process lives; None if it is not of this machine."""
    if not holder.machine or holder.machine != machine():
        return None
    return start_of(holder.pid) == holder.started
