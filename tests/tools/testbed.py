"""The real Slurm as the tests ask it, and stand-ins for its commands where they should fail."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def slurm(*command: str) -> str:
    """Standard output of a Slurm command, which must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def queue() -> list[tuple[str, str]]:
    """(job id, name) of every array task in the queue."""
    lines = slurm("squeue", "--noheader", "--array", "--format=%i|%j").split()
    return [(line.split("|")[0], line.split("|")[1]) for line in lines]


def profile(folder: Path, **settings: object) -> Path:
    """A profile file for the testbed with further settings, YAML by YAML; None leaves one out."""
    base: dict[str, object] = {
        "executor": "slurm", "device": "cpu", "gpus_per_node": 1, "cpus_per_task": 1, "mem_gb": 4,
        "command_timeout_seconds": 5, "poll_seconds": 1,
    }  # fmt: skip
    path = folder / "profile.yaml"
    lines = [f"{key}: {value}\n" for key, value in {**base, **settings}.items() if value is not None]
    path.write_text("".join(lines))
    return path


def path_with(folder: Path, command: str, script: str) -> str:
    """A PATH on which `command` is the given shell script."""
    stub = folder / "bin" / command
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(0o755)
    return f"{stub.parent}{os.pathsep}{os.environ['PATH']}"


def show_queue(folder: Path, *lines: str, before: str = "") -> str:
    """A PATH on which squeue shows jobs, each given as `id|state|reason|name|comment` or with `|uid` after that.

    before  a script that runs first, such as one that counts how often squeue is asked
    """
    own = [line if line.count("|") == 5 else f"{line}|{os.geteuid()}" for line in lines]
    listed = folder / "queue"
    listed.write_text("".join(f"{line}\n" for line in own))
    script = f"""{before}
for word; do case $word in --format=*) format=${{word#--format=}};; esac; done
mark=${{format%%\\%*}}
while IFS='|' read -r id state reason name comment uid; do
  printf '%s' "$mark$id$mark$state$mark$uid$mark$reason$mark$name$mark$comment$mark"; echo
done <'{listed}'"""
    return path_with(folder, "squeue", script)


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for a condition; AssertionError, with what Slurm's queue holds, if it does not come about in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            waiting = slurm("squeue", "--array", "--format=%i %j %T %r") if shutil.which("squeue") else ""
            raise AssertionError(f"it took more than {seconds:g} s\n{waiting}")
        time.sleep(0.1)
