"""A web server for files on 127.0.0.1, with the faults that real ones have."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Asked:
    """A request that arrived: its path and its headers Range and If-Range, None where it had none."""

    path: str
    range: str | None
    if_range: str | None


@dataclass
class FileServer:
    """What it serves and how.

    files     content by path, `/a.zip`
    breaks    for each of the next answers: after how many bytes the connection breaks off
    statuses  for each of the next answers: the status in place of a file
    ranges    whether it knows ranges; `etags` and `dates`: what it tells of a file's version
    pause     seconds between blocks of 4 KiB
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    etags: bool = True
    dates: bool = False
    lengths: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def etag(self, path: str) -> str:
        return f'"{hashlib.sha256(self.files[path]).hexdigest()[:8]}"'


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs for the block."""
    server = FileServer()
    server.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, server)

        def log_message(self, *_: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    thread = threading.Thread(target=web.serve_forever, args=(0.02,))
    thread.start()
    server.url = f"http://127.0.0.1:{web.server_port}"
    try:
        yield server
    finally:
        server.hold.set()
        web.shutdown()
        thread.join()
        web.server_close()


DATE = "Mon, 24 Nov 2025 06:15:00 GMT"


def _answer(request: BaseHTTPRequestHandler, server: FileServer) -> None:
    asked = Asked(request.path, request.headers["Range"], request.headers["If-Range"])
    server.asked.append(asked)
    status = server.statuses.pop(0) if server.statuses else 0
    if status or request.path not in server.files:
        request.send_response(status or 404)
        for header, value in server.headers.items():
            request.send_header(header, value)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    content = server.files[request.path]
    start = _start(asked, server)
    if start is not None and start >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    request.send_response(200 if start is None else 206)
    if start is not None:
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    if server.lengths:
        request.send_header("Content-Length", str(len(content) - (start or 0)))
    if server.etags:
        request.send_header("ETag", server.etag(request.path))
    if server.dates:
        request.send_header("Last-Modified", DATE)
    request.end_headers()
    body = content[start or 0 :]
    if server.breaks:
        body = body[: server.breaks.pop(0)]
    with contextlib.suppress(OSError):  # a client that was killed
        request.wfile.write(body[: len(body) // 2])
        request.wfile.flush()
        server.hold.wait(60)
        request.wfile.write(body[len(body) // 2 :])
    request.close_connection = True


def _start(asked: Asked, server: FileServer) -> int | None:
    """The first byte asked for; None for all of the file."""
    found = re.fullmatch(r"bytes=(\d+)-", asked.range or "")
    if not found or not server.ranges:
        return None
    current = (server.etag(asked.path) if server.etags else "", DATE if server.dates else "")
    if asked.if_range is not None and asked.if_range not in current:
        return None
    return int(found[1])
