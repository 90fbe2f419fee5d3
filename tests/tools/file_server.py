"""A web server for files on 127.0.0.1, with the faults that real ones have."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """A request that arrived: its path and its header Range, None if it had none."""

    path: str
    range: str | None


@dataclass
class FileServer:
    """What the server has, and how it behaves.

    files     content by path, `/a.zip`
    breaks    for each of the next answers: after how many bytes the connection breaks
    statuses  for each of the next answers: the status it sends instead of a file
    ranges    whether it knows ranges
    lengths   whether it sends Content-Length
    headers   sent with the statuses
    hold      while it is clear, an answer stops after half of its body
    requests  what has arrived
    """

    files: dict[str, bytes] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    lengths: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    requests: list[Request] = field(default_factory=list)
    url: str = ""


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


def _answer(request: BaseHTTPRequestHandler, server: FileServer) -> None:
    server.requests.append(Request(request.path, request.headers["Range"]))
    status = server.statuses.pop(0) if server.statuses else 0
    if status or request.path not in server.files:
        request.send_response(status or 404)
        for header, value in server.headers.items():
            request.send_header(header, value)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    content = server.files[request.path]
    start = _start(request.headers["Range"]) if server.ranges else None
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


def _start(header: str | None) -> int | None:
    """The first byte of the range; None for the whole file."""
    match = re.fullmatch(r"bytes=(\d+)-", header or "")
    return int(match[1]) if match else None
