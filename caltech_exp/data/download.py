"""Download files whose hashes are known, and the sources of the files that the suite uses.

Until a download is complete and its hash is right, its bytes are in `<name>.part`; the next command resumes there.
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from caltech_exp.cli import UserError, shown
from caltech_exp.files import folder_if_it_succeeds, lock_or_wait, new_file, open_file, user_path

if TYPE_CHECKING:
    from requests import Response

TIMEOUT_SECONDS = 30.0  # of silence, after which a connection counts as broken
RETRIES = 4  # in a row without a new byte
BACKOFF_SECONDS = 1.0
MAX_RETRY_AFTER_SECONDS = 60.0
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
BLOCK_BYTES = 2**18

_HEX_DIGITS = {"sha256": 64, "md5": 32}

Origin = Path | str
"""Where a file comes from: a path on this machine, or a URL."""


@dataclass(frozen=True)
class Digest:
    """A hash in hexadecimal digits, or its first digits where only those are published."""

    algorithm: Literal["sha256", "md5"]
    digits: str

    def matches(self, digest: "Digest") -> bool:
        """Whether `digest`, a complete one, begins with these digits."""
        return digest.algorithm == self.algorithm and digest.digits.startswith(self.digits)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"


def file_digest(path: Path, algorithm: Literal["sha256", "md5"]) -> Digest:
    """The complete hash of a file. Raises OSError."""
    with open_file(path) as file:
        # Clusters in FIPS mode allow MD5 only for purposes other than security.
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return Digest(algorithm, digest.hexdigest())


def parse_digest(text: str, key: str) -> Digest:
    """The hash `sha256:<64 hex digits>` or `md5:<32 hex digits>`, given as `key=text`."""
    match = re.fullmatch(r"(sha256|md5):([0-9a-f]+)", text.strip().lower())
    if match and len(match[2]) == _HEX_DIGITS[match[1]]:
        return Digest("sha256" if match[1] == "sha256" else "md5", match[2])
    raise UserError(
        f"{key}={shown(text)}: give sha256: and 64 hexadecimal digits, as sha256sum prints, or md5: and 32"
    )


def read_origin(text: str, key: str) -> Origin:
    """The path or URL given as `key=text`."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return user_path(text, key)
    if scheme.lower() not in ("http", "https"):
        raise UserError(
            f"{key}={shown(text)}: {shown(scheme)}:// is not supported; give http://, https:// or a path"
        )
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~")


def file_in(folder: Origin, name: str) -> Origin:
    """The file `name` in a folder, or below a base URL."""
    return folder / name if isinstance(folder, Path) else f"{folder.rstrip('/')}/{name}"


def fetch(origin: Origin, target: Path, expected: Sequence[Digest], advice: str) -> None:
    """Copy or download the file at `origin` to `target`, if its hash is one of `expected`.

    Errors end with `advice`: what the user may do instead.
    """
    if isinstance(origin, Path):
        _copy(origin, target, expected, advice)
    else:
        download(origin, target, expected, advice)


def check_hash(path: Path, expected: Sequence[Digest], advice: str) -> None:
    """Raise UserError, which ends with `advice`, unless the file's hash is one of `expected`."""
    try:
        digest = file_digest(path, expected[0].algorithm)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {advice}") from None
    if not _matches(digest, expected):
        raise UserError(f"{path} is {_another_file(digest, expected)}; {advice}")


def _copy(source: Path, target: Path, expected: Sequence[Digest], advice: str) -> None:
    if not source.is_file():
        raise UserError(f"{target.name}: there is no file {source}; {advice}")
    check_hash(source, expected, advice)
    try:
        with folder_if_it_succeeds(target.parent), source.open("rb") as original, new_file(target) as copy:
            shutil.copyfileobj(original, copy, 2**22)
    except OSError as error:
        raise _write_error(target, error) from None
    print(f"copied {source} to {target}", flush=True)


class DownloadError(Exception):
    """Why a download failed.

    is_transient  whether another attempt may succeed
    wait_seconds  how long the server asks to wait before that
    """

    def __init__(self, reason: str, *, is_transient: bool = False, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.is_transient = is_transient
        self.wait_seconds = wait_seconds


def download(url: str, target: Path, expected: Sequence[Digest], advice: str) -> None:
    """Download `url`, resuming an earlier download of it; see `fetch`.

    If another process downloads the same file, this one waits for it.
    """
    start = time.perf_counter()
    part_path = _part_path(target)
    try:
        with folder_if_it_succeeds(target.parent), _locked_part(target) as part:
            if target.exists():  # another process has downloaded it
                check_hash(target, expected, advice)
                return
            print(f"downloading {url}", flush=True)
            _complete(part, url, target, expected)
            os.fsync(part.fileno())
            part_path.replace(target)
    except DownloadError as error:
        size = part_path.stat().st_size if part_path.exists() else 0
        remedy = f"{size:,} bytes are kept, and the same command resumes the download" if size else advice
        raise UserError(f"{target.name} cannot be downloaded from {url}: {error}; {remedy}") from None
    except OSError as error:
        raise _write_error(target, error) from None
    size, seconds = target.stat().st_size, time.perf_counter() - start
    print(f"downloaded {target}: {size / 1e6:,.1f} MB, {seconds:.1f} s", flush=True)


@contextlib.contextmanager
def _locked_part(target: Path) -> Iterator[FileIO]:
    """The part file of `target`, opened and locked; it is removed in the end if it is empty."""
    path = _part_path(target)
    while True:
        part = FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        lock_or_wait(part.fileno(), f"{target.name}: another process is downloading it; waiting")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(part.fileno()), path.stat()):
                break
        part.close()  # the process that held the lock has renamed or removed the file
    with part:
        try:
            yield part
        finally:
            if not _size(part):
                path.unlink(missing_ok=True)
            target.with_name(f"{target.name}.part.json").unlink(missing_ok=True)  # of version 0.1


def _complete(part: FileIO, url: str, target: Path, expected: Sequence[Digest]) -> None:
    """Download what the part lacks, or everything if it is a part of another file. Remove a wrong file."""
    is_resumed = _size(part) > 0
    if is_resumed and _matches(file_digest(_part_path(target), expected[0].algorithm), expected):
        return
    while True:
        _transfer(part, url, target.name)
        digest, size = file_digest(_part_path(target), expected[0].algorithm), _size(part)
        if _matches(digest, expected):
            return
        part.truncate(0)
        if not is_resumed:
            raise DownloadError(
                f"the {size:,} bytes received are {_another_file(digest, expected)}; they are removed"
            )
        print(
            f"{target.name}: the part found here belongs to another file; downloading the whole file", flush=True
        )
        is_resumed = False


def _transfer(part: FileIO, url: str, name: str) -> None:
    """Append what the server still has. The number of retries is limited only while they bring nothing."""
    from urllib3 import Retry  # imported where it is used: planning downloads nothing

    unused = Retry(total=RETRIES, backoff_factor=BACKOFF_SECONDS)
    retries, received, is_reached = unused, _size(part), False
    while True:
        try:
            with _request(url, _size(part), is_reached) as response:
                is_reached = True
                _append(response, part)
            return
        except DownloadError as error:
            if _size(part) > received:
                retries, received = unused, _size(part)
            if not error.is_transient or retries.total == 0:
                raise
            is_reached = True
            retries = retries.increment("GET", url, error=error)
            seconds = max(retries.get_backoff_time(), error.wait_seconds)
            print(f"{name}: {error}; trying again in {seconds:g} s", flush=True)
            time.sleep(seconds)


def _request(url: str, offset: int, is_reached: bool) -> "Response":
    """The server's answer with the bytes of the file from `offset` on, or with the whole file (status 200).

    A server that cannot be connected to counts as transient only if it has been reached before: otherwise there is
    most likely no network, and the user learns it at once.
    """
    import requests
    from urllib3.exceptions import MaxRetryError

    headers = {"User-Agent": "caltech_exp", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
    except (requests.ConnectionError, requests.Timeout) as error:
        is_connected = not isinstance(error.args[0], MaxRetryError)
        raise DownloadError(_reason(error), is_transient=is_reached or is_connected) from None
    except requests.RequestException as error:
        raise DownloadError(str(error)) from None
    status, content_range = response.status_code, response.headers.get("Content-Range", "")
    if status == 200 or (offset and status == 206 and content_range.startswith(f"bytes {offset}-")):
        return response
    response.close()
    if offset and status in (206, 416):  # another part than requested, or the file is shorter
        return _request(url, 0, is_reached)
    raise DownloadError(
        f"the server answers {status} {response.reason}",
        is_transient=status in TRANSIENT_STATUSES,
        wait_seconds=_retry_after(response),
    )


def _append(response: "Response", part: FileIO) -> None:
    """Write the answer to the part as it comes, with a progress bar on a terminal."""
    # Imported where it is used: planning needs no progress bar.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
    from urllib3.exceptions import HTTPError, IncompleteRead

    if response.status_code == 200:
        part.truncate(0)
    offset, length = part.seek(0, os.SEEK_END), response.headers.get("Content-Length", "")
    size = offset + int(length) if length.isdecimal() else None
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    reason = ""
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=size, completed=offset)
        try:
            while block := response.raw.read1(BLOCK_BYTES):
                bar.update(task, advance=len(block))
                rest = memoryview(block)
                while rest:  # a disk that is nearly full takes only some of it
                    rest = rest[part.write(rest) :]
        except IncompleteRead:
            pass  # `size` tells more clearly what is missing
        except HTTPError as error:
            reason = f" ({_reason(error)})"
    if reason or (size is not None and part.tell() < size):
        of_size = f" of {size:,}" if size is not None else ""
        raise DownloadError(
            f"the connection broke after {part.tell():,}{of_size} bytes{reason}", is_transient=True
        )


def _retry_after(response: "Response") -> float:
    """How many seconds the server asks to wait, within reason; 0 if it does not say."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        return min(Retry().get_retry_after(response.raw) or 0.0, MAX_RETRY_AFTER_SECONDS)
    except InvalidHeader:
        return 0.0


def _reason(error: BaseException) -> str:
    """The innermost cause, without the layers that requests and urllib3 put around it."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _matches(digest: Digest, expected: Sequence[Digest]) -> bool:
    return any(known.matches(digest) for known in expected)


def _another_file(digest: Digest, expected: Sequence[Digest]) -> str:
    return f"another file: its hash is {digest}, not {' or '.join(str(known) for known in expected)}"


def _write_error(target: Path, error: OSError) -> UserError:
    return UserError(
        f"{target} cannot be written ({error.strerror}); make room or choose another folder and try again"
    )


def _part_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(part: FileIO) -> int:
    return os.fstat(part.fileno()).st_size


@dataclass(frozen=True)
class Source:
    """A file that others publish. `size`, in bytes, tells what to expect; only the hash decides."""

    name: str
    url: str
    size: int
    digest: Digest


# Caltech-101 as CaltechDATA publishes it (record mzrjq-6wc02, doi 10.22002/D1.20086), with annotations.
# URL and MD5 are those of torchvision.datasets.Caltech101, as a test checks; the record rounds the size to 0.1 MB.
ARCHIVE = Source(
    "caltech-101.zip",
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    137_400_000,
    Digest("md5", "3138e1922a9193bfa496528edbbc45d0"),
)

# The images alone, published on their own before 2022 and today inside ARCHIVE. The MD5 is from the torchvision of
# that time, the size from fastai's list of data sets.
INNER_ARCHIVE = Source(
    "101_ObjectCategories.tar.gz", ARCHIVE.url, 131_740_031, Digest("md5", "b224c7392d521a49829488ab0f1120d9")
)

# The course's split files, from its public repository at a fixed commit; the hashes of the files the report used.
_COURSE = (
    "https://raw.githubusercontent.com/MachineLearning2020/Homework2-Caltech101/"
    "cb7946ed907cfc19c9b1daf5bb2a0aefcbd8abb3"
)
SPLITS = (
    Source(
        "train.txt",
        f"{_COURSE}/train.txt",
        148_985,
        Digest("sha256", "897b435d740faa7ae7595816d00c6cb1621120e0e15759658ea716234519cf09"),
    ),
    Source(
        "test.txt",
        f"{_COURSE}/test.txt",
        74_524,
        Digest("sha256", "16b3dc245b7ac34c87cca678f81bf24126aa5a67c2ab0045899f8a6282949cb1"),
    ),
)


def _imagenet(name: str, size: int) -> Source:
    digits = name.rpartition("-")[2].removesuffix(".pth")
    return Source(name, f"https://download.pytorch.org/models/{name}", size, Digest("sha256", digits))


# torchvision's IMAGENET1K_V1 weights by network; a test compares URLs and sizes with its enums. A name ends in the
# first digits of the file's SHA-256, which is all that torchvision publishes.
IMAGENET = {
    "alexnet": _imagenet("alexnet-owt-7be5be79.pth", 244_408_911),
    "resnet18": _imagenet("resnet18-f37072fd.pth", 46_830_571),
}
