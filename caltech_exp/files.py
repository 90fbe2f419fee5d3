"""Atomic writes, paths from the user, locks, permissions, clocks, and cache files.

What network file systems do differently is handled here.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import signal
import stat
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, NamedTuple, TypeVar

from caltech_exp.bootstrap import BY_OTHERS, UntrustedError, check_own_folder, look_again
from caltech_exp.cli import UserError

MOST_BYTES = 64 * 2**20
"""Larger than any record: the manifest of 12,000 runs has 1 MB."""
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = 0o666, flush: bool = True) -> Iterator[BinaryIO]:
    """A file to write that replaces `path` in one step when the block ends.

    Until then it is `.<name>.<random>` in the same folder. If the block fails, it is removed and the old file
    stays. Without `flush`, a crash of the machine may leave a truncated file. What fails after the file is in its
    place is no error.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # tempfile would need a chmod afterwards, which some file systems refuse.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if flush:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the file system is gone; the first error says so
            temporary.unlink()
        raise
    if flush:
        with contextlib.suppress(OSError):
            flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk. Raises OSError, also where its file system cannot do so."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def names_in(folder: Path) -> list[str]:
    """The names in a folder; tried again on a stale handle (ESTALE)."""
    return look_again(lambda: os.listdir(folder))  # noqa: PTH208 (names, and all of them at once)


def remove(path: Path) -> None:
    """Remove a file if it exists; tried again on a stale handle (ESTALE). A folder stays."""
    with contextlib.suppress(IsADirectoryError):
        look_again(lambda: path.unlink(missing_ok=True))


def has_exclusive_creation(folder: Path) -> bool:
    """Whether the file system of `folder` refuses to create a file twice, on which the leases of runs rest."""
    probe = folder / f".exclusive.{secrets.token_hex(8)}"
    create = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(probe, create, 0o644))
    try:
        os.close(os.open(probe, create, 0o644))
    except FileExistsError:
        return True
    finally:
        probe.unlink(missing_ok=True)
    return False


class RefusedFileError(OSError):
    """A file that is not read: a pipe, a device, or one larger than any of its kind."""


def open_file(path: str | Path) -> BufferedReader:
    """Open a file to read. Raises OSError, for a pipe or a device at once (RefusedFileError)."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise RefusedFileError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def read_file(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file of at most `most` bytes; tried again on a stale handle. Raises OSError."""

    def read() -> bytes:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise RefusedFileError(errno.EFBIG, f"it has {size:,} bytes, more than {most:,}", str(path))
            return file.read()

    return look_again(read)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` (text as UTF-8) in one step."""
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def file_system_time(folder: Path) -> float:
    """The time by the clock of `folder`'s file system, which stamps files; this machine's if it is read-only."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def user_path(text: str, key: str, folder: Path | None = None) -> Path:
    """The absolute path of `key=text`, relative to `folder` (default: the current one), with `~` expanded.

    Raises UserError for a path that no file can have: an unknown user's home, a name that is too long, a folder on
    the way that may not be read.
    """
    try:
        path = (Path(folder or "") / Path(text).expanduser()).absolute()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            look_again(path.stat)
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: a null byte or invalid UTF-8
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise UserError(f"{key}={text}: {reason}; name another path") from None
    return path


def folder_path(text: str, key: str) -> Path:
    """`user_path` of a folder that may be made; a link to nowhere on the way to it is a UserError."""
    path = user_path(text, key)
    try:
        _check_links(path)
    except FileExistsError as error:
        raise UserError(f"{key}={text}: {error.strerror}; make that folder or name another one") from None
    return path


def _check_links(path: Path) -> None:
    """Raises FileExistsError if the path, or one of its parents, is a link to nowhere."""
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            reason = f"{place} is a link to {place.readlink()}, which does not exist"
            raise FileExistsError(errno.EEXIST, reason, str(place))


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Raises OSError."""
    _check_links(folder)
    folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def folder_if_it_succeeds(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents for the block; if it fails, those that are new and empty are removed."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        yield
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock file `path`; `waiting` is printed if another process holds it.

    Without locks in the file system, two processes may do the same work twice. (The library filelock refuses such
    file systems, and another user's lock file in a shared folder with the sticky bit.)
    """
    while True:
        make_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # a group may share the folder
        try:
            lock_or_wait(handle, waiting)
            if _is_open_file(handle, path):
                yield
                return
        finally:
            os.close(handle)


def _is_open_file(handle: int, path: Path) -> bool:
    """False if the last holder of the lock removed the file, so that a lock on it guards nothing."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def lock_or_wait(handle: int, waiting: str = "") -> None:
    """Lock an open file until it is closed; see `locked`."""
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


@contextlib.contextmanager
def closed_to_others() -> Iterator[None]:
    """Files made in the block are writable by their owner only, whatever the umask; for files to be executed."""
    before = umask()
    os.umask(before | BY_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make_own_folder(folder: Path) -> None:
    """Make a folder, or change an existing one, so that only its owner may write; its parents follow the umask.

    Raises UserError if the file system ignores permissions or the folder belongs to another user.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with closed_to_others(), contextlib.suppress(FileExistsError):
        folder.mkdir()
    with contextlib.suppress(OSError):  # checked below
        close_to_others(folder)
    try:
        check_own_folder(folder)
    except UntrustedError as error:
        raise UserError(f"{error.problem}; use another runs= folder") from None


def close_to_others(path: Path) -> None:
    """Take write permission from everybody but the owner; a link stays as it is."""
    mode = path.lstat().st_mode  # a default ACL may grant more than the umask
    if mode & BY_OTHERS and not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(mode) & ~BY_OTHERS)


def umask() -> int:
    """The process's mask of permissions. Linux tells it; elsewhere it is closed for a moment, but never open."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.removeprefix("Umask:"), 8)
    current = os.umask(0o077)
    os.umask(current)
    return current


_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)  # None on macOS


def utc_now() -> str:
    """`2026-01-31T12:00:00Z`"""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local_time(when: str | datetime) -> str:
    """`2026-01-31 13:00 CET`, by this machine's clock; a text that is no time stays as it is."""
    try:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
        return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"
    except (ValueError, OverflowError, OSError):
        return str(when)


def boot_seconds() -> float:
    """Seconds by a clock that is never set; unlike `time.monotonic` it runs while the machine is suspended."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


Item = TypeVar("Item")
Answer = TypeVar("Answer")

MANY = 500  # starting processes takes a second
MAX_WORKERS = 8
HELPERS = 8  # threads and processes that a pool of processes has besides its workers, with a few to spare
AHEAD = 64  # answers that wait for their turn; bounds the memory that they take


def usable_cores() -> int:
    """The cores that this process may use; those of the machine where that is unknown (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool_processes() -> int:
    """How many processes a pool shall have: one per core up to 8, or as many as the system starts."""
    most = min(usable_cores(), MAX_WORKERS) + HELPERS
    with _Threads(most) as pool:  # a thread counts as a process does, and costs nothing
        over = threading.Event()
        for _ in range(most):
            pool.submit(over.wait)
        over.set()
        return max(0, len(pool.threads) - HELPERS)


class _Threads(ThreadPoolExecutor):
    """Threads, fewer than asked for where the system starts no more; perhaps none."""

    def _adjust_thread_count(self) -> None:
        with contextlib.suppress(RuntimeError):
            super()._adjust_thread_count()

    @property
    def threads(self) -> set[threading.Thread]:
        return self._threads  # type: ignore[return-value]


def in_threads(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """`function` of each item, in order, by several threads, or by this one where the system starts no other."""
    answers: deque[Future[Answer]] = deque()
    with _Threads(min(usable_cores(), MAX_WORKERS)) as pool:
        pool.submit(int)
        if not pool.threads:
            yield from map(function, items)
            return
        try:
            for item in items:
                answers.append(pool.submit(function, item))
                if len(answers) > AHEAD:
                    yield answers.popleft().result()
            while answers:
                yield answers.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def in_processes(function: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """`function` of each item, in order, by several processes if there are many; all are pickled."""
    processes = pool_processes() if len(items) >= MANY else 0
    if processes < 2:
        return list(map(function, items))
    # A terminal sends Ctrl-C to these processes too; only this one reports it.
    with ProcessPoolExecutor(
        processes, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        return list(pool.map(function, items, chunksize=100))


class Stamp(NamedTuple):
    """What identifies a version of a file: size in bytes, time of last change in nanoseconds, inode."""

    size: int
    mtime: int
    inode: int


def stamp(path: str | Path) -> Stamp | None:
    """The file's stamp; None if it cannot be read."""
    try:
        status = look_again(lambda: os.stat(path))  # noqa: PTH116 (a Path each would slow down 12,000 runs)
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def load_content(path: Path, readers: Iterable[ModuleType]) -> bytes | None:
    """What `save_content` wrote; None if it is missing or damaged, or the modules `readers` have changed since."""
    try:
        with open_file(path) as file:
            head, content = file.readline().decode(errors="replace").split(), file.read()
    except OSError:
        return None
    return content if head == _head(content, readers).split() else None


def save_content(path: Path, content: bytes | memoryview, readers: Iterable[ModuleType]) -> None:
    """Write a cache file for `load_content`: a line with digests of the content and the reading code, the content.

    It is not flushed: what a crash leaves of it has a wrong digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, flush=False) as file:
        file.write(f"{_head(content, readers)}\n".encode())
        file.write(content)


def _head(content: bytes | memoryview, readers: Iterable[ModuleType]) -> str:
    """`caltech_exp-results <digest of the code> <digest of the content>`"""
    code = hashlib.blake2b(digest_size=16)
    for path in (*(module.__file__ for module in readers), __file__):
        code.update(Path(path or "").read_bytes())
    return f"caltech_exp-results {code.hexdigest()} {hashlib.blake2b(content, digest_size=16).hexdigest()}"
