"""One command for a whole study, on this machine: images first, report last; and ending it half-way."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from caltech_exp.executors.local import is_alive
from caltech_exp.monitoring.logs import log_path
from caltech_exp.study.folder import StudyFolder
from caltech_exp.submission.snapshot import snapshots_folder
from tests.conftest import Command, Disk, longer, manifests, slowed
from tests.tools.testbed import until


def test_images_first_report_last_and_again_the_report_alone(
    submit: Command, status: Command, small: tuple[str, ...], small_disk: Disk, tmp_path: Path
) -> None:
    runs, report = tmp_path / "my runs", tmp_path / "the report"
    words = (*small, "seeds=2", "profile=demo", f"packs={tmp_path / 'packs'}", f"runs={runs}", "aggregate=true")
    done = submit(*words, f"out={report}", "wait=true")
    assert done.returncode == 0, done.stderr
    assert "queued prepare.my-runs: 3 packs of images, before the runs" in done.stdout
    assert f"report: {report / 'report.md'}, written " in done.stdout
    assert "resnet" in (report / "report.md").read_text()
    (submission,) = runs.glob("submissions/2*")
    jobs = json.loads((submission / "queue.json").read_text())["jobs"]
    assert list(jobs) == ["local-preparation", "local-0", "local-1", "local-aggregation"]
    logs = {name: (submission / f"{job}_0_log.out").read_text() for name, job in jobs.items()}
    assert logs["local-preparation"].count("packed 4 images of ") == 3
    assert "packed" not in logs["local-0"]
    (manifest,) = StudyFolder(runs).manifests()
    assert [log_path(StudyFolder(runs), manifest, task) for task in manifest.tasks] == [
        submission / f"{jobs[name]}_0_log.out" for name in ("local-0", "local-1")
    ]
    assert json.loads((submission / "environment.json").read_text())["packages"]["submitit"]
    code = json.loads(next(runs.glob("*/result.json")).read_text())["code"]
    assert (snapshots_folder(runs) / code["source"] / "caltech_exp" / "submission" / "tasks.py").is_file()

    small_disk.fill()
    full = submit(*words, f"out={small_disk.path}", "wait=true")
    assert full.returncode == 1
    assert "nothing to submit" in full.stdout
    assert "queued aggregate.my-runs: now, report in " in full.stdout
    assert "report: failed: " in full.stderr
    told = status(f"runs={runs}").stdout.splitlines()[-1]
    assert told.startswith(f"report: failed: out={small_disk.path} cannot be written (")
    assert "No space left on device" in told
    log = Path(told.rpartition("(log: ")[2].rstrip(")"))
    assert "No space left on device" in log.with_suffix(".err").read_text()


def test_a_study_is_ended_half_way_and_goes_on(
    submit: Command,
    cancel: Command,
    status: Command,
    small: tuple[str, ...],
    one_slot: Path,
    brake: Path,
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    # Three commands come before the end: they may take long on a busy machine.
    words = (*slowed(small, 60), f"profile={one_slot}", f"runs={runs}", "aggregate=true", "out=the report")
    assert submit(*words, "seeds=2").returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob("*/progress.json")))
    assert cancel(f"runs={runs}", "dry_run=true").stdout == "would cancel 3 jobs, 2 runs on this machine\n"
    assert cancel(f"runs={runs}", "table=scratch.lr").stdout.startswith("nothing to cancel: ")
    ended = cancel(f"runs={runs}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "cancelled 3 jobs, 2 runs on this machine\n"
    (submission,) = runs.glob("submissions/2*")
    until(lambda: not is_alive(submission), 5)
    assert len(list(runs.glob("*/checkpoint.pt"))) == 1
    told = status(f"runs={runs}").stdout
    assert "report: its job was cancelled or died" in told
    assert told.count("\ncancelled ") == 2
    assert "2 runs were cancelled; submit without retry=failed to train them" in told
    assert json.loads(status(f"runs={runs}", "json=true").stdout)["counts"]["cancelled"] == 2
    assert cancel(f"runs={runs}").stdout == f"nothing to cancel: no job of {runs} is in a queue\n"

    retry = submit(*words, "seeds=2", "retry=failed", "dry_run=true").stdout
    assert "nothing to submit: all 2 runs are cancelled" in retry
    assert "2 runs were cancelled; submit without retry=failed to train them" in retry
    brake.unlink()
    again = submit(*words, "seeds=1", "wait=true")
    assert again.returncode == 0, again.stderr
    assert "1 run of 1 configuration: 1 cancelled" in again.stdout
    (result,) = [json.loads(path.read_text()) for path in runs.glob("*/result.json")]
    assert result["attempts"] == 2
    assert (tmp_path / "the report" / "report.md").is_file()


@pytest.mark.usefixtures("brake")
def test_only_runs_of_a_table_are_ended_and_a_later_report_takes_the_place_of_one_that_waits(
    submit: Command, cancel: Command, small: tuple[str, ...], one_slot: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (f"profile={one_slot}", f"runs={runs}", "aggregate=true")
    assert submit(*slowed(small, 60), "seeds=1", *words).returncode == 0
    there = submit(*slowed(small, 60), "seeds=1", *words)
    assert "the report is on its way already: " in there.stdout
    assert len(manifests(runs)) == 1
    more = submit("table=scratch.template", *slowed(small, 60)[1:], "seeds=1", *words)
    assert more.returncode == 0, more.stderr
    assert "replaced aggregate.runs: job local-aggregation" in more.stdout
    first, second = sorted(runs.glob("submissions/2*"))
    ended = cancel(f"runs={runs}", "table=scratch.template")
    assert ended.stdout == "cancelled 1 job, 1 run on this machine\n"
    assert is_alive(first)
    assert is_alive(second)  # its report waits for the first
    assert cancel(f"runs={runs}").stdout == "cancelled 2 jobs, 1 run on this machine\n"
    until(lambda: not is_alive(first) and not is_alive(second), 5)


@pytest.mark.usefixtures("brake")
def test_tasks_whose_queue_was_killed_are_ended_and_nobody_elses(
    submit: Command, cancel: Command, small: tuple[str, ...], one_slot: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    studies = [tmp_path / "runs", tmp_path / "other" / "runs"]
    for runs in studies:
        # The first one still trains when the second one has begun.
        assert submit(*slowed(small, 500), "seeds=1", f"profile={one_slot}", f"runs={runs}").returncode == 0
    until(
        lambda: all(any('"epoch": 1' in p.read_text() for p in runs.glob("*/progress.json")) for runs in studies)
    )
    mine, other = (next(runs.glob("submissions/2*")) for runs in studies)
    for number in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        if command_line(number)[-2:] == ["caltech_exp.executors.local_worker", str(mine)]:
            os.kill(number, signal.SIGKILL)
    until(lambda: not is_alive(mine))
    ended = cancel(f"runs={tmp_path / 'link'}")
    assert ended.stdout == f"cancelled the remaining tasks of {mine.name}, whose queue process has died\n"
    until(lambda: bool(list((tmp_path / "runs").glob("*/checkpoint.pt"))))
    until(lambda: cancel(f"runs={tmp_path / 'runs'}").stdout.startswith("nothing to cancel"))
    assert is_alive(other)
    assert "cancelled 1 job, 1 run" in cancel(f"runs={studies[1]}").stdout


def test_a_purge_of_the_snapshot_fails_what_waits_and_the_same_command_goes_on(
    submit: Command, status: Command, small: tuple[str, ...], one_slot: Path, brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (*slowed(small, 60), f"profile={one_slot}", f"runs={runs}", "seeds=2")
    assert submit(*words).returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob("*/progress.json")))
    (snapshot,) = snapshots_folder(runs).iterdir()
    shutil.rmtree(snapshot / "caltech_exp")
    brake.unlink()
    (submission,) = runs.glob("submissions/2*")
    until(lambda: not is_alive(submission))
    assert len(list(runs.glob("*/result.json"))) == 1  # what it runs, the first task has in memory
    told = status(f"runs={runs}", "failed=true").stdout
    assert f": snapshot {snapshot}: caltech_exp/bootstrap.py is missing or was changed; submit again, " in told
    again = submit(*words, "wait=true")
    assert again.returncode == 0, again.stderr
    assert "2 runs of 1 configuration: 1 finished, 1 failed" in again.stdout
    assert [path.name for path in snapshots_folder(runs).iterdir()] == [snapshot.name]


def command_line(number: int) -> list[str]:
    try:
        return Path(f"/proc/{number}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=x"], "out=x is the report's folder, but no report is asked for; add aggregate=true"),
        (["aggregate=true", "out=FILE"], "is a file; give another folder"),
        (["aggregate=true", "out=FILE/x"], "is a file; give another folder"),
        (["aggregate=perhaps"], "aggregate=perhaps: "),
    ],
)
def test_reports_that_cannot_be(
    words: list[str], message: str, submit: Command, small: tuple[str, ...], untouched: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    given = [word.replace("FILE", str(tmp_path / "file")) for word in words]
    done = submit(*small, *given, "profile=demo", f"runs={untouched}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_nothing_is_cancelled_where_there_is_no_study(cancel: Command, tmp_path: Path) -> None:
    done = cancel(f"runs={tmp_path}")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: runs={tmp_path} holds no study; submit one with jobs/submit.py, or name another folder\n"
    )
    assert cancel("section=trasnfer", f"runs={tmp_path}").returncode == 2


def test_two_runs_at_once_have_the_bits_of_one_at_a_time_and_a_killed_one_goes_on(
    submit: Command, status: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*longer(small, 6), "seeds=2", "runs_per_task=2", "profile=demo")
    two = tmp_path / "two"
    begun = submit(*words, "runs_at_once=2", "profile.cpus_per_task=2", f"runs={two}")
    assert begun.returncode == 0, begun.stderr
    until(lambda: len(list(two.glob("*/checkpoint.pt"))) + len(list(two.glob("*/progress.json"))) >= 2)
    (log,) = two.glob("submissions/2*/*_0_log.out")
    killed, process = re.findall(r"run (\S+-s0): process (\d+), log ", log.read_text())[0]
    shown = json.loads(status(f"runs={two}", "json=true").stdout)
    os.kill(int(process), signal.SIGKILL)
    assert submit(*words, f"runs={two}", "wait=true").returncode == 0
    assert "runs at a time: 2; CPU threads each: 1" in log.read_text()
    assert f"run {killed}: killed by SIGKILL\nrun {killed} starts again" in log.read_text()
    own = log.with_name(log.name.replace("_0_", f"_{killed}_"))
    assert "epoch 6/6" in own.read_text()
    assert f"\nlog       {own}\n" in status(f"runs={two}", f"run={killed}").stdout
    assert killed in str(shown)

    one = tmp_path / "one"
    assert submit(*words, f"runs={one}", "wait=true").returncode == 0
    for path in one.glob("*/result.json"):
        first, second = (json.loads(each.read_text()) for each in (path, two / path.relative_to(one)))
        assert first["threads"] == second["threads"] == 1
        assert second["attempts"] == (2 if path.parent.name == killed else 1)
        for result in (first, second):
            for epoch in result["epochs"]:
                del epoch["seconds"]
        names = ("epochs", "first_loss", "test_loss", "val_confusion", "test_confusion")
        assert [first[name] for name in names] == [second[name] for name in names]


def test_max_failures_cancels_what_is_queued_and_starts_nothing_more(
    submit: Command, status: Command, small: tuple[str, ...], one_slot: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    data = Path(shutil.copytree(small[-1].removeprefix("data="), tmp_path / "data"))
    words = (*small[:-1], f"data={data}", f"profile={one_slot}", f"runs={runs}", f"packs={tmp_path / 'packs'}")
    assert submit(*words, "seeds=1", "wait=true").returncode == 0
    (done,) = runs.glob("*/result.json")
    # A folder where a result should go: writing it fails, as on a broken disk.
    for seed in (1, 2):
        (runs / done.parent.name.replace("-s0", f"-s{seed}") / "result.json").mkdir(parents=True)
    ended = submit(*words, "seeds=6", "max_failures=2", "wait=true")
    assert ended.returncode == 1
    counts = json.loads(status(f"runs={runs}", "json=true").stdout)["counts"]
    assert (counts["finished"], counts["cancelled"]) == (1, 3)
    logs = "".join(path.read_text() for path in runs.glob("submissions/2*/*_0_log.out"))
    reason = "2 runs of the submission failed (max_failures=2)"
    assert f"{reason}: 3 queued tasks are cancelled" in logs
    text = status(f"runs={runs}").stdout
    assert f"3 runs were cancelled because {reason}; submit without retry=failed to train them" in text
    assert text.count(f": {reason}") == 3
    for seed in (1, 2):
        (runs / done.parent.name.replace("-s0", f"-s{seed}") / "result.json").rmdir()
    # What failed before does not count against a new submission.
    assert submit(*words, "seeds=6", "runs_per_task=5", "max_failures=2", "wait=true").returncode == 0
    assert len(list(runs.glob("*/result.json"))) == 6
