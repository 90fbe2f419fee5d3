"""Where the campaign happens: a copy of the code that submits, a study, its user's commands and its processes.

Everything is in one folder:

    live/       the user's checkout: what submits, and what is edited while tasks wait; pristine/ as it was
    venv/       a Python in which live/ is installed as `pip install -e` does it; libraries/ those it has
    data/       the stand-in data set; packs/ its decoded images; net.py and study.yaml the study's file
    next/       how the next task starts: a file named after the way; used/ the files that tasks have used up
    study-N/    a disk of its own, with the study's folder `runs`
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caltech_exp.standin import write_stand_in
from tests.conftest import CHECKOUT
from tests.tools.testbed import profile
from tests.tools.watcher import Watcher

TOOLS = ("cc", "strace", "unshare", "setpriv")
NOBODY = 65534
"""The second user: Debian's `nobody`."""
OTHER_HOST = "gpu02"
DISK_MB = 96
ABSENT_SECONDS = 10.0
"""A job that starts or ends has no process for a moment."""
PACKAGES = ("caltech_exp", "jobs", "reports", "slurm")

NETWORK = """\
from torch import nn


def tiny(num_classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=4), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Dropout(), nn.Linear(16 * 49, num_classes),
    )
"""
STUDY = """\
title: What is disturbed
networks: {{tiny: net.py:tiny}}
settings:
  {{model: tiny, weights: none, epochs: {epochs}, batch_size: 4, precision: fp32, max_images: 24, augment: crop}}
sections: {{campaign: {{tables: {{runs: {{sweep: {{lr: [1e-2]}}}}}}}}}}
"""
FINDER = """\
import sys
from importlib.machinery import PathFinder


class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        folder = {live!r} + "".join("/" + part for part in name.split(".")[:-1])
        return PathFinder.find_spec(name, [folder]) if name.split(".")[0] in {packages!r} else None


sys.meta_path.append(Finder)
"""
"""What `pip install -e` writes, in short: it finds modules that nothing else has."""

TASK_PYTHON = """\
#!/bin/bash
# Python for Slurm's tasks. A file in next/ says how the next task starts, and is used up by it.
next={folder}/next used={folder}/used python={python}
case " $* " in *" {folder}/"*submissions*) ;; *) exec "$python" "$@" ;; esac
if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID; else job=$SLURM_JOB_ID; fi
take() {{ mv "$next/$1" "$used/$1.$job.$$" 2>/dev/null; }}
# A process that Slurm's kill does not reach; Slurm sees this script in its place.
leave() {{
  setsid --fork "$@" </dev/null >>{folder}/survivors.log 2>&1
  until [ -s "$used/pid.$job.$$" ]; do sleep 0.1; done
  while kill -0 "$(cat "$used/pid.$job.$$")" 2>/dev/null; do sleep 0.5; done
  exit 0
}}
note='echo $$ >"$0.new"; mv "$0.new" "$0"; exec "$@"'
if take outlive; then leave sh -c "$note" "$used/pid.$job.$$" "$python" "$@"; fi
if take elsewhere; then
  leave unshare --uts sh -c "hostname {other}; $note" "$used/pid.$job.$$" "$python" "$@"
fi
if take clock; then
  echo 0 >"$used/clock.$job.$$.time"
  export CLOCK_OFFSET="$used/clock.$job.$$.time" LD_PRELOAD={clock}
fi
if take estale; then
  mapfile -t inject <"$used/estale.$job.$$"
  exec strace -D -o "$used/strace.$job.$$" "${{inject[@]}}" "$python" "$@"
fi
exec "$python" "$@"
"""


TRAINING = re.compile(r"\|caltech_exp \S+/\d+$")
"""How a line `id|comment` of a task that trains ends."""


FOREIGN_FILE = re.compile(r"snapshot (\S+): (\S+) does not belong to it; remove that file")


class BrokenPromiseError(AssertionError):
    """The suite did what it must not do."""


@dataclass
class Scene:
    """The campaign's folder and the study that is disturbed now.

    edited           the live checkout is not what was submitted: nothing may be submitted from it
    names            ids of its runs
    stopped          processes that were stopped on purpose
    jumped           the clocks that have jumped
    without_process  job that runs by Slurm's queue and has no process -> since when
    """

    folder: Path
    runs: Path
    names: tuple[str, ...]
    watcher: Watcher
    edited: bool = False
    stopped: set[int] = field(default_factory=set)
    jumped: set[Path] = field(default_factory=set)
    without_process: dict[str, float] = field(default_factory=dict)
    later: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    @property
    def seeds(self) -> int:
        return len(self.names)

    # What the user does.

    def command(self, script: str) -> list[str]:
        return [str(self.folder / "venv/bin/python"), str(self.folder / "live/jobs" / script)]

    def words(self) -> list[str]:
        """What the study is submitted with."""
        folder = self.folder
        return [
            f"study={folder / 'study.yaml'}", "section=all", f"seeds={self.seeds}", f"data={folder / 'data'}",
            f"packs={folder / 'packs'}", f"profile={folder / 'profile.yaml'}", f"runs={self.runs}",
            "avoid_nodes=false",
        ]  # fmt: skip

    def submit(
        self, *more: str, before: tuple[str, ...] = (), timeout: float = 180, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Submit the study once, by `before` (strace, unshare); whatever is wrong may be told in one line only."""
        return run(
            [*before, *self.command("submit.py"), *self.words(), *more], timeout=timeout, environment=environment
        )

    def submit_until_accepted(self) -> None:
        """Submit as a user does who heeds what the command says."""
        deadline = time.monotonic() + 240
        while (done := self.submit()).returncode:
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"submit.py does not go on: {done.stderr.strip()}")
            if foreign := FOREIGN_FILE.search(done.stderr):
                (Path(foreign[1]) / foreign[2]).unlink(missing_ok=True)
            time.sleep(2)
            self.act()

    def results(self) -> dict[str, dict[str, Any]]:
        """Run id -> its result, as it is."""
        found = {}
        for path in self.runs.glob("*/result.json"):
            with contextlib.suppress(OSError, ValueError):
                found[path.parent.name] = json.loads(path.read_text())
        return found

    # What Slurm holds.

    def jobs(self, *states: str) -> list[str]:
        """Ids of the study's own tasks in the queue."""
        wanted = [f"--states={','.join(states)}"] if states else []
        lines = slurm("squeue", "--noheader", "--array", "--user=root", *wanted, "--format=%i|%k").splitlines()
        return sorted(line.split("|")[0] for line in lines if TRAINING.search(line))

    def running(self) -> list[str]:
        return self.jobs("RUNNING")

    def running_without_process(self) -> list[str]:
        """Jobs that have run for ABSENT_SECONDS by the queue, and of which the node has no process."""
        now = time.monotonic()
        queue = slurm("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%i %A")
        listed = subprocess.run(["scontrol", "listpids"], capture_output=True, text=True, check=False)
        if listed.returncode and "No job steps" not in listed.stderr:
            return []
        on_node = {line.split()[1] for line in listed.stdout.splitlines()[1:]}
        absent = [job for job, number in map(str.split, queue.splitlines()) if number not in on_node]
        self.without_process = {job: self.without_process.get(job, now) for job in absent}
        return [job for job, since in self.without_process.items() if now - since > ABSENT_SECONDS]

    def queued_runs(self) -> dict[str, list[str]]:
        """Run id -> the jobs in the queue that train it, told from the records by their comments."""
        tasks: dict[tuple[str, int], list[str]] = {}
        for path in self.runs.glob("submissions/*/manifest.json"):
            with contextlib.suppress(OSError, ValueError):
                for task in json.loads(path.read_text())["tasks"]:
                    tasks[f"caltech_exp {path.parent.name}/{task['array']}", task["index"]] = task["runs"]
        found: dict[str, list[str]] = {}
        for line in slurm("squeue", "--noheader", "--array", "--user=root", "--format=%i|%k").splitlines():
            job, _, comment = line.partition("|")
            for name in tasks.get((comment, int(job.partition("_")[2] or 0)), ()):
                found.setdefault(name, []).append(job)
        return found

    # The study's processes.

    def tasks(self) -> dict[int, str]:
        """Process -> job of every task of this study that lives on this machine, also of those Slurm lost."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                if b"python" not in words[0] or not any(
                    word.startswith(f"{self.runs}/submissions".encode()) for word in words
                ):
                    continue
                variables = dict(
                    entry.split(b"=", 1) for entry in (path / "environ").read_bytes().split(b"\0") if b"=" in entry
                )
                if b"SLURM_JOB_ID" in variables:
                    array, index = (variables.get(f"SLURM_ARRAY_{name}_ID".encode()) for name in ("JOB", "TASK"))
                    job = b"%b_%b" % (array, index) if array and index else variables[b"SLURM_JOB_ID"]
                    found[int(path.name)] = job.decode()
        return found

    def training(self) -> dict[int, str]:
        """Those that hold a run's lease now."""
        holders = self.watcher.holding()
        return {pid: job for pid, job in self.tasks().items() if pid in holders and pid not in self.stopped}

    def survivors(self, way: str) -> dict[int, str]:
        """Those that train in a job that runs, and that Slurm's kill does not reach, by how they were started."""
        started = {path.name.removeprefix(f"{way}.") for path in (self.folder / "used").glob(f"{way}.*")}
        found = {}
        for path in (self.folder / "used").glob("pid.*"):
            if path.name.removeprefix("pid.") in started:
                with contextlib.suppress(OSError, ValueError):
                    found[int(path.read_text())] = ""
        training = {pid: job for pid, job in self.training().items() if pid in found}
        running = set(self.running()) if training else ()
        return {pid: job for pid, job in training.items() if job in running}

    def arrange(self, way: str, content: str = "") -> None:
        """The next task starts that way."""
        path = self.folder / "next" / way
        if not path.exists():
            path.write_text(content)

    # What happens later.

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        self.later.append((time.monotonic() + seconds, act))

    def act(self, all_of_them: bool = False) -> None:
        """Do what is due."""
        now = time.monotonic()
        due = [entry for entry in self.later if all_of_them or entry[0] <= now]
        self.later = [entry for entry in self.later if entry not in due]
        for _, act in sorted(due, key=lambda entry: entry[0]):
            act()

    def stop(self, pid: int, seconds: float) -> bool:
        """SIGSTOP now, SIGCONT later."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self.stopped.add(pid)
            self.after(seconds, lambda: self.go_on(pid))
            return True
        return False

    def kill(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def go_on(self, pid: int) -> None:
        self.stopped.discard(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def run(
    command: list[str], timeout: float = 180, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of the suite. Raises BrokenPromiseError for a traceback."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=variables)
    require_no_traceback(done)
    return done


def require_no_traceback(done: subprocess.CompletedProcess[str]) -> None:
    """Raises BrokenPromiseError with the traceback's places and its last line."""
    if "Traceback" in done.stderr:
        places = re.findall(r'File "[^"]*/(?:live|sources/\w+)/([^"]+)", line (\d+)', done.stderr)
        end = done.stderr.strip().splitlines()[-1]
        raise BrokenPromiseError(f"traceback: {end} (at {', '.join(':'.join(place) for place in places)})")


def slurm(*command: str) -> str:
    """Standard output of a Slurm command of an administrator's, who tries again while a daemon restarts."""
    for _ in range(20):
        with contextlib.suppress(subprocess.SubprocessError):
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        time.sleep(1)
    raise AssertionError(f"{shlex.join(command)} does not work")


def as_second_user() -> list[str]:
    """Before a command: as that user, without the rights of root."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]


def prepare(folder: Path, epochs: int) -> None:
    """Make the campaign's folder, or bring its code up to date."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    assert not missing, f"{', '.join(missing)} must be installed"
    for name in ("next", "used"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)  # the second user looks at it too
    _copy_code(CHECKOUT, folder / "pristine")
    restore(folder)
    seen = subprocess.run([*as_second_user(), "test", "-r", str(folder / "live")], check=False).returncode == 0
    assert seen, f"the second user, {NOBODY}, cannot read {folder}: use a folder that others may enter"
    if not (folder / "data").exists():
        write_stand_in(folder / "data.new")
        (folder / "data.new").rename(folder / "data")
    (folder / "net.py").write_text(NETWORK)
    (folder / "study.yaml").write_text(STUDY.format(epochs=epochs))
    _make_environment(folder)
    shared = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-o",
        str(folder / "clock.so"),
        str(CHECKOUT / "tests/tools/clock.c"),
    ]
    subprocess.run(shared, check=True, timeout=120)
    script = folder / "task-python"
    words = {
        "folder": folder,
        "python": folder / "venv/bin/python",
        "other": OTHER_HOST,
        "clock": folder / "clock.so",
    }
    script.write_text(TASK_PYTHON.format(**words))
    script.chmod(0o755)
    profile(
        folder, python=script, mem_gb=2, poll_seconds=1, checkpoint_minutes=0.03, cpus_per_task=1,
        command_timeout_seconds=6, time_minutes=60,
    )  # fmt: skip


def restore(folder: Path) -> None:
    """The user's checkout as it was, whatever has become of this one meanwhile."""
    _copy_code(folder / "pristine", folder / "live")


def _copy_code(source: Path, target: Path) -> None:
    for package in PACKAGES:
        shutil.rmtree(target / package, ignore_errors=True)
        left_out = shutil.ignore_patterns("__pycache__", "reproduction", ".*")
        shutil.copytree(source / package, target / package, ignore=left_out)


def _make_environment(folder: Path) -> None:
    """A virtual environment with the libraries of this one, and live/ installed.

    The libraries are links to this one's files, in folders where Python may keep what it compiles: else each task
    would compile torch again where this environment cannot be written.
    """
    if not (folder / "venv/bin/python").exists():
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    libraries = folder / "libraries"
    if not libraries.exists():
        subprocess.run(["cp", "-rs", sysconfig.get_path("purelib"), f"{libraries}.new"], check=True)
        Path(f"{libraries}.new").rename(libraries)
    (packages / "libraries.pth").write_text(f"{libraries}\n")
    (packages / "live_finder.py").write_text(FINDER.format(live=str(folder / "live"), packages=PACKAGES))
    (packages / "live.pth").write_text("import live_finder\n")
