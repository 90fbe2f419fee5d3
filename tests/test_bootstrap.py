"""How a job's process starts: on the code of its snapshot, every file of it, or not at all."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from caltech_exp import bootstrap
from caltech_exp.cli import UserError
from caltech_exp.provenance import CodeVersion, Snapshot
from caltech_exp.submission.snapshot import take_snapshot
from tests.conftest import CHECKOUT

CODE = CodeVersion(version="0.1.0", commit="a" * 40, dirty=False)
SHOW = """
import caltech_exp, sys
from pathlib import Path
print(caltech_exp.WHO, Path(caltech_exp.__file__).name, sys.argv[1:], flush=True)
"""
POOL = """
import multiprocessing, shutil, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from caltech_exp.jobs.who import who

if __name__ == "__main__":
    shutil.rmtree(Path(__file__).parent)  # what was verified is in memory
    with ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[1])) as pool:
        print(pool.submit(who).result())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small one, with the real bootstrap."""
    return small_checkout(tmp_path / "checkout", "snapshot")


def small_checkout(folder: Path, who: str) -> Path:
    for package in ("caltech_exp", "caltech_exp/jobs", "caltech_exp/reports"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"WHO = {who!r}\n")
    shutil.copy(CHECKOUT / bootstrap.THIS, folder / bootstrap.THIS)
    (folder / "caltech_exp/jobs" / "show.py").write_text(SHOW)
    (folder / "caltech_exp/jobs" / "pool.py").write_text(POOL)
    (folder / "caltech_exp/jobs" / "who.py").write_text(
        "import caltech_exp\ndef who():\n    return caltech_exp.WHO\n"
    )
    (folder / "caltech_exp/reports" / "page.css").write_text("x")
    return folder


@pytest.fixture
def taken(checkout: Path, tmp_path: Path) -> Snapshot:
    return take_snapshot(tmp_path / "runs", CODE, checkout)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """An edited checkout that everything else would find: PYTHONPATH, and an editable install's finder."""
    folder = small_checkout(tmp_path / "live", "live")
    (folder / "caltech_exp/jobs" / "later.py").write_text("print('a module of the live checkout')\n")
    finder = f"""
import sys
from importlib.machinery import PathFinder
class Editable:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return PathFinder.find_spec(name, path or [{str(folder)!r}])
sys.meta_path.insert(0, Editable)
import caltech_exp.jobs
"""
    (folder / "sitecustomize.py").write_text(finder)
    return folder


def start(
    taken: Snapshot, *words: str, path: Path | None = None, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    """Run a module of the snapshot in a process of its own, in a folder full of other code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SUBMITIT"))}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    return subprocess.run(
        [sys.executable, *taken.command(*words)],
        cwd=path,
        env={**environment, "PYTHONSAFEPATH": "1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_nothing_but_the_snapshot_answers_for_its_packages(taken: Snapshot, live: Path) -> None:
    done = start(taken, "caltech_exp.jobs.show", "a b", "c", path=live)
    assert (done.stdout, done.stderr) == ("snapshot __init__.py ['a b', 'c']\n", "")
    assert start(taken, "caltech_exp.jobs.show", "a" * 5000).stdout.startswith("snapshot ")
    missing = start(taken, "caltech_exp.jobs.later", path=live)
    assert missing.returncode != 0
    assert "a module of the live checkout" not in missing.stdout
    assert f"the snapshot {taken.folder} has no module caltech_exp.jobs.later" in missing.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_a_pool_run_the_same_code(method: str, taken: Snapshot, live: Path) -> None:
    done = start(taken, "caltech_exp.jobs.pool", method, path=live)
    assert (done.stdout, done.stderr) == ("snapshot\n", "")
    assert not (taken.folder / "caltech_exp/jobs").exists()


def test_a_file_that_is_restored_as_it_is_read_is_read_again(
    taken: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = iter([True, False, True, True])
    opened = os.open

    def stale(path: Path, flags: int) -> int:
        if next(fails, False):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", stale)
    assert len(bootstrap.verified_files(taken.folder)) > 1


def test_compiled_code_is_neither_read_nor_written(taken: Snapshot, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    source = taken.folder / "caltech_exp/jobs" / "show.py"
    planted.write_text("print('planted')\n".ljust(source.stat().st_size - 1, "#") + "\n")
    os.utime(planted, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    cache = Path(importlib.util.cache_from_source(str(source)))
    cache.parent.mkdir()
    import py_compile

    py_compile.compile(str(planted), str(cache))
    before = {path: path.read_bytes() for path in taken.folder.rglob("*.pyc")}
    assert start(taken, "caltech_exp.jobs.show").stdout.startswith("snapshot ")
    assert {path: path.read_bytes() for path in taken.folder.rglob("*.pyc")} == before


def remove(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).unlink()


def write(path: str, text: str) -> Callable[[Path], object]:
    def written(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        (folder / path).write_text(text)

    return written


def link(folder: Path) -> None:
    (folder / "caltech_exp/jobs" / "show.py").rename(folder.parent / "show.py")
    (folder / "caltech_exp/jobs" / "show.py").symlink_to(folder.parent / "show.py")


def link_of_a_folder(folder: Path) -> None:
    (folder / "caltech_exp/jobs").rename(folder.parent / "jobs")
    (folder / "caltech_exp/jobs").symlink_to(folder.parent / "jobs")


RESTORE = "submit again, which restores it"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a module": (remove("caltech_exp/__init__.py"), f"caltech_exp/__init__.py is missing; {RESTORE}"),
    "a page": (remove("caltech_exp/reports/page.css"), f"caltech_exp/reports/page.css is missing; {RESTORE}"),
    "the bootstrap": (remove(bootstrap.THIS), f"{bootstrap.THIS} is missing or was changed; {RESTORE}"),
    "the index": (remove("files.sha256"), f"files.sha256 is missing; {RESTORE}"),
    "the version": (remove("snapshot.json"), f"snapshot.json is missing; {RESTORE}"),
    "all": (shutil.rmtree, f"{bootstrap.THIS} is missing or was changed; {RESTORE}"),
    "edited": (
        write("caltech_exp/jobs/show.py", "print('edited')\n"),
        f"caltech_exp/jobs/show.py was changed; {RESTORE}",
    ),
    "edited bootstrap": (
        write(bootstrap.THIS, "def main(): print('edited')\n"),
        f"{bootstrap.THIS} is missing or was changed; {RESTORE}",
    ),
    "edited index": (write("files.sha256", ""), f"files.sha256 was changed; {RESTORE}"),
    "planted": (write("sitecustomize.py", "print('planted')\n"), "sitecustomize.py does not belong to it; remove"),
    "planted module": (
        write("caltech_exp/jobs/numpy.py", ""),
        "caltech_exp/jobs/numpy.py does not belong to it; remove that file",
    ),
}
CLOSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (link, "show.py is a link; put the file itself there"),
    "a linked folder": (link_of_a_folder, "caltech_exp/jobs does not belong to it; remove"),
    "a file": (
        lambda folder: (folder / "caltech_exp/jobs/show.py").chmod(0o664),
        "show.py can be written by other users; ",
    ),
    "a folder": (
        lambda folder: (folder / "caltech_exp/jobs").chmod(0o777),
        "jobs can be written by other users; chmod go-w",
    ),
    "the whole": (lambda folder: folder.chmod(0o775), "can be written by other users; chmod go-w it"),
    "its place": (lambda folder: folder.parent.chmod(0o775), "can be written by other users; chmod go-w it"),
}


@pytest.mark.parametrize("what", [*DAMAGES, *CLOSED])
def test_a_damaged_snapshot_is_refused_in_one_line_and_on_record(
    what: str, taken: Snapshot, live: Path, tmp_path: Path
) -> None:
    damage, message = {**DAMAGES, **CLOSED}[what]
    if what == "a linked folder":
        message = "is missing"
    damage(taken.folder)
    done = start(taken, "caltech_exp.jobs.show", str(tmp_path), path=live)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    record = json.loads((tmp_path / "queue_refused.json").read_text())
    assert f"error: {record['reason']}\n" == done.stderr


@pytest.mark.parametrize("what", ["a module", "the bootstrap"])
@pytest.mark.parametrize(
    ("job", "variables"),
    [
        ("5_3", {"SUBMITIT_EXECUTOR": "slurm", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}),
        ("5", {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "5"}),
        ("41", {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "41", "SLURM_JOB_ID": "5"}),
    ],
)
def test_a_refusal_is_on_record_under_the_jobs_id(
    job: str, variables: dict[str, str], what: str, taken: Snapshot, tmp_path: Path
) -> None:
    DAMAGES[what][0](taken.folder)
    assert start(taken, "caltech_exp.jobs.show", str(tmp_path), variables=variables).returncode != 0
    assert json.loads((tmp_path / f"{job}_refused.json").read_text())["job"] == job


@pytest.mark.parametrize("place", ["caltech_exp/jobs/show.py", "caltech_exp/jobs", ".", ".."])
def test_what_another_user_owns_is_refused(place: str, taken: Snapshot) -> None:
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI needs several users: run it as root")
        pytest.skip("only root may give a file away")
    os.chown(taken.folder / place, 12345, -1)
    done = start(taken, "caltech_exp.jobs.show")
    assert done.stdout == ""
    assert "belongs to user 12345, not to root who would execute it; submit again\n" in done.stderr


def test_a_start_that_succeeds_forgets_the_refusal(taken: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "queue_refused.json").write_text("{}")
    assert start(taken, "caltech_exp.jobs.show", str(tmp_path)).returncode == 0
    assert not (tmp_path / "queue_refused.json").exists()


@pytest.mark.parametrize("what", [name for name in DAMAGES if not name.startswith("planted")])
def test_taking_the_same_code_again_restores_what_is_missing_or_changed(
    what: str, taken: Snapshot, checkout: Path, tmp_path: Path
) -> None:
    damage, _ = DAMAGES[what]
    damage(taken.folder)
    again = take_snapshot(tmp_path / "runs", CODE, checkout)
    assert (again.folder, again.digest) == (taken.folder, taken.digest)
    assert start(taken, "caltech_exp.jobs.show").stdout.startswith("snapshot ")


@pytest.mark.parametrize("what", ["a file", "a folder", "the whole", "its place", "a link"])
def test_taking_the_same_code_again_closes_what_was_opened(
    what: str, taken: Snapshot, checkout: Path, tmp_path: Path
) -> None:
    CLOSED[what][0](taken.folder)
    (taken.folder.parent / "show.py").unlink(missing_ok=True)
    take_snapshot(tmp_path / "runs", CODE, checkout)
    assert start(taken, "caltech_exp.jobs.show").stdout.startswith("snapshot ")


@pytest.mark.parametrize("what", ["planted", "planted module"])
def test_what_does_not_belong_is_named_and_stays(
    what: str, taken: Snapshot, checkout: Path, tmp_path: Path
) -> None:
    damage, message = DAMAGES[what]
    damage(taken.folder)
    with pytest.raises(UserError, match=rf"snapshot {taken.folder}: {message}"):
        take_snapshot(tmp_path / "runs", CODE, checkout)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_nobody_else_may_write_a_snapshot_whatever_the_umask(mask: int, checkout: Path, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        taken = take_snapshot(tmp_path / "runs", CODE, checkout)
    finally:
        os.umask(before)
    for path in (taken.folder.parent, taken.folder, *taken.folder.rglob("*")):
        assert path.stat().st_mode & 0o022 == 0, path
    assert start(taken, "caltech_exp.jobs.show").returncode == 0
