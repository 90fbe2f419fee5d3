"""The source that tasks run: what was submitted, whatever becomes of the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.provenance import CodeVersion, code_version
from caltech_exp.submission.snapshot import snapshots_folder, take_snapshot

CODE = CodeVersion(version="0.1.0", commit="a" * 40, dirty=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small one."""
    for package in ("caltech_exp", "caltech_exp/study", "caltech_exp/reporting"):
        (tmp_path / "checkout" / package).mkdir(parents=True)
        (tmp_path / "checkout" / package / "__init__.py").write_text("")
    (tmp_path / "checkout" / "caltech_exp" / "reporting" / "web").mkdir()
    (tmp_path / "checkout" / "caltech_exp" / "reporting" / "web" / "page.css").write_text("x")
    return tmp_path / "checkout"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_snapshot_is_shared_until_the_code_changes(checkout: Path, tmp_path: Path) -> None:
    first = take_snapshot(tmp_path, CODE, checkout)
    assert first.new
    assert first.folder == snapshots_folder(tmp_path) / str(first.code.source)
    packages = {
        f"{package}/__init__.py" for package in ("caltech_exp", "caltech_exp/study", "caltech_exp/reporting")
    }
    assert files(first.folder) == {
        *packages,
        "caltech_exp/reporting/web/page.css",
        "snapshot.json",
        "files.sha256",
    }
    subprocess.run(["sha256sum", "--quiet", "-c", "files.sha256"], cwd=first.folder, check=True)
    # What an editor and Python leave in a checkout is no change, nor what Python compiles in a snapshot.
    (checkout / "caltech_exp" / "study" / ".submit.py.swp").write_text("half a line")
    for place in (checkout, first.folder):
        (place / "caltech_exp" / "study" / "__pycache__").mkdir()
        (place / "caltech_exp" / "study" / "__pycache__" / "submit.pyc").write_text("")
    again = take_snapshot(tmp_path, CODE, checkout)
    assert (again.folder, again.code, again.new) == (first.folder, first.code, False)

    (checkout / "caltech_exp" / "study" / "task.py").write_text("# changed")
    changed = take_snapshot(tmp_path, CODE, checkout)
    committed = take_snapshot(tmp_path, CODE.model_copy(update={"commit": "b" * 40, "dirty": False}), checkout)
    assert len({first.folder, changed.folder, committed.folder}) == 3
    assert len(list(snapshots_folder(tmp_path).iterdir())) == 3


def test_a_new_snapshot_can_be_forgotten(checkout: Path, tmp_path: Path) -> None:
    take_snapshot(tmp_path, CODE, checkout).forget()
    assert not (tmp_path / "sources").exists()
    take_snapshot(tmp_path, CODE, checkout)
    take_snapshot(tmp_path, CODE, checkout).forget()
    assert len(list(snapshots_folder(tmp_path).iterdir())) == 1


def test_code_run_from_a_snapshot_says_so(tmp_path: Path) -> None:
    snapshot = take_snapshot(tmp_path, code_version())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    (tmp_path / "show.py").write_text(
        "import caltech_exp; from caltech_exp.provenance import code_version\n"
        "print(caltech_exp.__file__, code_version().source)"
    )
    done = subprocess.run(
        [sys.executable, *snapshot.command("show")], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(snapshot.folder / "caltech_exp" / "__init__.py"), snapshot.folder.name]


def test_what_a_code_version_tells() -> None:
    assert str(CODE) == "0.1.0 (aaaaaaaaaaaa, uncommitted changes)"
    named = CODE.model_copy(update={"source": "0123456789abcdef"})
    assert str(named) == "0.1.0 (aaaaaaaaaaaa, uncommitted changes, source 0123456789ab)"
    assert str(named.model_copy(update={"dirty": False})) == "0.1.0 (aaaaaaaaaaaa)"
    assert str(named.model_copy(update={"commit": None, "dirty": None})) == (
        "0.1.0 (no git checkout, source 0123456789ab)"
    )
