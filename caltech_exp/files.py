"""Files that are whole or not there, paths that a user names, locks, and one clock.

Network and other file systems differ in what they can do; what differs is dealt with here.

A line with a digest of all that follows, then the content. The file counts only if its digest is right and the
code that reads it is the code that wrote it. Otherwise it is as if there were none.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, NamedTuple, TypeVar

from caltech_exp.bootstrap import BY_OTHERS, UntrustedError, check_own_folder, look_again
from caltech_exp.cli import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What file systems without locks answer."""
NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EPERM, errno.EACCES, errno.ENOSYS)
"""What file systems answer that cannot flush a folder."""


@contextlib.contextmanager
def new_file(path: Path, *, mode: int = 0o666, flush: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` in one step when the block ends; a reader never sees a part.

    Until then it is `.<name>.<random>` in the same folder. If the block fails (OSError: disk full, no permission)
    it is removed, and what was there stays. Without `flush` a machine that crashes may leave less than the whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # Not tempfile's: its permissions would have to be changed, which some file systems refuse.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if flush:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the file system is away; the first error says so
            temporary.unlink()
        raise
    if flush:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Have the names in `folder` on disk, where its file system can do that. Raises OSError for a broken disk."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise


def names_in(folder: Path) -> list[str]:
    """The names in a folder, looked up again where NFS says ESTALE. Raises OSError."""
    return look_again(lambda: os.listdir(folder))  # noqa: PTH208 (names, and all of them at once)


def remove(path: Path) -> None:
    """Remove a file if it is there, looked up again where NFS says ESTALE. Raises OSError."""
    look_again(lambda: path.unlink(missing_ok=True))


def has_exclusive_creation(folder: Path) -> bool:
    """Whether the file system of `folder` creates no file that is there already. Raises OSError.

    All that keeps two processes from training one run rests on it.
    """
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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` (text as UTF-8) in one step, as `new_file` does. Raises OSError."""
    with new_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def file_system_time(folder: Path) -> float:
    """Now, in seconds, as the file system of `folder` stamps files: a server's clock may be another than ours.

    This machine's clock where nothing can be written.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def user_path(text: str, key: str, folder: Path | None = None) -> Path:
    """A path given as `key=text`: absolute, with `~` expanded; a relative one starts from `folder`, if given.

    Raises UserError for one that no file could have: an unknown user's home, too long a name, a folder on the
    way that may not be read.
    """
    try:
        path = (Path(folder or "") / Path(text).expanduser()).absolute()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            look_again(path.stat)
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: a null byte, or no text in UTF-8
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise UserError(f"{key}={text}: {reason}; name another path") from None
    return path


@contextlib.contextmanager
def folder_if_it_succeeds(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents for the block; if that fails, those that were new and are empty go again.

    Raises OSError if it cannot be made.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock file `path`; `waiting` is printed if another process holds it. Raises OSError.

    On a file system without locks two processes may do the same work twice. (The library filelock refuses such
    file systems, and another user's lock file in a shared folder with the sticky bit.)
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # a group may share the folder
        try:
            lock_or_wait(handle, waiting)
            if _is_open_file(handle, path):
                yield
                return
        finally:
            os.close(handle)


def _is_open_file(handle: int, path: Path) -> bool:
    """False if the last holder of the lock removed the file: then the lock on it guards nothing."""
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
    """Only its owner may write what is made in the block, whatever the umask; for what will be executed."""
    before = os.umask(BY_OTHERS)  # not 0, not even for a moment
    os.umask(before | BY_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make_own_folder(folder: Path) -> None:
    """Make a folder that its owner alone may write, or see to it that this one is; its parents follow the umask.

    Raises OSError, and UserError where the file system does not keep it closed, or it is another user's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with closed_to_others(), contextlib.suppress(FileExistsError):
        folder.mkdir()
    with contextlib.suppress(OSError):  # looked at below
        close_to_others(folder)
    try:
        check_own_folder(folder)
    except UntrustedError as error:
        raise UserError(f"{error.what}; use another runs= folder") from None


def close_to_others(path: Path) -> None:
    """Take the permission to write from everybody but the owner; of a link nothing is changed. Raises OSError."""
    mode = path.lstat().st_mode  # a default ACL may have given more than the umask does
    if mode & BY_OTHERS and not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(mode) & ~BY_OTHERS)


def umask() -> int:
    """The process's mask of permissions."""
    current = os.umask(0)
    os.umask(current)
    return current


_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""Linux; macOS has none."""


def utc_now() -> str:
    """`2026-01-31T12:00:00Z`"""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def boot_seconds() -> float:
    """Seconds since some moment, by a clock that nobody sets and that also counts while the machine is suspended.

    `time.monotonic` stands still in suspend. It is the answer only where the system has no other clock.
    """
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


Item = TypeVar("Item")
Answer = TypeVar("Answer")

MANY = 500
"""So many files are read by several processes: starting them takes a second."""


def in_processes(function: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """`function` of each item, in their order; it and they are pickled."""
    processes = min(os.cpu_count() or 1, 8)
    if len(items) < MANY or processes < 2:
        return list(map(function, items))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(function, items, chunksize=100))


class Stamp(NamedTuple):
    """By what a file is known again: size in bytes, time of its last change in nanoseconds, inode."""

    size: int
    mtime: int
    inode: int


def stamp(path: str | Path) -> Stamp | None:
    """The file's stamp, None if there is no such file or it cannot be looked at."""
    try:
        found = look_again(lambda: os.stat(path))  # noqa: PTH116 (12,000 runs notice a Path for each)
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def load_content(path: Path, readers: Iterable[ModuleType]) -> bytes | None:
    """What `save_content` wrote; None if it is not there, damaged, or written where `readers` were other code."""
    try:
        with path.open("rb") as file:
            head, content = file.readline().decode(errors="replace").split(), file.read()
    except OSError:
        return None
    return content if head == _head(content, readers).split() else None


def save_content(path: Path, content: bytes | memoryview, readers: Iterable[ModuleType]) -> None:
    """Write `content` for the next `load_content`. Raises OSError.

    In one step, but without waiting for the disk: what a crash leaves of it has a wrong digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, flush=False) as file:
        file.write(f"{_head(content, readers)}\n".encode())
        file.write(content)


def _head(content: bytes | memoryview, readers: Iterable[ModuleType]) -> str:
    """Names the reading code and the content: `caltech_exp-results <hex> <hex>`."""
    code = hashlib.blake2b(digest_size=16)
    for path in (*(module.__file__ for module in readers), __file__):
        code.update(Path(path or "").read_bytes())
    return f"caltech_exp-results {code.hexdigest()} {hashlib.blake2b(content, digest_size=16).hexdigest()}"
