"""Atomic writing."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.files import (
    HELPERS,
    MANY,
    MAX_WORKERS,
    folder_if_it_succeeds,
    folder_path,
    has_exclusive_creation,
    in_processes,
    in_threads,
    make_folder,
    make_own_folder,
    pool_processes,
    usable_cores,
    write_atomically,
)
from caltech_exp.records import write_record
from caltech_exp.study.results import PROGRESS, Progress
from tests.tools.process_limit import answer_with_processes


def test_write_atomically_replaces_the_file_with_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "ü b.json"
    write_atomically(path, "long old text")
    write_atomically(path, "new ü")
    assert path.read_text() == "new ü"
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["plain", path.name]  # noqa: PTH208


def test_write_atomically_leaves_the_old_file_if_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_folder_if_it_succeeds_is_removed_after_an_error(tmp_path: Path) -> None:
    def fail_in(folder: Path, *, after_writing: bool) -> None:
        with folder_if_it_succeeds(folder):
            if after_writing:
                (folder / "file").write_text("kept")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "a" / "b", after_writing=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "c" / "d", after_writing=True)
    assert (tmp_path / "c" / "d" / "file").read_text() == "kept"


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o027])
def test_make_own_folder_closes_it_to_others_whatever_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        make_own_folder(tmp_path / "shared" / "mine")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "shared" / "mine").stat().st_mode & 0o777 == 0o755 & ~mask
    (tmp_path / "shared" / "mine").chmod(0o2775)
    make_own_folder(tmp_path / "shared" / "mine")
    assert (tmp_path / "shared" / "mine").stat().st_mode & 0o7777 == 0o2755


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("permissions are not kept", "can be written by other users; use another runs= folder"),
        ("a link", "is not a folder; use another runs= folder"),
        ("another user's", "belongs to .*, not to .* who would execute it; use another runs= folder"),
    ],
)
def test_make_own_folder_refuses_what_others_can_write(
    what: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    folder = tmp_path / "mine"
    if what == "a link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o775 if what == "permissions are not kept" else 0o755)
    if what == "another user's":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(UserError, match=rf"{folder} {message}"):
        make_own_folder(folder)


def with_fault(strace: str, fault: str, code: str, folder: Path, *only: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code, `folder` in its name space, where system calls fail as `strace -e inject=` says.

    only  the paths that this is about; all, if left out
    """
    command = [strace, "-f", "-o", "/dev/null", f"-einject={fault}", *(f"-P{path}" for path in only)]
    head = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n"
    return subprocess.run(
        [*command, sys.executable, "-c", head + code], capture_output=True, text=True, timeout=60, check=False
    )


WRITE = "from caltech_exp.files import write_atomically; write_atomically(folder / 'a', 'new')"
SAVE = "from caltech_exp import files; files.save_content(folder / 'a', b'new', [files])"


@pytest.mark.parametrize("fault", ["EINVAL", "EOPNOTSUPP", "EBADF", "EPERM", "ENOSPC", "EIO"])
def test_write_atomically_needs_no_flush_of_folders(fault: str, strace: str, tmp_path: Path) -> None:
    done = with_fault(strace, f"fsync:error={fault}", WRITE, tmp_path, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


def test_write_atomically_reports_a_file_that_cannot_be_flushed(strace: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    done = with_fault(strace, "fsync:error=EIO", WRITE, tmp_path)
    assert "OSError: [Errno 5] Input/output error" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


ASK = """
import subprocess
from caltech_exp.files import closed_to_others, umask
before = umask()
with closed_to_others():
    inside = umask()
print(f"{before:03o} {inside:03o} {umask():03o}")
"""


@pytest.mark.parametrize(
    ("mask", "masks"), [(0o000, "000 022 000"), (0o077, "077 077 077"), (0o027, "027 027 027")]
)
@pytest.mark.parametrize("has_proc", [True, False])
def test_umask_is_found_without_a_moment_in_which_files_are_open(
    mask: int, masks: str, has_proc: bool, strace: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    command = [strace, "-f", "-e", "trace=umask", "-o", str(trace)]
    if not has_proc:
        command += ["-e", "trace=umask,openat", "-e", "inject=openat:error=ENOENT", "-P", "/proc/self/status"]
    command += [sys.executable, "-c", ASK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, umask=mask)
    assert done.stdout.split() == masks.split()
    calls = [line.partition("umask(")[2].partition(")")[0] for line in trace.read_text().splitlines()]
    assert all(int(call, 8) & mask == mask for call in calls if call)


@pytest.mark.parametrize("code", [WRITE, SAVE])
@pytest.mark.parametrize("fault", ["EPERM", "EOPNOTSUPP"])
def test_new_files_need_no_chmod(fault: str, code: str, strace: str, tmp_path: Path) -> None:
    done = with_fault(strace, f"chmod,fchmod,fchmodat:error={fault}", code, tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    assert path.name == "a"
    plain = tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


RECORD = Progress(
    run_id="r",
    epoch=1,
    epochs=9,
    images_per_second=1.0,
    submission="s",
    job="j",
    host="h",
    when="2026-01-01T12:00:00Z",
)
READ = """
from caltech_exp.study.results import PROGRESS, Progress
from caltech_exp.records import read_record
found = read_record(folder / PROGRESS, Progress)
print(getattr(found, "epoch", None) or getattr(found, "reason", None))
"""


@pytest.mark.parametrize(
    ("when", "words"), [("1", "1"), ("1..3", "1"), ("1+", "Stale file handle")], ids=["once", "thrice", "for good"]
)
def test_read_record_tries_again_on_a_stale_handle(when: str, words: str, strace: str, tmp_path: Path) -> None:
    path = write_record(tmp_path, PROGRESS, RECORD)
    done = with_fault(strace, f"openat:error=ESTALE:when={when}", READ, tmp_path, str(path))
    assert (done.stdout, done.returncode) == (f"{words}\n", 0), done.stderr


LIST = """
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import read_manifests
from caltech_exp.study.lease import read_lease
print(read_lease(folder), list(StudyFolder(folder).run_folders()), read_manifests(folder))
"""


def test_folders_are_read_again_on_a_stale_handle(strace: str, tmp_path: Path) -> None:
    (tmp_path / "submissions").mkdir()
    paths = str(tmp_path), str(tmp_path / "submissions")
    done = with_fault(strace, "openat:error=ESTALE:when=1..2", LIST, tmp_path, *paths)
    assert (done.stdout, done.returncode) == ("None [] []\n", 0), done.stderr


def test_has_exclusive_creation_sees_a_file_created_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_exclusive_creation(tmp_path)
    create = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *mode: create(path, flags & ~os.O_EXCL, *mode))
    assert not has_exclusive_creation(tmp_path)
    assert list(tmp_path.iterdir()) == []


def doubles_and_threads() -> tuple[list[int], int]:
    """Numbers doubled by several threads, and how many threads did it."""
    doubles = list(in_threads(lambda number: (2 * number, threading.get_ident()), range(500)))
    return [double for double, _ in doubles], len({thread for _, thread in doubles})


def test_in_threads_keeps_the_order_and_raises_the_first_error() -> None:
    doubles, count = doubles_and_threads()
    assert doubles == list(range(0, 1000, 2))
    assert count <= min(usable_cores(), MAX_WORKERS)
    answers = in_threads(lambda number: 1 // (3 - number), range(10))
    assert [next(answers) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


@pytest.mark.parametrize("limit", [1, 2])
def test_in_threads_works_with_the_threads_that_can_be_started(limit: int) -> None:
    answer = answer_with_processes(limit, doubles_and_threads)
    assert answer == repr((list(range(0, 1000, 2)), 1))


@pytest.mark.parametrize(("limit", "processes"), [(1, 0), (HELPERS, 0), (1 + HELPERS + 1, 1)])
def test_pool_has_as_many_processes_as_can_be_started(limit: int, processes: int) -> None:
    assert answer_with_processes(limit, pool_processes) == repr(processes)


def test_in_processes_without_a_second_process_works_in_this_one() -> None:
    assert answer_with_processes(1, lambda: sum(in_processes(abs, range(-MANY, 0)))) == str(MANY * (MANY + 1) // 2)


def test_link_to_nowhere_is_named_with_where_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "runs"
    link.symlink_to(tmp_path / "gone")
    problem = f"{link} is a link to {tmp_path}/gone, which does not exist"
    for path in (link, link / "study"):
        with pytest.raises(UserError) as caught:
            folder_path(str(path), "runs")
        assert str(caught.value) == f"runs={path}: {problem}; make that folder or name another one"
    with pytest.raises(FileExistsError, match=problem):
        make_folder(link / "study")
    (tmp_path / "gone").mkdir()
    assert folder_path(str(link), "runs") == link
