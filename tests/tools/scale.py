"""Thousands of runs through jobs/submit.py, the testbed's Slurm and jobs/status.py, with tasks that train nothing.

    python -m tests.tools.scale runs=10000 held_per_task=2 runs_per_task=20 max_array_size=101

First the runs are queued, `held_per_task` in a task, held, looked at, and cancelled. Then they are queued again,
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caltech_exp.catalog import THE_REPORT
from caltech_exp.provenance import CHECKOUT
from caltech_exp.standin import write_stand_in
from caltech_exp.study.plan import expand
from caltech_exp.study.results_cache import CACHE
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.study.study import StudySettings
from tests.tools.measuring import asked, counting, measured, on_disk
from tests.tools.testbed import profile, queue, slurm, until

OVERRIDES = {"weights": "none", "batch_size": 4, "max_images": 4}
"""So that no weights are needed and the stand-in's images suffice."""


@dataclass(frozen=True)
class Scale:
    """A study in `folder`; `words` are those of jobs/submit.py, `path` is the PATH of all commands."""

    folder: Path
    runs: int
    words: tuple[str, ...]
    path: str

    @property
    def study(self) -> Path:
        return self.folder / "runs"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": self.path}

    def submit(self, title: str, *more: str) -> str:
        return self.measure(title, "-m", "tests.tools.submit_stubs", *self.words, f"runs={self.study}", *more)

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
        figures = measured(command, self.environment)
        print(f"{title:44} {figures}", flush=True)
        return figures.printed

    def results(self) -> list[Path]:
        return list(self.study.glob("*/result.json"))


def manifests(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("submissions/*/manifest.json"))]


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


def queue_and_cancel(scale: Scale, log: Path, runs_per_task: int) -> None:
    """Held, in arrays as large as the cluster takes them."""
    words = (f"profile={held(scale.folder)}", f"runs_per_task={runs_per_task}")
    limit = int(slurm("scontrol", "show", "config").partition("MaxArraySize")[2].split()[1])
    scale.submit("dry run, nothing submitted", *words, "dry_run=true")
    asked(log)
    scale.submit("submit, held", *words)
    arrays = check_queued(scale, limit, runs_per_task)
    commands = asked(log)
    assert commands["sbatch"] == arrays
    print(f"  {arrays} arrays, {dict(commands)}; {_disk(scale)}", flush=True)
    assert len(queue()) == len(manifests(scale.study)[-1]["tasks"])
    told = scale.status("status, all queued")
    assert told["counts"] == {"queued": scale.runs}
    assert "nothing to submit" in scale.submit("submit again, all queued", *words)
    print(f"  of both: {dict(asked(log))}", flush=True)
    slurm("scancel", f"--user={os.getuid()}")
    until(lambda: not queue(), 300)
    told = scale.status("status, all cancelled")
    explained = told["counts"].get("cancelled", 0)
    assert explained + told["counts"].get("lost", 0) == scale.runs
    print(f"  {dict(asked(log))}; accounting told of {explained} that they were cancelled", flush=True)


def run_to_the_end(scale: Scale, log: Path, runs_per_task: int, most_tasks: int) -> None:
    """`runs_per_task` in a task, arrays of at most `most_tasks`."""
    per_task = f"runs_per_task={runs_per_task}"
    ready = profile(
        scale.folder, sbatch="{hold: true}", max_array_size=most_tasks, gpus_per_node=None, mem_gb=0.5,
        command_timeout_seconds=60, poll_seconds=10, setup=f"['export PYTHONPATH={CHECKOUT}']", max_parallel=64,
    )  # fmt: skip
    asked(log)
    scale.submit("submit, to run", f"profile={ready}", per_task)
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
    assert "nothing to submit" in scale.submit("submit again, all done", f"profile={ready}", per_task)
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


def start(folder: Path, runs: int, held_per_task: int, runs_per_task: int, max_array_size: int) -> Scale:
    """Both ways in `folder` on the testbed."""
    data = folder / "data"
    write_stand_in(data)
    # As the README says to: or a job that prepares would stand before the arrays.
    places = (f"data={data}", f"packs={folder / 'packs'}")
    prepare = [sys.executable, str(CHECKOUT / "jobs/prepare.py"), "weights=none", *places]
    prepare.append(f"max_images={OVERRIDES['max_images']}")
    subprocess.run(prepare, check=True)
    configurations = len(expand(THE_REPORT.select(), (0,), StudySettings(overrides=OVERRIDES)))
    seeds = max(1, runs // configurations)
    overrides = (f"{name}={value}" for name, value in OVERRIDES.items())
    words = ("section=all", *overrides, f"seeds={seeds}", *places)
    path, log = counting(folder)
    scale = Scale(folder, seeds * configurations, words, path)
    queue_and_cancel(scale, log, held_per_task)
    run_to_the_end(scale, log, runs_per_task, max_array_size)
    return scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="runs=10000 held_per_task=2 runs_per_task=20 max_array_size=101")
    given = dict(word.split("=", 1) for word in parser.parse_args().words)
    values = {"runs": 10_000, "held_per_task": 2, "runs_per_task": 20, "max_array_size": 101}
    values |= {name: int(value) for name, value in given.items()}
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    print(f"in {folder}, which stays if anything is not as it should be", flush=True)
    scale = start(folder, **values)
    shutil.rmtree(folder)
    print(f"{scale.runs:,} runs, each with one result")


if __name__ == "__main__":
    main()
