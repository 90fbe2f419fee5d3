"""Leases in tests: a process that owns one, time that passes, a lease that an ended process left."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caltech_exp.machine import machine_id
from caltech_exp.study.lease import Owner

HOLD = """
import sys, time
from pathlib import Path
from caltech_exp.study import lease
lease.HEARTBEAT_SECONDS = 0.1
if len(sys.argv) > 2:
    lease.machine_id = lambda: sys.argv[2]
if len(sys.argv) > 3:
    lease.EXPIRE_SECONDS = float(sys.argv[3])
own_lease = lease.acquire(Path(sys.argv[1]), "1_0")
print("held" if own_lease else "left", flush=True)
while own_lease:
    time.sleep(0.02)
    own_lease.check()
    if own_lease.is_requested:
        own_lease.release()
        print("gave it up")
        break
"""


def start_owner(folder: Path, *machine: str) -> "subprocess.Popen[str]":
    """A process that owns the run; what it printed first has been read."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *machine], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def pass_time(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process had been suspended: of the clocks that measure, the one that then stands still does."""
    clock = time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda which: clock(which) + (seconds if which == time.CLOCK_BOOTTIME else 0)
    )


def write_lease(folder: Path, **fields: object) -> None:
    """The first lease of the run, as a process that has ended left it; None leaves a field out."""
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    values = {"job": "1_0", "host": socket.gethostname(), "machine": machine_id(), "pid": int(ended.stdout),
              "started": 1, "since": "2026-01-01T12:00:00Z", **fields}  # fmt: skip
    owner = Owner.model_validate({name: value for name, value in values.items() if value is not None})
    (folder / "lease.000001.json").write_text(owner.model_dump_json(exclude_unset=True))
