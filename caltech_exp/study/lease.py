"""One writer per run: whoever trains it holds a lease on its folder.

Leases are the files lease.000001.json, lease.000002.json, ... of the run's folder; the last one counts. A process
takes the run by creating the next file, which the file system lets exactly one process do (O_CREAT | O_EXCL: local
disks, NFS from version 3, Lustre, GPFS, BeeGFS). That is all this rests on: no lock daemon, no clock that two
machines would have to agree on.

The holder touches its file every HEARTBEAT_SECONDS. On the same machine, another process sees whether the holder's
process still lives; on another one, or where that cannot be seen, it watches the file with its own clock, and
takes the run over when the file did not change for TAKE_OVER_SECONDS. A holder that could not touch its file for
EXPIRE_SECONDS, frozen or cut off from its file system, goes on only if it gets the next file itself: where nobody
came, it does, and who comes at that moment finds a fresh file; where a successor came, it stops at its next step.
A lease that is given back has the time stamp 0.

A run with a result has no leases, and the next one, if the run is ever trained again, is number 1. So a holder
knows its file by a random token in it, and stops if the file is gone or another's.

A job that Slurm started again may find the run held by its own former process, on a node that is cut off. It asks
that one to give the run up (the file REQUEST, with the token), and takes the run when it has, or is silent.
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
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.bootstrap import look_again
from caltech_exp.files import boot_seconds, names_in, utc_now, write_atomically
from caltech_exp.machine import host_name, is_alive, machine, start_of
from caltech_exp.records import HostName, JobId, StrictRecord, read_record

HEARTBEAT_SECONDS = 15.0
EXPIRE_SECONDS = 90.0
TAKE_OVER_SECONDS = 180.0
"""Longer than EXPIRE_SECONDS by more than network file systems keep time stamps to themselves (NFS: 60 s)."""
LOOK_SECONDS = 1.0
LOOKS = 60
"""How often a lease is looked for that the file system says exists, and does not show (NFS: up to 60 s)."""
QUICK_LOOKS = 5
QUICK_LOOK_SECONDS = 0.02
REQUEST = "lease.request"

_NAME = re.compile(r"lease\.([0-9]{6}|[1-9][0-9]{6,})\.json")
_NEVER = -1.0


class LeaseLostError(Exception):
    """Another process trains this run now, or may."""


class ReplacedError(LeaseLostError):
    """This process belongs to a job that Slurm has started again: the new process trains its runs."""


class Holder(StrictRecord):
    """The process that took the lease.

    machine  its boot and process name space: processes of the same machine know each other by number
    started  when that process started, in clock ticks since boot; numbers are used again
    token    random, in no other lease; empty in those of older versions
    restarts how often Slurm had started the job again
    """

    job: JobId
    host: HostName
    machine: str
    pid: int
    started: int
    since: str
    token: str = ""
    restarts: int = 0


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
    for look in range(QUICK_LOOKS):
        time.sleep(QUICK_LOOK_SECONDS * look)
        number = _last(folder)
        if number == 0:
            return None
        with contextlib.suppress(FileNotFoundError):  # it went as we looked
            return _sign(folder, number)
    return Sign(number, None, _NEVER, None)


def _sign(folder: Path, number: int) -> Sign:
    """What lease `number` tells. Raises FileNotFoundError if it is gone."""
    path = _path(folder, number)
    status = look_again(path.lstat)
    if not stat.S_ISREG(status.st_mode):  # a link to nowhere, say: nobody's heartbeat
        return Sign(number, None, status.st_mtime, None)
    holder = read_record(path, Holder)
    # After the file was opened: on NFS that brings the time stamp up to date.
    beat = look_again(path.stat).st_mtime
    if not isinstance(holder, Holder):
        return Sign(number, None, beat, None)
    return Sign(number, holder, beat, _lives(holder))


class Lease:
    """A run's lease, held by `job`; give it back with `release`.

    attempt   how often the run had been taken when this process took it, this time included
    is_asked  whether the process that Slurm started in this one's place has asked for the run
    """

    def __init__(self, folder: Path, number: int, job: str, token: str, renewed: float) -> None:
        self.folder = folder
        self.attempt = number
        self.number = number
        self.is_asked = False
        self._job = job
        self._token = token
        self._renewed = renewed
        self._superseded = False
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        with contextlib.suppress(RuntimeError):  # too many processes on this node: then only `check` renews it
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

    def confirm(self) -> None:
        """As `check`, after a look into the run's folder: before anything is written that others read."""
        with contextlib.suppress(OSError):  # as long as the lease is not overdue, nobody else takes the run
            self._renew()
        self.check()

    def release(self) -> None:
        """Give the run back."""
        self._ended.set()
        if self._thread.ident:
            self._thread.join()
        if not self._superseded:
            with contextlib.suppress(OSError):
                if self._is_own(self.number):
                    os.utime(_path(self.folder, self.number), (0, 0))  # needs no space on a full disk

    def _overdue(self) -> bool:
        return boot_seconds() - self._renewed > EXPIRE_SECONDS

    def _beat(self) -> None:
        # Who was asked for the run falls silent: should it not come to its next step, it is as one that is frozen.
        while not (self._ended.wait(HEARTBEAT_SECONDS) or self._superseded or self.is_asked):
            with contextlib.suppress(OSError):
                self._renew()

    def _renew(self) -> None:
        """Show a sign of life, or learn that the run is another's, or asked for. Raises OSError."""
        with self._renewing:  # the heartbeat and `check` may come at once
            if self._superseded:
                return
            before = boot_seconds()
            if self._overdue():
                self._superseded = not self._take_next()
            elif not self._is_own(self.number) or _last(self.folder) > self.number:
                self._superseded = True
            elif self.is_asked or _read(self.folder / REQUEST) == self._token.encode():
                self.is_asked = True
                return
            else:
                os.utime(_path(self.folder, self.number))
            if not self._superseded:
                self._renewed = before

    def _take_next(self) -> bool:
        """Whether nobody had taken the run, which has the next lease now. Raises OSError."""
        if not self._is_own(self.number):  # a successor finished the run and removed its leases
            return False
        if not _create(self.folder, self.number + 1, self._job, self._token) and not self._is_own(self.number + 1):
            return False
        if not self._is_own(self.number):
            _path(self.folder, self.number + 1).unlink(missing_ok=True)
            return False
        self.number += 1
        seconds = boot_seconds() - self._renewed
        print(
            f"run {self.folder.name}: {seconds:.0f} s without a sign of life; nobody took it, it goes on",
            flush=True,
        )
        return True

    def _is_own(self, number: int) -> bool:
        """Whether lease `number` is there and of this process. Raises OSError if that cannot be read."""
        content = _read(_path(self.folder, number))
        return content is not None and self._token.encode() in content


def take(folder: Path, job: str, *, waiting: bool = True) -> Lease | None:
    """Take the run in `folder` for `job`, or None if another process trains it.

    Returns at once unless the last holder was on another machine and neither gave the run back nor shows a sign of
    life: it has TAKE_OVER_SECONDS to do so. Without `waiting`, that is None. A former process of the same job is
    asked to give the run up, and waited for. Raises OSError if the folder cannot be written, ReplacedError if
    the run's holder was started by Slurm in this process's place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    watched: Sign | None = None
    since = 0.0
    looks = 0
    while True:
        sign = read_sign(folder)
        number = sign.number if sign else 0
        if sign and sign.beat != 0 and sign.alive is not False:
            former = _is_former(sign.holder, job)
            if not waiting or (sign.alive and not former):
                return None
            beats = watched is not None and _differ(watched, sign)
            if beats and not former:
                return None
            if former and (beats or sign.alive):
                _ask(folder, sign)
            if watched is None or beats:
                watched, since = sign, boot_seconds()
            if boot_seconds() - since < TAKE_OVER_SECONDS:
                time.sleep(LOOK_SECONDS)
                continue
        token, before = secrets.token_hex(16), boot_seconds()
        if _create(folder, number + 1, job, token):
            with contextlib.suppress(OSError):
                (folder / REQUEST).unlink(missing_ok=True)
            return Lease(folder, number + 1, job, token, before)
        looks += 1
        if looks > LOOKS:
            reason = "a lease exists there that the file system does not list"
            raise OSError(errno.ESTALE, reason, str(_path(folder, number + 1)))
        time.sleep(LOOK_SECONDS if looks > 1 else 0)


@contextlib.contextmanager
def held(lease: Lease) -> Iterator[Lease]:
    """Give the lease back when the block ends, however it ends."""
    try:
        yield lease
    finally:
        lease.release()


def lease_files(folder: Path) -> list[Path]:
    """The leases of the run in `folder`, the first one first."""
    found = {int(match[1]): folder / match[0] for match in map(_NAME.fullmatch, names_in(folder)) if match}
    return [found[number] for number in sorted(found)]


def _path(folder: Path, number: int) -> Path:
    return folder / f"lease.{number:06}.json"


def _last(folder: Path) -> int:
    """The number of the last lease, 0 if there is none."""
    try:
        names = names_in(folder)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(match[1]) for match in map(_NAME.fullmatch, names) if match), default=0)


def _read(path: Path) -> bytes | None:
    """The content of a file, None if there is none. Raises OSError."""
    try:
        return look_again(path.read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _create(folder: Path, number: int, job: str, token: str) -> bool:
    """Whether this process, and no other, made lease `number`. Raises OSError for a full disk and the like."""
    holder = Holder(
        job=job,
        host=host_name(),
        machine=machine(),
        pid=os.getpid(),
        started=start_of(os.getpid()) or 0,
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
            file.write(holder.model_dump_json(indent=1).encode() + b"\n")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _lives(holder: Holder) -> bool | None:
    """Whether the holder's process lives; None if it is not of this machine, or that cannot be known."""
    if not holder.machine or (holder.machine, holder.host) != (machine(), host_name()):
        return None
    return is_alive(holder.pid, holder.started)


def _differ(before: Sign, now: Sign) -> bool:
    """Whether the run was taken, or its holder showed a sign of life."""
    return (before.number, before.beat, before.holder) != (now.number, now.beat, now.holder)


def _restarts() -> int:
    """How often Slurm has started this job again."""
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return int(count) if re.fullmatch("[0-9]{1,9}", count) else 0


def _is_former(holder: Holder | None, job: str) -> bool:
    """Whether the holder is a process of this job from before Slurm started it again.

    Raises ReplacedError if it is this process that is from before.
    """
    if holder is None or holder.job != job:
        return False
    if holder.restarts > _restarts():
        raise ReplacedError(f"Slurm has started job {job} again, on {holder.host}, which trains its runs")
    return holder.restarts < _restarts()


def _ask(folder: Path, sign: Sign) -> None:
    """Ask the holder of the last lease for the run, unless that has been done."""
    if sign.holder is None or not sign.holder.token:
        return
    with contextlib.suppress(OSError):  # the next look tries again
        if _read(folder / REQUEST) != sign.holder.token.encode():
            write_atomically(folder / REQUEST, sign.holder.token)
            print(
                f"run {folder.name}: the former process of this job still trains it on {sign.holder.host}; "
                "asked it to stop, and waiting until it has",
                flush=True,
            )
