"""Files from elsewhere, by URL or path: there only if they are whole and of the right hash.

Until then `<name>.part` holds what came over the network, and the next command goes on from it.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from urllib.parse import quote

from caltech_exp.digests import Digest, file_digest
from caltech_exp.errors import UserError, shown
from caltech_exp.files import folder_if_it_succeeds, lock_or_wait, new_file, user_path
from caltech_exp.transfer import BrokenOffError, FetchError, UnreachableError, attempt

Origin = Path | str
"""Where a file is taken from: a path on this machine, or a URL."""

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt; counted anew whenever more of the file came than ever before."""


def read_origin(text: str, key: str) -> Origin:
    """A path or a URL given as `key=text`. Raises UserError for a path that cannot be, or for other URLs."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return user_path(text, key)
    if scheme.lower() not in ("http", "https"):
        raise UserError(f"{key}={shown(text)}: {shown(scheme)}:// is not known; give http://, https:// or a path")
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~")


def inside(folder: Origin, name: str) -> Origin:
    """The file `name` in a folder, or below a URL."""
    return folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name}"


def bring(origin: Origin, target: Path, expected: Sequence[Digest], advice: str) -> None:
    """Have the file of `origin` as `target`, if it has one of the hashes `expected`.

    Raises UserError that says why not and ends with `advice`, what the user may do instead.
    """
    if isinstance(origin, Path):
        _copy(origin, target, expected, advice)
    else:
        fetch(origin, target, expected, advice)


def fetch(url: str, target: Path, expected: Sequence[Digest], advice: str) -> None:
    """Download `url`, going on from an earlier break; see `bring`.

    A process that fetches the same file is waited for.
    """
    start = time.perf_counter()
    try:
        with folder_if_it_succeeds(target.parent), _own_part(target) as part:
            if part is None:
                check(target, expected, advice)
                return
            print(f"fetching {url}", flush=True)
            _bring_whole(url, part, target, expected)
            os.fsync(part.fileno())
            _part(target).replace(target)
    except FetchError as error:
        kept = _size(_part(target))
        rest = f"{kept:,} bytes are kept, and the same command goes on from there" if kept else advice
        raise UserError(f"{target.name} cannot be fetched from {url}: {error}; {rest}") from None
    except OSError as error:
        raise _unwritable(target, error) from None
    size, seconds = target.stat().st_size, time.perf_counter() - start
    print(f"fetched {target}: {size / 1e6:,.1f} MB, {seconds:.1f} s", flush=True)


def check(path: Path, expected: Sequence[Digest], advice: str) -> None:
    """Raises UserError, which ends with `advice`, if the file cannot be read or has none of the hashes."""
    try:
        found = file_digest(path, expected[0].algorithm)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {advice}") from None
    if not any(digest.fits(found) for digest in expected):
        raise UserError(f"{path} is {_another(found, expected)}; {advice}")


def _bring_whole(url: str, part: FileIO, target: Path, expected: Sequence[Digest]) -> None:
    """Bring the part up to the whole file. Raises FetchError, with nothing kept of a wrong file."""
    for is_last in (False, True):
        resumed = _attempts(url, part, target)
        found = file_digest(_part(target), expected[0].algorithm)
        if any(digest.fits(found) for digest in expected):
            return
        size = part.seek(0, os.SEEK_END)
        part.truncate(0)
        if is_last or not resumed:
            break
        print(f"{target.name}: what was there of it is of another file; fetching all of it", flush=True)
    raise FetchError(f"{size:,} bytes came that are {_another(found, expected)}, and were removed")


def _attempts(url: str, part: FileIO, target: Path) -> bool:
    """As many attempts as bring something; whether the last one went on from a beginning. Raises FetchError."""
    furthest, pauses, reached = _size(_part(target)), iter(PAUSES), False
    while True:
        try:
            return attempt(url, part, _record(target)) > 0
        except BrokenOffError as error:
            reached = reached or not isinstance(error, UnreachableError)
            size = _size(_part(target))
            if size > furthest:
                furthest, pauses = size, iter(PAUSES)
            pause = next(pauses, None)
            if pause is None or not reached:
                raise
            pause = max(pause, error.wait)
            print(f"{target.name}: {error}; trying again in {pause:g} s", flush=True)
            time.sleep(pause)


@contextlib.contextmanager
def _own_part(target: Path) -> Iterator[FileIO | None]:
    """The part of `target`, which no other process writes meanwhile; None if one has just made `target`.

    An empty part goes again.
    """
    path = _part(target)
    while True:
        part = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        lock_or_wait(part.fileno(), f"{target.name}: another process is fetching it; waiting")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(part.fileno()), path.stat()):
                break
        part.close()  # whoever held it has renamed or removed it
    with part:
        try:
            yield None if target.exists() else part
        finally:
            if not os.fstat(part.fileno()).st_size:
                path.unlink(missing_ok=True)
            if not path.exists():
                _record(target).unlink(missing_ok=True)


def _copy(origin: Path, target: Path, expected: Sequence[Digest], advice: str) -> None:
    if not origin.is_file():
        raise UserError(f"{target.name}: there is no file {origin}; {advice}")
    check(origin, expected, advice)
    try:
        with folder_if_it_succeeds(target.parent), origin.open("rb") as source, new_file(target) as file:
            shutil.copyfileobj(source, file, 2**22)
    except OSError as error:
        raise _unwritable(target, error) from None
    print(f"copied {origin} to {target}", flush=True)


def _another(found: Digest, expected: Sequence[Digest]) -> str:
    return f"another file: its hash is {found}, not {' or '.join(str(digest) for digest in expected)}"


def _unwritable(target: Path, error: OSError) -> UserError:
    return UserError(
        f"{target} cannot be written ({error.strerror}); make room or name another folder, and give the same "
        "command again"
    )


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
