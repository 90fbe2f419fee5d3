"""What results tell in short, kept between looks: always what the files say now."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.config import RunConfig
from caltech_exp.study import results_cache as module
from caltech_exp.study.plan import PlannedRun
from caltech_exp.study.results import RESULT, read_result
from caltech_exp.study.results_cache import CACHE, PastRun, past_runs, summarize
from tests.tools.paper_study import result_of, write_failure, write_result

RUNS = [PlannedRun(RunConfig(epochs=2), seed, "", ()) for seed in range(3)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run in RUNS:
        write_result(tmp_path, run)
    return tmp_path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs whose results are read."""
    names: list[str] = []

    def noting(folder: Path) -> object:
        names.append(folder.name)
        return read_result(folder)

    monkeypatch.setattr(module, "read_result", noting)
    return names


def test_results_are_read_again_only_when_they_change(runs: Path, read: list[str]) -> None:
    first = past_runs(runs, "f")
    assert first == {run.id: summarize(result_of(run.config, run.seed)) for run in RUNS}
    assert sorted(read) == sorted(run.id for run in RUNS)
    read.clear()
    assert past_runs(runs, "f") == first
    assert read == []
    write_result(runs, RUNS[1], epoch_seconds=7.0)
    assert past_runs(runs, "f")[RUNS[1].id].epoch_seconds == 14.0
    assert read == [RUNS[1].id]
    (runs / RUNS[0].id / RESULT).unlink()
    assert set(past_runs(runs, "f")) == {RUNS[1].id, RUNS[2].id}


def flipped(content: bytes) -> bytes:
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


@pytest.mark.parametrize(
    "damage", [flipped, lambda content: content[:100], lambda _: b"", lambda _: b"\xff\n[]", lambda c: c + b" "]
)
def test_damaged_cache_is_ignored(damage: Callable[[bytes], bytes], runs: Path, read: list[str]) -> None:
    first = past_runs(runs, "f")
    read.clear()
    (runs / CACHE).write_bytes(damage((runs / CACHE).read_bytes()))
    assert past_runs(runs, "f") == first
    assert len(read) == 3


def test_damaged_results_are_read_each_time(runs: Path, read: list[str]) -> None:
    (runs / RUNS[0].id / RESULT).write_text("{")
    for _ in range(2):
        assert RUNS[0].id not in past_runs(runs, "f")
    assert read.count(RUNS[0].id) == 2


def test_results_on_other_data_do_not_count(runs: Path) -> None:
    assert past_runs(runs, "another") == {}
    assert len(past_runs(runs, None)) == 3


def test_cache_is_not_written_if_it_must_not_or_cannot_be(runs: Path) -> None:
    assert len(past_runs(runs, "f", keep=False)) == 3
    assert not (runs / CACHE).parent.exists()
    (runs / CACHE.parent).write_text("a file in the way")
    assert len(past_runs(runs, "f")) == 3


def test_missing_folder_has_no_past_runs(tmp_path: Path) -> None:
    assert past_runs(tmp_path / "no", "f") == {}
    assert not (tmp_path / "no").exists()


def test_cache_is_readable_by_the_group(runs: Path) -> None:
    before = os.umask(0o027)
    try:
        past_runs(runs, "f")
    finally:
        os.umask(before)
    assert (runs / CACHE).stat().st_mode & 0o777 == 0o640


def test_failure_is_no_past_run(runs: Path) -> None:
    other = PlannedRun(RunConfig(epochs=3), 0, "", ())
    write_failure(runs, other, "log")
    found = past_runs(runs, "f")
    assert other.id not in found
    assert all(isinstance(one, PastRun) for one in found.values())
