"""Studies that version 0.1.0 began are carried on; `make upgrade` does the same for another commit."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.tools.upgrade import BEFORE_THE_MOVE, extract, start


def test_commit_that_the_repository_lacks_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"^error: .* does not hold commit 0{40}; run `git fetch --unshallow`, or .*$"
    ):
        extract("0" * 40, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slurm
@pytest.mark.usefixtures("empty_queue")
def test_studies_of_an_earlier_version_are_carried_on(tmp_path: Path) -> None:
    known = ["git", "-C", str(CHECKOUT), "cat-file", "-e", BEFORE_THE_MOVE]
    if subprocess.run(known, capture_output=True, check=False).returncode:
        pytest.skip(f"this clone does not hold commit {BEFORE_THE_MOVE}: git fetch --unshallow")
    start(tmp_path / "upgrade")
