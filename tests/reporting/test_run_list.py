"""The list of runs: each configuration once, every run with what became of it."""

from caltech_exp.config import run_id
from caltech_exp.reporting.run_list import MOST_LISTED, RunGroup, run_groups
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "5e-2")


def group(folder: SampleStudy, anchor: str = f"runs-{CONFIG.id}") -> RunGroup:
    (found,) = (one for one in run_groups(folder.collect()) if one.anchor == anchor)
    return found


def test_every_configuration_of_the_report_has_one_group(folder: SampleStudy) -> None:
    folder.start()
    groups = run_groups(folder.collect())
    assert len(groups) == 40
    assert len({one.anchor for one in groups}) == 40
    assert group(folder).rows == ("scratch.lr=5e-2", "scratch.epochs=30")
    assert group(folder).tables == ("scratch.lr", "scratch.epochs")


def test_what_became_of_each_run(folder: SampleStudy) -> None:
    folder.start()
    names = [run_id(CONFIG, seed) for seed in range(4)]
    folder.submit(*names, seeds=range(5))
    folder.add(make_result(CONFIG, 0, 0.5), make_diverged(CONFIG, 1))
    folder.fail(names[2], "RuntimeError: CUDA out of memory")
    found = group(folder)
    assert [run.state for run in found.runs] == ["finished", "diverged", "failed", "queued"]
    first, second, third, _ = found.runs
    assert (first.val, first.test, first.wall) == ("0.500", "0.490", "30.0")
    assert first.where == "H200 (cuda), gpu1, job 1_0"
    assert first.logs == "submissions/first"
    assert (second.val, second.test) == ("–", "–")
    log = folder.path / "submissions" / "first" / "log.out"
    assert third.detail == f"RuntimeError: CUDA out of memory (log: {log})"
    assert found.missing == (4,)


def test_of_many_runs_those_without_a_result_come_first(folder: SampleStudy) -> None:
    folder.start()
    folder.add(*(make_result(CONFIG, seed) for seed in range(30)))
    lost = run_id(CONFIG, 77)
    folder.submit(lost)
    folder.fail(lost, "x")
    found = group(folder)
    assert len(found.runs) == MOST_LISTED
    assert found.runs[-1].id == lost
    assert found.left_out == 31 - MOST_LISTED


def test_runs_that_no_row_asks_for_are_listed_last(folder: SampleStudy) -> None:
    folder.start()
    stray = make_result(CONFIG.but(lr=0.123), 0)
    folder.add(stray)
    last = run_groups(folder.collect())[-1]
    assert [run.id for run in last.runs] == [stray.run_id]
    assert last.rows == ()
