"""The source that tasks run: what was submitted, whatever becomes of the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.errors import UserError
from caltech_exp.provenance import CodeVersion, code_version
from jobs.snapshot import SOURCES, check_python_path, python_path, take_snapshot

CODE = CodeVersion(version="0.1.0", commit="a" * 40, dirty=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small one."""
    for package in ("caltech_exp", "jobs", "reports"):
        (tmp_path / "checkout" / package).mkdir(parents=True)
        (tmp_path / "checkout" / package / "__init__.py").write_text("")
    (tmp_path / "checkout" / "reports" / "web").mkdir()
    (tmp_path / "checkout" / "reports" / "web" / "page.css").write_text("x")
    return tmp_path / "checkout"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_snapshot_is_shared_until_the_code_changes(checkout: Path, tmp_path: Path) -> None:
    first = take_snapshot(tmp_path, CODE, checkout)
    assert first.new
    assert first.folder == tmp_path / SOURCES / str(first.code.source)
    packages = {f"{package}/__init__.py" for package in ("caltech_exp", "jobs", "reports")}
    assert files(first.folder) == {*packages, "reports/web/page.css", "snapshot.json"}
    # What an editor and Python leave in a checkout is no change, nor what Python compiles in a snapshot.
    (checkout / "jobs" / ".submit.py.swp").write_text("half a line")
    for place in (checkout, first.folder):
        (place / "jobs" / "__pycache__").mkdir()
        (place / "jobs" / "__pycache__" / "submit.pyc").write_text("")
    again = take_snapshot(tmp_path, CODE, checkout)
    assert (again.folder, again.code, again.new) == (first.folder, first.code, False)

    (checkout / "jobs" / "task.py").write_text("# changed")
    changed = take_snapshot(tmp_path, CODE, checkout)
    committed = take_snapshot(tmp_path, CODE.model_copy(update={"commit": "b" * 40, "dirty": False}), checkout)
    assert len({first.folder, changed.folder, committed.folder}) == 3
    assert len(list((tmp_path / SOURCES).iterdir())) == 3


def test_a_snapshot_that_was_changed_is_refused(checkout: Path, tmp_path: Path) -> None:
    snapshot = take_snapshot(tmp_path, CODE, checkout)
    file = snapshot.folder / "jobs" / "__init__.py"
    assert file.stat().st_mode & 0o222 == 0
    file.unlink()
    file.write_text("# mended on the cluster")
    with pytest.raises(UserError, match=rf"the snapshot {snapshot.folder} was changed; remove it once no job"):
        take_snapshot(tmp_path, CODE, checkout)


def test_a_new_snapshot_can_be_forgotten(checkout: Path, tmp_path: Path) -> None:
    take_snapshot(tmp_path, CODE, checkout).forget()
    assert not (tmp_path / SOURCES).exists()
    take_snapshot(tmp_path, CODE, checkout)
    take_snapshot(tmp_path, CODE, checkout).forget()
    assert len(list((tmp_path / SOURCES).iterdir())) == 1


def test_code_run_from_a_snapshot_says_so_and_comes_before_an_installed_one(tmp_path: Path) -> None:
    snapshot = take_snapshot(tmp_path, code_version())
    code = (
        "import jobs; from caltech_exp.provenance import code_version; print(jobs.__file__, code_version().source)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(snapshot.folder), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(snapshot.folder / "jobs" / "__init__.py"), snapshot.folder.name]


def test_what_a_code_version_tells() -> None:
    assert str(CODE) == "0.1.0 (aaaaaaaaaaaa, uncommitted changes)"
    named = CODE.model_copy(update={"source": "0123456789abcdef"})
    assert str(named) == "0.1.0 (aaaaaaaaaaaa, uncommitted changes, source 0123456789ab)"
    assert str(named.model_copy(update={"dirty": False})) == "0.1.0 (aaaaaaaaaaaa)"
    assert str(named.model_copy(update={"commit": None, "dirty": None})) == (
        "0.1.0 (no git checkout, source 0123456789ab)"
    )


@pytest.mark.parametrize(("before", "after"), [(None, "/code"), ("", "/code"), ("/a:/b", "/code:/a:/b")])
def test_the_source_comes_first_on_pythonpath_and_the_rest_stays(
    before: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    assert python_path(Path("/code")) == after


def test_a_folder_that_python_path_cannot_name_is_refused(tmp_path: Path) -> None:
    check_python_path(tmp_path)
    with pytest.raises(UserError, match=r"PYTHONPATH cannot hold ':'; use another name"):
        check_python_path(tmp_path / "12:30")
