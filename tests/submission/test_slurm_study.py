"""One command for a whole study on a real Slurm; what ends it; and the code that its tasks run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.submission.log_limit import OMITTED
from tests.conftest import CHECKOUT, Command, manifests, slowed
from tests.tools.testbed import profile, queue, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def dependency(job: str) -> str:
    """What a job in the queue waits for."""
    found = re.search(r"Dependency=(\S+)", slurm("scontrol", "show", "job", job))
    assert found
    return found[1]


def names() -> list[str]:
    return sorted(name for _, name in queue())


def test_one_command_from_images_to_report(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    runs, report = tmp_path / "my runs", tmp_path / "report"
    # What the profile's own lines print lands in the task's log, which is cut to 50 kB.
    wordy = profile(tmp_path, log_mb=0.05, setup="[yes a line | head -c 200000]", cpu_jobs="{mem_gb: 1}")
    words = (
        *small,
        "seeds=2",
        f"profile={wordy}",
        f"packs={tmp_path / 'packs'}",
        f"runs={runs}",
        "aggregate=true",
    )
    done = submit(*words, f"out={report}", "wait=true")
    assert done.returncode == 0, done.stderr
    assert f"report: {report / 'report.md'}, written " in done.stdout
    assert (report / "report.html").is_file()
    (manifest,) = manifests(runs)
    folder = runs / "submissions" / str(manifest["id"])
    preparation, aggregation = manifest["preparation"], manifest["aggregation"]
    assert (preparation["name"], aggregation["name"]) == ("prepare.my-runs", "aggregate.my-runs")  # type: ignore[index]
    packed = (folder / f"{preparation['job']}_0_log.out").read_text()  # type: ignore[index]
    assert packed.count("packed 4 images of ") == 3
    log = (folder / f"{manifest['tasks'][0]['job']}_0_log.out").read_bytes()  # type: ignore[index]
    assert len(log) < 50_000
    assert OMITTED.search(log)
    assert log.startswith(b"a line\n")
    assert b"finished, validation accuracy" in log
    asked = slurm("sacct", "--noheader", "--allocations", "--format=ReqTRES", f"--jobs={aggregation['job']}")  # type: ignore[index]
    assert "gpu" not in asked


def test_a_report_waits_for_everything_and_a_study_is_cancelled_alone(
    submit: Command, cancel: Command, status: Command, small: tuple[str, ...], held: Path, tmp_path: Path
) -> None:
    runs, other = tmp_path / "runs", tmp_path / "other" / "runs"
    packs = f"packs={tmp_path / 'packs'}"
    words = (*small, f"profile={held}", packs, "aggregate=true")
    assert submit(*words, "seeds=2", f"runs={other}").returncode == 0
    theirs = {job for job, _ in queue()}
    assert submit(*words, "seeds=2", f"runs={runs}").returncode == 0
    assert names() == 2 * ["aggregate.runs"] + 2 * ["prepare.runs"] + 4 * ["resnet.runs"]
    (first,) = manifests(runs)
    array = first["tasks"][0]["job"].partition("_")[0]  # type: ignore[index]
    assert dependency(f"{array}_0") == f"afterany:{first['preparation']['job']}(unfulfilled)"  # type: ignore[index]
    assert dependency(first["aggregation"]["job"]) == f"afterany:{array}_*(unfulfilled)"  # type: ignore[index]

    assert "the report is on its way already" in submit(*words, "seeds=2", f"runs={runs}").stdout
    more = submit(*words, "seeds=3", f"runs={runs}")
    assert f"replaced aggregate.runs: job {first['aggregation']['job']}" in more.stdout  # type: ignore[index]
    _, second = manifests(runs)
    single = second["tasks"][0]["job"]  # type: ignore[index]
    waits = dependency(second["aggregation"]["job"])  # type: ignore[index]
    assert sorted(waits.split(",")) == sorted(
        [f"afterany:{array}_*(unfulfilled)", f"afterany:{single}(unfulfilled)"]
    )
    assert names().count("aggregate.runs") == 2
    assert "report: will be written to " in status(f"runs={runs}").stdout

    mine = {job for job, _ in queue()} - theirs
    dry = cancel(f"runs={runs}", "dry_run=true").stdout
    assert dry.startswith("would cancel 5 jobs, 3 runs on Slurm: ")
    assert cancel(f"runs={runs}", "section=scratch").stdout.startswith("nothing to cancel")
    assert len(mine) == 5
    assert cancel(f"runs={runs}", "table=resnet.batch_256").stdout.startswith(
        "cancelled 3 jobs, 3 runs on Slurm: "
    )
    until(lambda: len({job for job, _ in queue()} - theirs) <= 2)
    assert cancel(f"runs={runs}").returncode == 0
    until(lambda: {job for job, _ in queue()} == theirs)
    assert cancel(f"runs={runs}").stdout == f"nothing to cancel: no job of {runs} is in a queue\n"


def test_a_run_that_was_cancelled_goes_on_with_the_same_command(
    submit: Command, cancel: Command, small: tuple[str, ...], brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 60), "seeds=1", f"profile={profile(tmp_path)}", f"runs={runs}")
    assert submit(*words).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob("*/progress.json")))
    assert cancel(f"runs={runs}").stdout.startswith("cancelled 1 job, 1 run on Slurm: ")
    until(lambda: bool(list(runs.glob("*/checkpoint.pt"))) and not queue())
    brake.unlink()
    again = submit(*words, "wait=true")
    assert again.returncode == 0, again.stderr
    (result,) = (json.loads(path.read_text()) for path in runs.glob("*/result.json"))
    assert result["attempts"] == 2


def test_jobs_run_the_code_that_was_submitted(small: tuple[str, ...], held: Path, tmp_path: Path) -> None:
    checkout, runs = tmp_path / "checkout", tmp_path / "runs"
    for package in ("caltech_exp", "jobs", "reports"):
        shutil.copytree(CHECKOUT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(checkout), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"]):
        subprocess.run([*git, *words], check=True)
    train = checkout / "caltech_exp" / "training" / "loop.py"
    train.write_text(train.read_text() + "# not committed\n")
    command = [sys.executable, str(checkout / "jobs" / "submit.py"), *small, "seeds=1", f"profile={held}"]
    subprocess.run([*command, f"runs={runs}"], cwd=tmp_path, check=True, capture_output=True)
    train.write_text("raise SystemExit('edited while the job waited')\n")
    ((job, _),) = queue()
    slurm("scontrol", "release", job)
    until(lambda: bool(list(runs.glob("*/result.json"))))
    code = json.loads(next(runs.glob("*/result.json")).read_text())["code"]
    (snapshot,) = (runs / "sources" / str(os.getuid())).iterdir()
    assert (code["dirty"], code["source"]) == (True, snapshot.name)
    assert (
        code["commit"]
        == subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    )
    assert (snapshot / "caltech_exp" / "training" / "loop.py").read_text().endswith("# not committed\n")


def test_where_no_job_may_do_without_a_gpu_the_runs_decode_the_images(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    nowhere = profile(tmp_path, sbatch="{hold: true}", cpu_jobs="{sbatch: {reservation: nowhere}}")
    words = (*small, "seeds=2", f"profile={nowhere}", f"packs={tmp_path / 'packs'}", f"runs={tmp_path / 'runs'}")
    done = submit(*words)
    assert done.returncode == 0, done.stderr
    assert "sbatch refused the array prepare.runs: " in done.stdout
    assert "queued prepare.runs" not in done.stdout
    assert names() == ["resnet.runs", "resnet.runs"]
    asked = submit(*words, "aggregate=true")
    assert asked.returncode == 2
    assert "sbatch refused the array aggregate.runs: " in asked.stderr
    assert names() == ["resnet.runs", "resnet.runs"]
    assert len(manifests(tmp_path / "runs")) == 1
