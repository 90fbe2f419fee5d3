"""Runs folders on disks that are full, or that may only be read."""

import shutil
from pathlib import Path

from tests.conftest import Command, Disk


def test_a_full_disk_is_told_nothing_is_queued_and_with_room_it_goes_on(
    submit: Command, small: tuple[str, ...], small_disk: Disk
) -> None:
    runs = small_disk.path / "runs"
    words = (*small, "seeds=1", "profile=demo", f"runs={runs}", "wait=true")
    filler = small_disk.fill()
    full = submit(*words)
    assert full.returncode == 2
    assert (
        full.stderr
        == f"error: runs folder {runs} cannot be written (No space left on device); use another runs= folder\n"
    )
    assert not list(runs.glob("submissions/2*"))
    assert not (runs / "study.json").exists()
    filler.unlink()
    small_disk.change("size=32m")
    assert submit(*words).returncode == 0
    assert len(list(runs.glob("*/result.json"))) == 1


def test_a_disk_that_may_only_be_read_is_told_and_what_is_there_can_be_seen(
    submit: Command, aggregate: Command, small: tuple[str, ...], trained: Path, small_disk: Disk, tmp_path: Path
) -> None:
    small_disk.change("size=32m")
    runs = Path(shutil.copytree(trained, small_disk.path / "runs"))
    words = (*small, "profile=demo", f"runs={runs}")
    small_disk.change("ro")
    more = submit(*words, "seeds=2")
    assert more.returncode == 2
    assert "cannot be written (Read-only file system); use another runs=" in more.stderr
    assert more.stderr.count("\n") == 1
    assert "1 finished, 1 pending" in submit(*words, "seeds=2", "dry_run=true").stdout
    assert aggregate(f"runs={runs}", f"out={tmp_path / 'report'}").returncode == 0


def test_a_report_that_does_not_fit_leaves_the_one_before(
    submit: Command, aggregate: Command, small: tuple[str, ...], small_disk: Disk, tmp_path: Path
) -> None:
    small_disk.change("size=32m")
    runs, out = tmp_path / "runs", small_disk.path / "report"
    words = ("seeds=2", "runs_per_task=2", "profile=demo", f"runs={runs}", "wait=true")
    assert submit(*small, *words).returncode == 0
    result = next(runs.glob("*/result.json"))
    later = result.rename(tmp_path / "later.json")
    assert aggregate(f"runs={runs}", f"out={out}").returncode == 0
    before = (out / "report.md").read_bytes()
    small_disk.fill()
    later.rename(result)
    full = aggregate(f"runs={runs}", f"out={out}")
    assert full.returncode == 2
    assert "No space left on device" in full.stderr
    assert full.stderr.count("\n") == 1
    assert (out / "report.md").read_bytes() == before
    (small_disk.path / "filler").unlink()
    assert aggregate(f"runs={runs}", f"out={out}").returncode == 0
    assert (out / "report.md").read_bytes() != before
