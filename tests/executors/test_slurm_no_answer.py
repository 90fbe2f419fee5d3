"""A real Slurm whose squeue answers with an error, nothing else, and status 0: that is no empty queue."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.tools.testbed import path_with, profile, queue

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]

TIMED_OUT = "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2"
SAID = "Slurm does not answer (squeue: slurm_load_jobs error: Socket timed out on send/recv operation); look at"


@pytest.mark.parametrize("header", ["", "echo 'JOBID STATE'"])
def test_nothing_is_lost_queued_again_or_said_to_be_gone(
    header: str,
    submit: Command,
    status: Command,
    cancel: Command,
    small: tuple[str, ...],
    held: Path,
    tmp_path: Path,
) -> None:
    runs = tmp_path / "runs"
    words = (*small, "seeds=2", f"profile={held}", f"runs={runs}")
    assert submit(*words).returncode == 0
    before = queue()
    path = path_with(tmp_path, "squeue", f"{TIMED_OUT}\n{header}")
    for done in (
        submit(*words, PATH=path),
        submit(*words, "retry=failed", PATH=path),
        cancel(f"runs={runs}", PATH=path),
    ):
        assert done.returncode == 2
        assert SAID in done.stderr
        assert done.stderr.count("\n") == 1
        assert "nothing" not in done.stdout
    seen = json.loads(status(f"runs={runs}", "json=true", PATH=path).stdout)
    assert SAID in seen["note"]
    assert seen["counts"]["queued"] == 2
    assert not seen["counts"].get("lost")
    assert queue() == before
    assert len(list(runs.glob("submissions/*/"))) == 1


def test_waiting_goes_on_whether_squeue_fails_or_only_complains(
    submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    script = (
        f"echo >>'{asked}'; n=$(wc -l <'{asked}'); if [ $((n % 2)) = 1 ]; then {TIMED_OUT}; exit $((n == 3)); fi"
    )
    path = path_with(tmp_path, "squeue", f'{script}\nexec {shutil.which("squeue")} "$@"')
    words = (*small, "seeds=1", f"profile={profile(tmp_path)}", f"runs={tmp_path / 'runs'}", "wait=true")
    done = submit(*words, "aggregate=true", f"out={tmp_path / 'report'}", PATH=path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 1
    assert (tmp_path / "report" / "report.md").is_file()
    assert len(asked.read_text().splitlines()) > 2
