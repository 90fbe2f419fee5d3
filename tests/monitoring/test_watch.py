"""The progress of wait=true: a bar on a terminal, lines in a log file."""

import io
import sys

import pytest

from caltech_exp.monitoring import watch
from caltech_exp.monitoring.watch import run_progress


def show_all(total: int = 3) -> None:
    with run_progress(total) as show:
        for ended, failed in ((0, 0), (1, 0), (1, 0), (2, 1), (3, 1)):
            show(ended, failed)


def test_progress_in_a_log_file_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    show_all()
    assert capsys.readouterr().err == "0 of 3 runs have ended\n3 of 3 runs have ended, 1 failed\n"


def test_progress_in_a_log_file_repeats_no_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LINE_SECONDS", 0.0)
    show_all()
    assert [line.partition(" of ")[0] for line in capsys.readouterr().err.splitlines()] == ["0", "1", "2", "3"]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    show_all()
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert "3/3" in shown
    assert ", 1 failed" in shown
