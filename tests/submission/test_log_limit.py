"""The size of logs: head and tail stay, whatever prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.submission.log_limit import OMITTED, shorten
from tests.conftest import CHECKOUT

LIMIT = 100_000


def parts(path: Path) -> tuple[bytes, int, bytes]:
    """Head, number of bytes left out, tail."""
    text = path.read_bytes()
    found = OMITTED.search(text)
    assert found
    assert len(OMITTED.findall(text)) == 1
    return text[: found.start()], int(found[1].replace(b",", b"")), text[found.end() :]


def test_the_middle_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = b""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in range(40_000):
        line = b"line %d\n" % number
        whole += line
        os.write(log, line)
        if number % 500 == 0:
            shorten(log, LIMIT)
            assert path.stat().st_size <= LIMIT
    os.close(log)
    head, left_out, tail = parts(path)
    assert whole.startswith(head + b"\n")
    assert whole.endswith(b"\n" + tail)
    assert len(head) + left_out + len(tail) == len(whole)
    assert len(head) > LIMIT / 8 - 20
    assert len(tail) > LIMIT / 4


@pytest.mark.parametrize("text", [b"x" * 300_000, b"\n" * 300_000, b"\0" * 300_000])
def test_a_log_without_lines(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(text)
    log = os.open(path, os.O_WRONLY | os.O_APPEND)
    shorten(log, LIMIT)
    shorten(log, LIMIT)
    os.close(log)
    head, left_out, tail = parts(path)
    assert len(head) + left_out + len(tail) == len(text)
    assert LIMIT / 4 < path.stat().st_size < LIMIT


def test_a_short_log_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a line\n" * 100)
    log = os.open(path, os.O_WRONLY | os.O_APPEND)
    shorten(log, LIMIT)
    os.close(log)
    assert path.read_bytes() == b"a line\n" * 100


PRINTS = """
import os, subprocess, sys, time
from caltech_exp.submission.log_limit import limit_logs
limit_logs(0.1)
print("the first line", flush=True)
subprocess.run(["sh", "-c", "yes 'of a child' | head -n 300000"], check=True)
print("the last line", file=sys.stderr, flush=True)
print("the last line", flush=True)
time.sleep(1.5)
print("one more", flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_a_process_and_its_children_print_is_limited_and_a_kill_loses_nothing(tmp_path: Path) -> None:
    out, err = tmp_path / "1_0_log.out", tmp_path / "1_0_log.err"
    with out.open("ab") as stdout, err.open("ab") as stderr:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS], cwd=CHECKOUT, stdout=stdout, stderr=stderr, check=False
        )
    assert done.returncode == -9
    head, left_out, tail = parts(out)
    assert head.startswith(b"the first line\nof a child\n")
    assert tail.endswith(b"of a child\nthe last line\none more\n")
    assert left_out > 1_000_000
    assert out.stat().st_size < LIMIT
    assert err.read_text() == "the last line\n"


def test_output_that_is_no_log_file_is_left_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTS], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert re.match("not a log file opened for appending: its size is not limited\n", done.stderr)
    assert done.stdout.count("of a child") == 300_000
