"""Thousands of runs through jobs/submit.py, the testbed's Slurm and jobs/status.py, with tasks that train nothing.

    python -m tests.jobs.scale runs=10000 runs_per_task=10 max_array_size=101

First the runs are queued, a task for each, held, looked at, and cancelled. Then they are queued again,
`runs_per_task` in a task, and run to their end. At the end every run has one result, from one task, and nothing is
left over; anything else is an AssertionError. What each command took is printed: seconds by the clock, seconds of
its processor time and of its children's, and its peak memory.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caltech_exp.catalog import select
from caltech_exp.leftovers import CHECKPOINT
from caltech_exp.plan import expand
from caltech_exp.provenance import CHECKOUT
from caltech_exp.standin import write_stand_in
from caltech_exp.study import StudySettings
from jobs.past_runs import CACHE
from tests.jobs.testbed import path_with, profile, queue, slurm, until

OVERRIDES = {"weights": "none", "batch_size": 4, "max_images": 4}
"""So that no weights are needed and the stand-in's images suffice."""
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol")


@dataclass(frozen=True)
class Measured:
    """A command that ended well; processor seconds are those of its children too, memory is its own."""

    seconds: float
    processor_seconds: float
    peak_mb: float
    printed: str


@dataclass
class Scale:
    """A study in `folder`; `words` are those of jobs/submit.py, `path` is the PATH of all commands."""

    folder: Path
    runs: int
    words: tuple[str, ...]
    path: str
    figures: dict[str, Measured] = field(default_factory=dict)

    @property
    def study(self) -> Path:
        return self.folder / "runs"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": self.path}

    def submit(self, title: str, *more: str) -> str:
        return self.measure(title, "-m", "tests.jobs.submit_stubs", *self.words, f"runs={self.study}", *more)

    def status(self, title: str, *more: str) -> dict[str, Any]:
        """What status says as JSON; the same as text is measured too."""
        text = self.measure(title, str(CHECKOUT / "jobs/status.py"), f"runs={self.study}", "timeout=60")
        assert "all runs, each once" in text
        told = self.measure(
            f"{title}, JSON",
            str(CHECKOUT / "jobs/status.py"),
            f"runs={self.study}",
            "timeout=60",
            "json=true",
            *more,
        )
        whole: dict[str, Any] = json.loads(told)
        assert whole["note"] is None
        return whole

    def measure(self, title: str, *command: str) -> str:
        """Standard output of a Python command, which must succeed."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            began = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, *command], stdout=out, stderr=errors, cwd=CHECKOUT, env=self.environment
            )
            peak_mb, ended = 0.0, 0
            while not ended:  # what wait4 tells of memory is never less than this process's own
                time.sleep(0.02)
                peak_mb = max(peak_mb, _peak_mb(process.pid))
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            errors.seek(0)
            assert process.returncode == 0, errors.read()
            printed = out.read()
        processor = usage.ru_utime + usage.ru_stime
        self.figures[title] = Measured(seconds, processor, peak_mb, printed)
        print(f"{title:44} {seconds:7.2f} s, {processor:7.2f} s of processor, {peak_mb:5.0f} MB", flush=True)
        return printed

    def results(self) -> list[Path]:
        return list(self.study.glob("*/result.json"))


def _peak_mb(pid: int) -> float:
    """The most memory that the process has had, as long as it lives."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def counting(folder: Path) -> tuple[str, Path]:
    """A PATH on which Slurm's commands are noted in the returned file before they are run."""
    log = folder / "asked"
    log.touch()
    for name in COMMANDS:
        path = path_with(folder, name, f'echo {name} >> {log}; exec {shutil.which(name)} "$@"')
    return path, log


def asked(log: Path) -> Counter[str]:
    """How often each command was given since the last call."""
    counts = Counter(log.read_text().split())
    log.write_text("")
    return counts


def manifests(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("submissions/*/manifest.json"))]


def on_disk(runs: Path) -> tuple[int, int]:
    """Files, and bytes of the blocks they take."""
    files = [path for path in runs.rglob("*") if not path.is_dir()]
    return len(files), sum(path.lstat().st_blocks * 512 for path in files)


def check_queued(scale: Scale, most_tasks: int, runs_per_task: int) -> int:
    """Every run stands in one task of the last submission, no array is too large; how many arrays there are."""
    manifest = manifests(scale.study)[-1]
    tasks = manifest["tasks"]
    counts = Counter(run for task in tasks for run in task["runs"])
    assert len(counts) == scale.runs
    assert set(counts.values()) == {1}
    sizes = Counter(task["array"] for task in tasks)
    assert max(sizes.values()) <= most_tasks
    assert max(len(task["runs"]) for task in tasks) == runs_per_task
    assert len({task["job"] for task in tasks}) == len(tasks), "two tasks have one job id"
    assert len(sizes) == len(manifest["job_names"])
    return len(sizes)


def check_ended(scale: Scale) -> None:
    """Every run has one result, which one task wrote at the first try; nothing is left over."""
    results = [json.loads(path.read_text()) for path in scale.results()]
    assert len({result["run_id"] for result in results}) == len(results) == scale.runs
    assert {result["attempts"] for result in results} == {1}
    logs = scale.study.glob("submissions/*/*_log.out")
    trained = Counter(name for log in logs for name in re.findall(r"^run (\S+): trained$", log.read_text(), re.M))
    assert set(trained) == {result["run_id"] for result in results}
    assert set(trained.values()) == {1}, "a run was trained twice"
    for left in ("failure.json", "progress.json", CHECKPOINT, "lease.*"):
        assert not list(scale.study.glob(f"*/{left}")), f"{left} was left"


def queue_and_cancel(scale: Scale, log: Path) -> None:
    """A task for each run, held."""
    limit = int(slurm("scontrol", "show", "config").partition("MaxArraySize")[2].split()[1])
    scale.submit("dry run, nothing submitted", f"profile={held(scale.folder)}", "dry_run=true")
    asked(log)
    scale.submit("submit, a task per run", f"profile={held(scale.folder)}")
    arrays = check_queued(scale, limit, 1)
    commands = asked(log)
    assert commands["sbatch"] == arrays
    print(f"  {arrays} arrays, {dict(commands)}; {_disk(scale)}", flush=True)
    assert len(queue()) == scale.runs
    told = scale.status("status, all queued")
    assert told["counts"] == {"queued": scale.runs}
    assert "nothing to queue" in scale.submit("submit again, all queued", f"profile={held(scale.folder)}")
    print(f"  of both: {dict(asked(log))}", flush=True)
    slurm("scancel", f"--user={os.getuid()}")
    until(lambda: not queue(), 300)
    told = scale.status("status, all cancelled")
    assert told["counts"] == {"lost": scale.runs}
    explained = sum("was cancelled" in run["detail"] for run in told["runs"])
    print(f"  {dict(asked(log))}; accounting told of {explained} that they were cancelled", flush=True)


def run_to_the_end(scale: Scale, log: Path, runs_per_task: int, most_tasks: int) -> None:
    """`runs_per_task` in a task, arrays of at most `most_tasks`."""
    per_task = f"runs_per_task={runs_per_task}"
    ready = profile(
        scale.folder, sbatch="{hold: true}", max_array_size=most_tasks, gpus_per_node=None, mem_gb=0.5,
        command_timeout_seconds=60, poll_seconds=10, setup=f"['export PYTHONPATH={CHECKOUT}']", max_parallel=64,
    )  # fmt: skip
    asked(log)
    scale.submit("submit, several runs per task", f"profile={ready}", per_task)
    arrays = check_queued(scale, most_tasks, runs_per_task)
    commands = asked(log)
    assert commands["sbatch"] == arrays
    print(f"  {arrays} arrays, {dict(commands)}", flush=True)
    began = time.monotonic()
    jobs = {task["job"].partition("_")[0] for task in manifests(scale.study)[-1]["tasks"]}
    watching = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "jobs/status.py"), f"runs={scale.study}", "watch=true"],
        stdout=subprocess.PIPE, text=True, env=scale.environment,
    )  # fmt: skip
    slurm("scontrol", "release", *sorted(jobs))
    until(lambda: len(scale.results()) >= scale.runs // 2, 3600)
    asked(log)
    told = scale.status("status, half done")
    assert sum(told["counts"].values()) == scale.runs
    assert set(told["counts"]) <= {"queued", "running", "finished"}, told["counts"]
    assert watching.communicate(timeout=3600)[0].splitlines()
    assert watching.returncode == 0
    until(lambda: not queue(), 300)
    took = time.monotonic() - began
    print(f"  all ended after {took:.0f} s; watching asked {dict(asked(log))} in the second half", flush=True)
    check_ended(scale)
    (scale.study / CACHE).unlink(missing_ok=True)
    scale.status("status, all done, nothing read before")
    assert scale.status("status, all done")["counts"] == {"finished": scale.runs}
    before = len(manifests(scale.study))
    assert "nothing to queue" in scale.submit("submit again, all done", f"profile={ready}", per_task)
    assert len(manifests(scale.study)) == before
    assert f"{scale.runs:,} finished" in scale.submit(
        "dry run, all done", f"profile={ready}", "dry_run=true"
    ).replace(f"{scale.runs} finished", f"{scale.runs:,} finished")
    print(f"  {_disk(scale)}", flush=True)


def held(folder: Path) -> Path:
    """A profile whose jobs stay in the queue, in a folder of its own."""
    own = folder / "held"
    own.mkdir(exist_ok=True)
    return profile(own, sbatch="{hold: true}", command_timeout_seconds=60, max_parallel=64)


def _disk(scale: Scale) -> str:
    files, size = on_disk(scale.study)
    return f"{files / scale.runs:.1f} files and {size / scale.runs / 1024:.1f} KiB on disk per run"


def start(folder: Path, runs: int, runs_per_task: int, max_array_size: int) -> Scale:
    """Both ways in `folder` on the testbed; the figures of each command."""
    data = folder / "data"
    write_stand_in(data)
    configurations = len(expand(select(), (0,), StudySettings(overrides=OVERRIDES)))
    seeds = max(1, runs // configurations)
    overrides = (f"{name}={value}" for name, value in OVERRIDES.items())
    words = ("section=all", *overrides, f"seeds={seeds}", f"data={data}", f"packs={folder / 'packs'}")
    path, log = counting(folder)
    scale = Scale(folder, seeds * configurations, words, path)
    queue_and_cancel(scale, log)
    run_to_the_end(scale, log, runs_per_task, max_array_size)
    return scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="runs=10000 runs_per_task=10 max_array_size=101")
    given = dict(word.split("=", 1) for word in parser.parse_args().words)
    values = {"runs": 10_000, "runs_per_task": 10, "max_array_size": 101} | {k: int(v) for k, v in given.items()}
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    print(f"in {folder}, which stays if anything is not as it should be", flush=True)
    scale = start(folder, **values)
    shutil.rmtree(folder)
    print(f"{scale.runs:,} runs, each with one result")


if __name__ == "__main__":
    main()
