"""Several runs at once in a task of a real Slurm: a kill, a requeue, resources by section, too many failures."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.conftest import Command, slowed
from tests.tools.shapes import write_shapes
from tests.tools.testbed import profile, queue, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def results(runs: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]


def test_one_of_two_is_killed_and_both_are_requeued_and_end(
    submit: Command, small: tuple[str, ...], brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 200), "seeds=2", "runs_at_once=2", f"runs={runs}")
    begun = submit(*words, f"profile={profile(tmp_path, cpus_per_task=2)}")
    assert begun.returncode == 0, begun.stderr
    assert "queued resnet.runs: 1 task, 2 runs" in begun.stdout
    until(lambda: len(list(runs.glob("*/progress.json"))) == 2)
    (log,) = runs.glob("submissions/2*/*_0_log.out")
    name, process = re.findall(r"run (\S+-s1): process (\d+), log ", log.read_text())[0]
    os.kill(int(process), signal.SIGKILL)
    until(lambda: f"run {name} starts again" in log.read_text())
    ((job, _),) = queue()
    slurm("scancel", "--signal=USR2", job)
    until(lambda: "Restarts=1" in slurm("scontrol", "show", "job", job))
    brake.unlink()
    until(lambda: len(results(runs)) == 2, 400)
    attempts = {str(result["run_id"]): result["attempts"] for result in results(runs)}
    assert attempts == {name: 2, name.replace("-s1", "-s0"): 2}  # it waited for a place: memory may have been out
    assert {result["threads"] for result in results(runs)} == {1}


def test_sections_ask_for_their_own_resources(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    sections = "{resnet: {time_minutes: 7, mem_gb: 2}}"
    chosen = profile(tmp_path, sections=sections, sbatch="{hold: true}")
    done = submit(*small, "seeds=1", f"profile={chosen}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    assert slurm("squeue", "--noheader", "--format=%l %m").split() == ["7:00", "2G"]


def test_max_failures_cancels_what_waits(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = (*small, f"profile={profile(tmp_path, max_parallel=1)}", f"runs={runs}")
    assert submit(*words, "seeds=1", "wait=true").returncode == 0
    (first,) = runs.glob("*/result.json")
    # A folder where a result should go: writing it fails, as on a broken disk.
    (runs / first.parent.name.replace("-s0", "-s1") / "result.json").mkdir(parents=True)
    ended = submit(*words, "seeds=5", "max_failures=1", "wait=true")
    assert ended.returncode == 1
    assert ended.stderr.count(" cancelled: ") == 3
    logs = "".join(path.read_text() for path in runs.glob("submissions/2*/*_0_log.out"))
    assert "1 run of the submission failed (max_failures=1): 3 queued tasks are cancelled" in logs


def test_own_data_trains_side_by_side_and_once_more(
    submit: Command, status: Command, compare: Command, tmp_path: Path
) -> None:
    data = write_shapes(tmp_path / "shapes", 6)
    words = (
        *("table=scratch.lr=5e-2,scratch.lr=1e-2", "seeds=1", "weights=none", "model=resnet18", "epochs=6"),
        *("batch_size=4", "workers=0", "precision=fp32", f"data={data}", "split=0.3", "runs_at_once=2"),
        *(f"profile={profile(tmp_path, cpus_per_task=2)}", f"runs={tmp_path / 'runs'}"),
    )
    assert submit(*words, "wait=true").returncode == 0
    begun = submit(*words, "retry=finished")
    assert begun.returncode == 0, begun.stderr
    both = r"^trained again: \S+ \(\S+\) running, .*; \S+ \(\S+\) running, "
    until(lambda: bool(re.search(both, status(f"runs={tmp_path / 'runs'}").stdout, re.MULTILINE)))
    until(lambda: not queue(), 400)
    equal = compare(f"first={tmp_path / 'runs'}")
    assert equal.stdout.startswith("2 of 2 runs that were trained again are equal to the bit"), equal.stderr
