"""Runs of a task side by side: each in a process of its own, which is all that its end concerns."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.executors.sbatch import ENDED
from caltech_exp.study.lease import ReplacedError
from caltech_exp.submission import side_by_side
from caltech_exp.submission.side_by_side import FAILED, OUT_OF_MEMORY, REPLACED, Layout, SideBySide, choose_layout
from caltech_exp.training.failures import StopRequest
from tests.tools.testbed import until

TWO = Layout(("",), 2, 1)
Train = Callable[[int, StopRequest, Path], int]


def processes(folder: Path, names: str, train: Train, layout: Layout = TWO, why_not: str = "") -> SideBySide:
    stop_request = StopRequest()
    return SideBySide(
        names.split(), layout, train, lambda name: folder / f"12_{name}_log.out", lambda: why_not, stop_request
    )


def starts(folder: Path) -> list[str]:
    """A line of each start of a run, as the function of `recorded` writes it."""
    return (folder / "starts").read_text().split() if (folder / "starts").exists() else []


def recorded(folder: Path, train: Train) -> Train:
    def training(run: int, stop_request: StopRequest, log: Path) -> int:
        with (folder / "starts").open("a") as file:
            file.write(f"{run}\n")
        return train(run, stop_request, log)

    return training


def stopped(stop_request: StopRequest) -> int:
    """Train until told to stop."""
    stop_request.listening = True
    deadline = time.monotonic() + 60
    while not stop_request.requested and time.monotonic() < deadline:
        time.sleep(0.01)
    return ENDED if stop_request.requested else FAILED


@pytest.mark.parametrize(
    ("at_once", "runs", "device", "cores", "visible", "gpus", "each", "threads"),
    [
        (1, 5, "cpu", None, None, ("",), 1, None),
        (1, 5, "cuda", 4, "0", ("",), 1, 4),
        (2, 5, "cpu", 4, "0,1", ("",), 2, 2),
        (3, 5, "cuda", 8, "GPU-5", ("",), 3, 2),
        (4, 5, "cpu", 2, None, ("",), 4, 1),
        # A task with several GPUs trains on each, unless it has a single run.
        (1, 4, "cuda", 8, "0,1, 3,5", ("0", "1", "3", "5"), 1, 2),
        (2, 9, "cuda", 8, "2,3", ("2", "3"), 2, 2),
        (1, 1, "cuda", 8, "0,1", ("",), 1, 8),
        ("auto", 3, "cpu", 8, None, ("",), 3, 2),
        ("auto", 30, "cpu", 8, None, ("",), 8, 1),
        ("auto", 30, "cuda", 16, "0", ("",), 4, 4),
        ("auto", 30, "cuda", 2, "0", ("",), 2, 1),
    ],
)
def test_layout_divides_cores_and_uses_each_gpu(
    at_once: int, runs: int, device: str, cores: int | None, visible: str | None, gpus: tuple[str, ...], each: int,
    threads: int | None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    layout = choose_layout(at_once, runs, device, cores)
    assert (layout.gpus, layout.each, layout.threads) == (gpus, each, threads)


def test_each_run_has_a_process_a_gpu_and_a_log_of_its_own(tmp_path: Path) -> None:
    def train(run: int, _stop: StopRequest, log: Path) -> int:
        os.write(1, f"run {run} of {os.getpid()} on {os.environ['CUDA_VISIBLE_DEVICES']} into {log.name}".encode())
        os.write(2, b"an error")  # pytest replaces sys.stderr
        return 0

    assert processes(tmp_path, "a b c", train, Layout(("0", "1"), 1, 1)).run() == []
    logs = {name: (tmp_path / f"12_{name}_log.out").read_text().split() for name in "abc"}
    assert len({words[3] for words in logs.values()} | {str(os.getpid())}) == 4
    assert {logs["a"][5], logs["b"][5]} == {"0", "1"}
    assert logs["c"][-1] == "12_c_log.out"
    assert (tmp_path / "12_a_log.err").read_text() == "an error"


def test_a_run_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    def train(run: int, _stop: StopRequest, _log: Path) -> int:
        if run == 0:
            raise RuntimeError("broken")
        return FAILED if run == 1 else 0

    assert processes(tmp_path, "a b c d", recorded(tmp_path, train)).run() == ["a", "b"]
    assert sorted(starts(tmp_path)) == list("0123")


def test_a_killed_run_starts_again_and_the_other_trains_on(tmp_path: Path) -> None:
    def train(run: int, _stop: StopRequest, _log: Path) -> int:
        if run == 0 and starts(tmp_path).count("0") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert processes(tmp_path, "a b", recorded(tmp_path, train)).run() == []
    assert sorted(starts(tmp_path)) == ["0", "0", "1"]


def test_a_run_that_is_killed_twice_is_given_up(tmp_path: Path) -> None:
    def train(run: int, _stop: StopRequest, _log: Path) -> int:
        if run == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert processes(tmp_path, "a b", recorded(tmp_path, train)).run() == ["a"]
    assert sorted(starts(tmp_path)) == ["0", "0", "1"]


def test_a_run_out_of_memory_beside_others_is_tried_again_with_fewer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(run: int, _stop: StopRequest, _log: Path) -> int:
        return OUT_OF_MEMORY if run == 0 else 0

    assert processes(tmp_path, "a b", recorded(tmp_path, train)).run() == ["a"]
    assert starts(tmp_path).count("0") == 2
    assert "run a starts again, 1 at a time" in capsys.readouterr().out


def test_a_run_out_of_memory_alone_has_failed(tmp_path: Path) -> None:
    alone = Layout(("0", "1"), 1, 1)
    train = recorded(tmp_path, lambda _run, _stop, _log: OUT_OF_MEMORY)
    assert processes(tmp_path, "a", train, alone).run() == ["a"]
    assert starts(tmp_path) == ["0"]


def test_a_stop_request_reaches_every_run_and_no_other_starts(tmp_path: Path) -> None:
    train = recorded(tmp_path, lambda _run, stop_request, _log: stopped(stop_request))
    side = processes(tmp_path, "a b c", train)

    def stop() -> None:
        until(lambda: len(starts(tmp_path)) == 2)
        side.stop_request.requested = True

    threading.Thread(target=stop).start()
    assert side.run() == []
    assert sorted(side.interrupted) == ["a", "b", "c"]
    assert sorted(starts(tmp_path)) == ["0", "1"]


def test_a_run_that_slurm_started_elsewhere_ends_the_task(tmp_path: Path) -> None:
    def train(run: int, stop_request: StopRequest, _log: Path) -> int:
        if run:
            return stopped(stop_request)
        until(lambda: len(starts(tmp_path)) == 2)
        return REPLACED

    with pytest.raises(ReplacedError):
        processes(tmp_path, "a b c", recorded(tmp_path, train)).run()
    assert sorted(starts(tmp_path)) == ["0", "1"]


def test_no_run_starts_once_there_is_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = recorded(tmp_path, lambda _run, _stop, _log: 0)
    assert processes(tmp_path, "a b", train, why_not="3 runs failed").run() == []
    assert "2 runs are not started: 3 runs failed" in capsys.readouterr().out
    assert starts(tmp_path) == []


@pytest.mark.parametrize(("fits", "most"), [(5, 3), (2, 2), (0, 1)])
def test_auto_begins_with_one_run_and_adds_what_fits_into_memory(
    fits: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(side_by_side._Memory, "more_runs", lambda _, running, __: max(0, fits - running))

    def train(_run: int, stop_request: StopRequest, _log: Path) -> int:
        stop_request.listening = True
        if most > 1:
            until(lambda: len(starts(tmp_path)) >= most, 30)
        return 0

    side = processes(tmp_path, "a b c", recorded(tmp_path, train), Layout(("",), 3, 1, is_auto=True))
    assert side.run() == []
    assert side._limits == [most]


def test_memory_decides_how_many_more_runs_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    assert side_by_side._Memory(2**20, gib, int(3.1 * gib)).more_runs(1, 1) == 2
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "6")
    assert side_by_side._Memory(2**20).more_runs(1, 1) == 3
    assert side_by_side._Memory(2**20).more_runs(2, 2) == 1
    assert side_by_side._Memory(2**20).more_runs(5, 1) == 0


def test_runs_end_with_the_process_of_their_task(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from caltech_exp.submission.side_by_side import Layout, SideBySide
        from caltech_exp.training.failures import StopRequest

        def train(run, stop_request, log):
            stop_request.listening = True
            (folder / f"{{run}}.began").touch()
            while not stop_request.requested:
                time.sleep(0.01)
            (folder / f"{{run}}.saved").touch()
            return 0

        folder = Path({str(tmp_path)!r})
        SideBySide(["a", "b"], Layout(("",), 2, 1), train, lambda name: folder / f"{{name}}.out", str,
                   StopRequest()).run()
    """)
    task = subprocess.Popen([sys.executable, "-c", script])
    until(lambda: len(list(tmp_path.glob("*.began"))) == 2)
    task.kill()
    task.wait()
    until(lambda: len(list(tmp_path.glob("*.saved"))) == 2, 30)
