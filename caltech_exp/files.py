"""Paths a user names, files that are whole or not there, folders that stay only if something came into them.

Network and other file systems differ in what they can do; what differs is dealt with here.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from caltech_exp.bootstrap import BY_OTHERS, UntrustedError, check_own_folder
from caltech_exp.bootstrap import look_again as look_again  # for all who read files
from caltech_exp.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What file systems without locks answer."""
NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EPERM, errno.EACCES, errno.ENOSYS)
"""What file systems answer that cannot flush a folder."""


@contextlib.contextmanager
def new_file(path: Path, *, flush: bool = True) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` in one step when the block ends; a reader never sees a part.

    Until then it is `.<name>.<random>` in the same folder. If the block fails (OSError: disk full, no permission)
    it is removed, and what was there stays. Without `flush` a machine that crashes may leave less than the whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # Not tempfile's: its permissions would have to be changed, which some file systems refuse.
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
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

    On a file system without locks two processes may do the same work twice.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # a group may share the folder
    try:
        lock_or_wait(handle, waiting)
        yield
    finally:
        os.close(handle)


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
