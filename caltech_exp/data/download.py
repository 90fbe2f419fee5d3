"""Download files whose hash is known: resume, retry, verify; and where each is published.

A server that does not know ranges, or whose file has changed, sends all of it; then the beginning is thrown away.

Until then `<name>.part` holds what came over the network, and the next command goes on from it.
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, InvalidURL
from io import FileIO
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from caltech_exp.cli import UserError, shown
from caltech_exp.files import folder_if_it_succeeds, lock_or_wait, new_file, user_path, write_atomically
from caltech_exp.records import StrictRecord, read_record

_HEX_DIGITS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True)
class Digest:
    """A hash in hexadecimal digits; of a file whose whole hash is not known, the first digits."""

    algorithm: Literal["sha256", "md5"]
    digits: str

    def fits(self, found: "Digest") -> bool:
        """Whether a file of the hash `found` is the one meant."""
        return found.algorithm == self.algorithm and found.digits.startswith(self.digits)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"


def file_digest(path: Path, algorithm: Literal["sha256", "md5"]) -> Digest:
    """The whole hash of a file. Raises OSError."""
    with path.open("rb") as file:
        # Clusters in FIPS mode have MD5 only for what is not about security.
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return Digest(algorithm, found.hexdigest())


def parse_digest(text: str, key: str) -> Digest:
    """`sha256:<64 hex digits>` or `md5:<32>`, given as `key=text`. Raises UserError for anything else."""
    match = re.fullmatch(r"(sha256|md5):([0-9a-f]+)", text.strip().lower())
    if match and len(match[2]) == _HEX_DIGITS[match[1]]:
        return Digest("sha256" if match[1] == "sha256" else "md5", match[2])
    raise UserError(
        f"{key}={shown(text)}: give sha256: and 64 hexadecimal digits, as sha256sum prints, or md5: and 32"
    )


TIMEOUT_SECONDS = 30.0
"""Silence after which a connection counts as broken off."""
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be another the next time."""
LONGEST_WAIT_SECONDS = 60.0
"""The most that a server's Retry-After is heeded."""
BLOCK = 2**18


class FetchError(Exception):
    """Why a file cannot be had from a server; trying again will not help."""


class BrokenOffError(FetchError):
    """An attempt that ended early: the next one goes on from what came, at the earliest after `wait` seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class UnreachableError(BrokenOffError):
    """No connection at all."""


class Beginning(StrictRecord):
    """Which file a part is the beginning of, as the server told it with the first byte.

    validator  what If-Range takes: a strong ETag, else the time of last change, else nothing
    size       of the whole file in bytes, where the server told it
    """

    url: str
    validator: str
    size: int | None


def attempt(url: str, part: FileIO, record: Path) -> int:
    """Bring `part` up to the whole file of `url`; returns how many bytes it went on from.

    `record` is where the file's Beginning is kept. Raises FetchError, or OSError if the disk takes no more.
    """
    there = part.seek(0, os.SEEK_END)
    known = read_record(record, Beginning)
    if not isinstance(known, Beginning) or known.url != url or (known.size or there) < there:
        there, known = 0, None
    if known and there and there == known.size:
        return there
    response = _open(url, there, known.validator if known else "")
    if known and response.status == 206 and not _goes_on(response, there, known.size):
        response.close()
        response = _open(url, 0, "")
    with response:
        if known is None or response.status == 200:
            there = 0
            known = Beginning(url=url, validator=_validator(response), size=response.length)
            part.truncate(0)
            write_atomically(record, known.model_dump_json())
        part.seek(there)
        _append(response, part, known.size)
    return there


def _open(url: str, there: int, validator: str) -> HTTPResponse:
    """The answer to a request for what follows the first `there` bytes, if they are still the same file's."""
    headers = {"User-Agent": "caltech_exp", "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
        if validator:
            headers["If-Range"] = validator
    try:
        # urlopen would keep to the proxies of its first call.
        response: HTTPResponse = urllib.request.build_opener().open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and there:
            return _open(url, 0, "")
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in TRANSIENT:
            raise BrokenOffError(answer, _retry_after(error.headers.get("Retry-After"))) from None
        raise FetchError(answer) from None
    except (InvalidURL, ValueError) as error:
        raise FetchError(f"not a URL: {error}") from None
    except urllib.error.URLError as error:
        raise UnreachableError(_reason(error.reason)) from None
    except (OSError, HTTPException) as error:
        raise BrokenOffError(_reason(error)) from None
    if response.status not in ((200, 206) if there else (200,)):
        response.close()
        raise FetchError(f"the server answers {response.status} {response.reason}")
    return response


def _goes_on(response: HTTPResponse, there: int, size: int | None) -> bool:
    """Whether a part is what follows the first `there` bytes of a file of that size."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return bool(found and int(found[1]) == there and (size is None or found[2] in ("*", str(size))))


def _append(response: HTTPResponse, part: FileIO, size: int | None) -> None:
    # Imported where it is used: planning needs no progress bar.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=size, completed=part.tell())
        while True:
            try:
                block = response.read1(BLOCK)
            except (OSError, HTTPException) as error:
                raise BrokenOffError(f"it broke off after {part.tell():,} bytes ({_reason(error)})") from None
            if not block:
                break
            bar.update(task, advance=len(block))
            rest = memoryview(block)
            while rest:  # a disk that is nearly full takes a part
                rest = rest[part.write(rest) :]
    if size is not None and part.tell() < size:
        raise BrokenOffError(f"it broke off after {part.tell():,} of {size:,} bytes")


def _validator(response: HTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _retry_after(value: str | None) -> float:
    return min(float(value), LONGEST_WAIT_SECONDS) if value and re.fullmatch(r"\d{1,9}", value) else 0.0


def _reason(error: object) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


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


def file_in(folder: Origin, name: str) -> Origin:
    """The file `name` in a folder, or below a URL."""
    return folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name}"


def fetch(origin: Origin, target: Path, expected: Sequence[Digest], advice: str) -> None:
    """Have the file of `origin` as `target`, if it has one of the hashes `expected`.

    Raises UserError that says why not and ends with `advice`, what the user may do instead.
    """
    if isinstance(origin, Path):
        _copy(origin, target, expected, advice)
    else:
        download(origin, target, expected, advice)


def download(url: str, target: Path, expected: Sequence[Digest], advice: str) -> None:
    """Download `url`, going on from an earlier break; see `fetch`.

    A process that fetches the same file is waited for.
    """
    start = time.perf_counter()
    try:
        with folder_if_it_succeeds(target.parent), _own_part(target) as part:
            if part is None:
                check_hash(target, expected, advice)
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


def check_hash(path: Path, expected: Sequence[Digest], advice: str) -> None:
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
    check_hash(origin, expected, advice)
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


@dataclass(frozen=True)
class Source:
    """A file of somebody else's: its name, where it is published, its size in bytes and its hash.

    The size is what to expect on the disk and on the network; only the hash decides.
    """

    name: str
    url: str
    size: int
    digest: Digest


ARCHIVE = Source(
    "caltech-101.zip",
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    137_400_000,
    Digest("md5", "3138e1922a9193bfa496528edbbc45d0"),
)
"""Caltech-101 as CaltechDATA publishes it (record mzrjq-6wc02, doi 10.22002/D1.20086).

URL and MD5 are also those of torchvision.datasets.Caltech101, which a test compares; the record gives the size to
0.1 MB. It holds INNER_ARCHIVE and the annotations.
"""

INNER_ARCHIVE = Source(
    "101_ObjectCategories.tar.gz",
    ARCHIVE.url,
    131_740_031,
    Digest("md5", "b224c7392d521a49829488ab0f1120d9"),
)
"""The images alone, as the data set was published before 2022.

MD5 from the torchvision of that time; size as fastai's list of data sets gives it.
"""

_COURSE = "https://raw.githubusercontent.com/MachineLearning2020/Homework2-Caltech101"
_COURSE_COMMIT = "cb7946ed907cfc19c9b1daf5bb2a0aefcbd8abb3"

SPLITS = (
    Source(
        "train.txt",
        f"{_COURSE}/{_COURSE_COMMIT}/train.txt",
        148_985,
        Digest("sha256", "897b435d740faa7ae7595816d00c6cb1621120e0e15759658ea716234519cf09"),
    ),
    Source(
        "test.txt",
        f"{_COURSE}/{_COURSE_COMMIT}/test.txt",
        74_524,
        Digest("sha256", "16b3dc245b7ac34c87cca678f81bf24126aa5a67c2ab0045899f8a6282949cb1"),
    ),
)
"""The course's split files, from its public repository at a fixed commit; hashes of the files the report used."""

IMAGENET = {
    "alexnet": Source(
        "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        244_408_911,
        Digest("sha256", "7be5be79"),
    ),
    "resnet18": Source(
        "resnet18-f37072fd.pth",
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        46_830_571,
        Digest("sha256", "f37072fd"),
    ),
}
"""torchvision's IMAGENET1K_V1 weights by network.

URLs as in its enums, which a test compares; the hash is the part of the SHA-256 that the name ends in, all that
torchvision gives.
"""
