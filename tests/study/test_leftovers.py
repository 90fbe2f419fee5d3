"""What a run leaves is removed once it has a result, as far as its file system lets it be."""

import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.study.results import FAILURE, PROGRESS, RESULT
from caltech_exp.study.run_status import CHECKPOINT, remove_after_result, remove_half_written

LEFT = (
    CHECKPOINT,
    PROGRESS,
    FAILURE,
    "lease.request",
    "lease.000001.json",
    "lease.000002.json",
    ".result.json.x7",
)


@pytest.mark.parametrize(("when", "left"), [("1..2", set()), ("1+1", set(LEFT))])
def test_a_file_that_is_stale_is_tried_again_and_then_left(
    when: str, left: set[str], strace: str, tmp_path: Path
) -> None:
    for name in (RESULT, *LEFT):
        (tmp_path / name).write_text("{}")
    code = "import sys, pathlib; from caltech_exp.study.run_status import remove_after_result as remove; "
    command = [sys.executable, "-c", f"{code}remove(pathlib.Path(sys.argv[1]))", str(tmp_path)]
    faults = ["-f", "-qq", "-o", "/dev/null", "-e", f"inject=unlink,unlinkat:error=ESTALE:when={when}"]
    done = subprocess.run([strace, *faults, *command], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {RESULT, *left}


@pytest.mark.parametrize("folder", LEFT)
def test_a_folder_among_the_files_stays_and_all_else_is_removed(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder / "inside").mkdir(parents=True)
    for name in (RESULT, ".result.json.x6", ".result.json.x8", *(name for name in LEFT if name != folder)):
        (tmp_path / name).write_text("{}")
    remove_half_written(tmp_path)
    assert {path.name for path in tmp_path.glob(".*.*")} == {folder} & {".result.json.x7"}
    remove_after_result(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {RESULT, folder}
