"""Reading the results of a study: once each, never by trusting what was kept of them blindly."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from caltech_exp.config import RunConfig, run_id
from caltech_exp.files import stamp, write_atomically
from caltech_exp.reporting.outcome import Outcome, outcome_of
from caltech_exp.reporting.reading import Seen, read_runs
from caltech_exp.reporting.result_cache import READERS, load, save
from caltech_exp.study.results import RESULT
from caltech_exp.study.run_status import RunStatus, run_status
from tests.reporting.conftest import SampleStudy, make_diverged, make_result

CONFIG = RunConfig(epochs=3)
NAMES = [run_id(CONFIG, seed) for seed in range(3)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "results"


@pytest.fixture
def three(folder: SampleStudy) -> SampleStudy:
    """Two finished runs and a diverged one."""
    folder.add(make_result(CONFIG, 0, 0.4), make_result(CONFIG, 1, 0.5), make_diverged(CONFIG, 2))
    return folder


def plain(one: Outcome | None) -> dict[str, object]:
    """The outcome in a form that `==` compares."""
    assert one is not None
    fields = {name: getattr(one, name) for name in Outcome._fields}
    return fields | {"epochs": np.nan_to_num(one.epochs.table, nan=-1).tolist()}


def accuracies(seen: dict[str, Seen]) -> list[float | None]:
    return [one.outcome.val_accuracy if one.outcome else None for one in seen.values()]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose files were opened."""
    names: list[str] = []

    def noting(folder: Path, queue: None, submitted: bool) -> RunStatus:
        names.append(folder.name)
        return run_status(folder, queue=queue, submitted=submitted)

    monkeypatch.setattr("caltech_exp.reporting.reading.run_status", noting)
    return names


def test_what_was_kept_is_what_was_read(three: SampleStudy, cache: Path) -> None:
    first = read_runs(three.path, NAMES, NAMES, cache)
    again = read_runs(three.path, NAMES, NAMES, cache)
    direct = read_runs(three.path, NAMES, NAMES, None)
    for name in NAMES:
        assert first[name].state == again[name].state == direct[name].state
        assert plain(first[name].outcome) == plain(again[name].outcome) == plain(direct[name].outcome)
    assert [seen.state for seen in again.values()] == ["finished", "finished", "diverged"]


def test_only_new_results_are_read(three: SampleStudy, cache: Path, opened: list[str]) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    opened.clear()
    three.add(make_result(CONFIG, 3, 0.6))
    names = [*NAMES, run_id(CONFIG, 3)]
    assert accuracies(read_runs(three.path, names, names, cache)) == [0.4, 0.5, None, 0.6]
    assert opened == [names[3]]


def test_a_result_that_was_replaced_is_read_again(three: SampleStudy, cache: Path) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    path = three.path / NAMES[0] / RESULT
    before = path.stat()
    write_atomically(path, path.read_text().replace("0.4", "0.7"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert accuracies(read_runs(three.path, NAMES, NAMES, cache))[0] == 0.7


def test_a_result_that_was_damaged_since_counts_no_more(three: SampleStudy, cache: Path) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    (three.path / NAMES[0] / RESULT).write_text("{")
    assert read_runs(three.path, NAMES, NAMES, cache)[NAMES[0]].state == "damaged"


def test_a_result_that_was_deleted_is_gone(three: SampleStudy, cache: Path) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    (three.path / NAMES[0] / RESULT).unlink()
    assert read_runs(three.path, NAMES, NAMES, cache)[NAMES[0]] == Seen("queued")


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_one_wrong_byte_and_all_is_read_anew(
    three: SampleStudy, cache: Path, opened: list[str], place: float
) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    opened.clear()
    content = bytearray(cache.read_bytes())
    content[int(place * len(content))] ^= 1
    cache.write_bytes(content)
    assert accuracies(read_runs(three.path, NAMES, NAMES, cache)) == [0.4, 0.5, None]
    assert opened == NAMES
    assert len(load(cache).known) == 3


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"caltech_exp-results 0 0 0 0\n", b"x" * 200])
def test_a_file_that_is_none(three: SampleStudy, cache: Path, content: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert accuracies(read_runs(three.path, NAMES, NAMES, cache)) == [0.4, 0.5, None]


def test_kept_by_other_code_is_not_kept(
    three: SampleStudy, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    assert len(load(cache).known) == 3
    (tmp_path / "other.py").write_text("other")
    monkeypatch.setattr(
        "caltech_exp.reporting.result_cache.READERS", (*READERS, SimpleNamespace(__file__=tmp_path / "other.py"))
    )
    assert load(cache).known == {}


def test_what_is_new_is_added_and_the_later_entry_counts(
    three: SampleStudy, cache: Path, opened: list[str]
) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    before = cache.read_bytes()
    three.add(make_result(CONFIG, 0, 0.7))
    assert accuracies(read_runs(three.path, NAMES, NAMES, cache)) == [0.7, 0.5, None]
    assert cache.read_bytes().startswith(before)
    opened.clear()
    assert accuracies(read_runs(three.path, NAMES, NAMES, cache)) == [0.7, 0.5, None]
    assert opened == []


def test_a_part_that_was_cut_short_costs_itself_alone(three: SampleStudy, cache: Path, opened: list[str]) -> None:
    read_runs(three.path, NAMES[:2], NAMES, cache)
    read_runs(three.path, NAMES, NAMES, cache)
    os.truncate(cache, cache.stat().st_size - 1)
    opened.clear()
    for _ in range(2):
        assert accuracies(read_runs(three.path, NAMES, NAMES, cache)) == [0.4, 0.5, None]
    assert opened == NAMES[2:]
    assert load(cache).whole


def test_many_parts_become_one(three: SampleStudy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caltech_exp.reporting.reading.MOST_PARTS", 2)
    parts = []
    for count in (1, 2, 3):
        read_runs(three.path, NAMES[:count], NAMES, cache)
        parts.append(load(cache).parts)
    assert parts == [1, 2, 1]
    assert len(load(cache).known) == 3


def test_what_was_kept_of_another_study_goes(three: SampleStudy, cache: Path, tmp_path: Path) -> None:
    read_runs(three.path, NAMES, NAMES, cache)
    other = SampleStudy(tmp_path / "other")
    other.add(make_result(CONFIG, 0, 0.9))
    read_runs(other.path, NAMES[:1], NAMES, cache)
    assert list(load(cache).known) == [str(other.path / NAMES[0] / RESULT)]


def test_hostile_text_is_kept_letter_by_letter(tmp_path: Path) -> None:
    one = outcome_of(make_result(CONFIG, 0))._replace(host='\n"\\ $<b>\u2028日本', job="")
    (tmp_path / "file").write_text("x")
    found = stamp(tmp_path / "file")
    assert found is not None
    save(tmp_path / "cache", {"a\nb": (found, one)})
    ((path, (kept, again)),) = load(tmp_path / "cache").known.items()
    assert (path, kept, plain(again)) == ("a\nb", found, plain(one))


def test_many_files_are_read_by_several_processes(
    three: SampleStudy, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = read_runs(three.path, NAMES, NAMES, None)
    monkeypatch.setattr("caltech_exp.files.MANY", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    many = read_runs(three.path, NAMES, NAMES, cache)
    assert [plain(seen.outcome) for seen in many.values()] == [plain(seen.outcome) for seen in direct.values()]
