"""Downloads over real sockets: resumed where they stopped, and complete with the right hash, or absent."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.data.download import Digest, download, fetch, read_origin
from tests.conftest import CHECKOUT, Disk
from tests.tools.file_server import FileServer, Request, serving
from tests.tools.testbed import until

CONTENT = bytes(range(256)) * 4000
"""1,024,000 bytes."""
RIGHT = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
ADVICE = "bring it by hand"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves CONTENT as /a.bin; retries do not wait."""
    monkeypatch.setattr("caltech_exp.data.download.BACKOFF_SECONDS", 0.0)
    with serving() as files:
        files.files["/a.bin"] = CONTENT
        yield files


def get(server: FileServer, folder: Path, digest: Digest = RIGHT) -> None:
    download(f"{server.url}/a.bin", folder / "a.bin", (digest,), ADVICE)


def refused(server: FileServer, folder: Path, digest: Digest = RIGHT) -> str:
    """The one line that says why nothing could be fetched."""
    with pytest.raises(UserError) as caught:
        get(server, folder, digest)
    assert not (folder / "a.bin").exists()
    return str(caught.value)


def whole(folder: Path) -> bool:
    """Whether the file is there, and nothing beside it."""
    return [path.name for path in folder.iterdir()] == ["a.bin"] and (folder / "a.bin").read_bytes() == CONTENT


def part(folder: Path) -> bytes:
    return (folder / "a.bin.part").read_bytes()


def ranges(server: FileServer) -> list[str | None]:
    return [request.range for request in server.requests]


def interrupted(server: FileServer, folder: Path, after: int) -> None:
    """A command that ended after so many bytes."""
    server.breaks = [after, 0, 0, 0, 0]
    assert "the same command resumes the download" in refused(server, folder)
    assert part(folder) == CONTENT[:after]
    server.requests.clear()


def test_download_makes_the_folder(server: FileServer, tmp_path: Path) -> None:
    get(server, tmp_path / "new folder" / "and another")
    assert whole(tmp_path / "new folder" / "and another")
    assert server.requests == [Request("/a.bin", None)]


def test_download_resumes_where_the_connection_broke(server: FileServer, tmp_path: Path) -> None:
    server.breaks = [100_000, 0, 0, 0, 300_000]  # more breaks than attempts in a row
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == [None, *["bytes=100000-"] * 4, "bytes=400000-"]


def test_download_resumes_in_the_next_command(server: FileServer, tmp_path: Path) -> None:
    interrupted(server, tmp_path, 700_000)
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == ["bytes=700000-"]


def test_download_resumes_after_a_kill(server: FileServer, tmp_path: Path) -> None:
    server.hold.clear()  # after half of it
    code = f"""
from pathlib import Path
from caltech_exp.data.download import Digest
from caltech_exp.data.download import download
download({server.url + "/a.bin"!r}, Path({str(tmp_path / "a.bin")!r}), (Digest("sha256", {RIGHT.digits!r}),), "")
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT)
    path = tmp_path / "a.bin.part"
    until(lambda: path.exists() and path.stat().st_size == len(CONTENT) // 2, 30)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.hold.set()
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == [None, f"bytes={len(CONTENT) // 2}-"]


def test_complete_part_is_not_requested_again(server: FileServer, tmp_path: Path) -> None:
    interrupted(server, tmp_path, 700_000)
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    get(server, tmp_path)
    assert whole(tmp_path)
    assert server.requests == []


def test_server_without_ranges_is_read_from_the_start(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.breaks = [100_000]
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == [None, "bytes=100000-"]


def test_server_without_ranges_that_always_breaks_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.breaks = [100_000] * 20
    assert "the connection broke after 100,000 of 1,024,000 bytes" in refused(server, tmp_path)
    assert len(server.requests) == 5


@pytest.mark.parametrize("old", [b"x" * len(CONTENT), b"x" * 900_000])
def test_changed_file_is_downloaded_from_the_start(old: bytes, server: FileServer, tmp_path: Path) -> None:
    server.files["/a.bin"] = old
    server.breaks = [500_000, 0, 0, 0, 0]
    refused(server, tmp_path)
    server.files["/a.bin"] = CONTENT
    server.requests.clear()
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == ["bytes=500000-", None]


def test_part_longer_than_the_file_is_replaced(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == [f"bytes={len(CONTENT) + 4}-", None]


def test_part_of_unknown_origin_is_replaced(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"what is this?")
    (tmp_path / "a.bin.part.json").write_text("")  # which version 0.1 kept beside a part
    get(server, tmp_path)
    assert whole(tmp_path)
    assert ranges(server) == ["bytes=13-", None]


def test_part_is_resumed_from_another_url(server: FileServer, tmp_path: Path) -> None:
    interrupted(server, tmp_path, 500_000)
    server.files["/b.bin"] = CONTENT
    download(f"{server.url}/b.bin", tmp_path / "a.bin", (RIGHT,), ADVICE)
    assert whole(tmp_path)
    assert server.requests == [Request("/b.bin", "bytes=500000-")]


def test_proxy_of_the_environment_is_used(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://data.invalid/a.bin"] = CONTENT
    download("http://data.invalid/a.bin", tmp_path / "a.bin", (RIGHT,), ADVICE)
    assert whole(tmp_path)


def test_wrong_file_is_reported_and_removed(server: FileServer, tmp_path: Path) -> None:
    wrong = Digest("md5", "0" * 32)
    message = refused(server, tmp_path / "new", wrong)
    assert f"md5:{hashlib.md5(CONTENT).hexdigest()}, not md5:{'0' * 32}; they are removed; {ADVICE}" in message
    assert "the 1,024,000 bytes received are another file" in message
    assert not (tmp_path / "new").exists()
    assert len(server.requests) == 1


def test_file_of_unknown_length_is_judged_by_its_hash(server: FileServer, tmp_path: Path) -> None:
    server.lengths = False
    server.breaks = [500_000]
    assert "the 500,000 bytes received are another file" in refused(server, tmp_path)
    get(server, tmp_path)
    assert whole(tmp_path)


@pytest.mark.parametrize("status", [404, 403, 410, 204])
def test_missing_file_is_requested_once(status: int, server: FileServer, tmp_path: Path) -> None:
    server.statuses = [status] * 9
    message = refused(server, tmp_path / "new")
    assert f"cannot be downloaded from {server.url}/a.bin: the server answers {status} " in message
    assert message.endswith(ADVICE)
    assert len(server.requests) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_busy_server_is_asked_again(status: int, server: FileServer, tmp_path: Path) -> None:
    server.statuses = [status] * 4
    get(server, tmp_path)
    assert whole(tmp_path)
    server.statuses = [status] * 9
    (tmp_path / "a.bin").unlink()
    server.requests.clear()
    assert f"the server answers {status} " in refused(server, tmp_path)
    assert len(server.requests) == 5
    assert list(tmp_path.iterdir()) == []


def test_retry_after_is_respected_within_bounds(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("caltech_exp.data.download.MAX_RETRY_AFTER_SECONDS", 0.2)
    server.statuses, server.headers = [429], {"Retry-After": "3600"}
    get(server, tmp_path)
    assert "the server answers 429 Too Many Requests; trying again in 0.2 s" in capsys.readouterr().out


def test_silent_server_counts_as_broken(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caltech_exp.data.download.TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr("caltech_exp.data.download.RETRIES", 0)
    server.hold.clear()
    assert "the connection broke after 512,000 of 1,024,000 bytes (timed out); 512,000 bytes are kept" in refused(
        server, tmp_path
    )
    server.hold.set()
    get(server, tmp_path)
    assert whole(tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "http://[/a", "http://host:port/a", "https://"])
def test_unreachable_server_is_reported_at_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.bin cannot be downloaded from http.*bring it by hand"):
        download(url, tmp_path / "new" / "a.bin", (RIGHT,), ADVICE)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_download_a_file_once(server: FileServer, tmp_path: Path) -> None:
    server.hold.clear()
    code = f"""
from pathlib import Path
from caltech_exp.data.download import Digest
from caltech_exp.data.download import download
download({server.url + "/a.bin"!r}, Path({str(tmp_path / "a.bin")!r}), (Digest("sha256", {RIGHT.digits!r}),), "")
"""
    command = [sys.executable, "-c", code]
    first = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    until(lambda: bool(server.requests), 30)
    second = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert second.stdout
    assert second.stdout.readline() == "a.bin: another process is downloading it; waiting\n"
    server.hold.set()
    assert first.wait(30) == second.wait(30) == 0
    assert whole(tmp_path)
    assert len(server.requests) == 1


def test_full_disk_keeps_the_part(server: FileServer, small_disk: Disk) -> None:
    content = os.urandom(3_000_000)
    server.files["/a.bin"] = content
    right = Digest("sha256", hashlib.sha256(content).hexdigest())
    message = refused(server, small_disk.path, right)
    assert (
        f"{small_disk.path / 'a.bin'} cannot be written (No space left on device); make room or choose" in message
    )
    kept = part(small_disk.path)
    assert content.startswith(kept)
    assert len(kept) > 500_000
    small_disk.change("size=32m")
    get(server, small_disk.path, right)
    assert ranges(server) == [None, f"bytes={len(kept)}-"]
    assert (small_disk.path / "a.bin").read_bytes() == content


def test_local_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    fetch(tmp_path / "source", tmp_path / "to" / "a.bin", (RIGHT,), ADVICE)
    assert whole(tmp_path / "to")
    (tmp_path / "source").write_bytes(b"else")
    with pytest.raises(UserError, match=f"is another file: its hash is sha256:.*{ADVICE}"):
        fetch(tmp_path / "source", tmp_path / "b.bin", (RIGHT,), ADVICE)
    with pytest.raises(UserError, match=f"there is no file {tmp_path}/nothing; {ADVICE}"):
        fetch(tmp_path / "nothing", tmp_path / "b.bin", (RIGHT,), ADVICE)
    assert not (tmp_path / "b.bin").exists()


def test_origin_is_a_path_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_origin("a b.zip", "archive") == tmp_path / "a b.zip"
    assert read_origin("HTTPS://host/a b/é?c=%20", "archive") == "HTTPS://host/a%20b/%C3%A9?c=%20"
    with pytest.raises(
        UserError, match="archive=ftp://host/a: ftp:// is not supported; give http://, https:// or a path"
    ):
        read_origin("ftp://host/a", "archive")
