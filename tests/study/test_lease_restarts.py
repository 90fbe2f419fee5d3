"""A run whose job Slurm has restarted while its former process still owns it."""

import socket
from pathlib import Path

import pytest

from caltech_exp.study.lease import LeaseLostError, ReplacedError, acquire
from tests.tools.leases import start_owner


@pytest.mark.usefixtures("short_timeouts")
@pytest.mark.parametrize("where", ["this machine", "another machine"])
def test_former_process_is_asked_to_release_the_run(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    former = start_owner(tmp_path, *([where] if where == "another machine" else []))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    assert own_lease.number == 2
    assert former.wait(timeout=30) == 0
    assert former.stdout is not None
    assert former.stdout.read() == "gave it up\n"
    assert "the former process of this job still trains it on" in capsys.readouterr().out
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["lease.000001.json", "lease.000002.json"]
    own_lease.release()


@pytest.mark.usefixtures("short_timeouts")
def test_former_process_that_hangs_loses_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    former = acquire(tmp_path, "1_0")  # a thread beats for it, and nobody calls `check`
    assert former is not None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    assert own_lease.number == 2
    with pytest.raises(LeaseLostError, match="another process acquired the run"):
        former.confirm()
    former.release()
    own_lease.confirm()
    own_lease.release()


def test_former_process_that_meets_the_new_one_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    own_lease = acquire(tmp_path, "1_0")
    assert own_lease is not None
    assert acquire(tmp_path, "1_0") is None  # a second process of the same start
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(ReplacedError, match=f"restarted job 1_0, on {socket.gethostname()}"):
        acquire(tmp_path, "1_0")
    assert acquire(tmp_path, "2_0") is None  # another job
    own_lease.release()
