"""One attempt to get a file over HTTP: what is missing of it, after what came before.

A server that does not know ranges, or whose file has changed, sends all of it; then the beginning is thrown away.
"""

import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse, InvalidURL
from io import FileIO
from pathlib import Path

from caltech_exp.files import write_atomically
from caltech_exp.record import StrictRecord
from caltech_exp.results import read_record

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
    from tqdm import tqdm  # not at start-up

    with tqdm(total=size, initial=part.tell(), unit="B", unit_scale=True, disable=None, leave=False) as bar:
        while True:
            try:
                block = response.read1(BLOCK)
            except (OSError, HTTPException) as error:
                raise BrokenOffError(f"it broke off after {part.tell():,} bytes ({_reason(error)})") from None
            if not block:
                break
            bar.update(len(block))
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
