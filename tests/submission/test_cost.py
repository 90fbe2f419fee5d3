"""What a dry run and a submission say of GPU hours, time and the time limit."""

from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig
from caltech_exp.profiles.profile import Profile, parse_profile
from caltech_exp.study.plan import expand
from caltech_exp.study.results_cache import past_runs
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.cost import cost_lines
from caltech_exp.submission.submission import Array, make_arrays
from tests.conftest import Command
from tests.tools.paper_study import write_paper_study, write_result

PLAN = expand(THE_REPORT.select(tables=["scratch.lr"]), (0, 1), StudySettings())
ARRAYS = make_arrays(PLAN, "s", 1, None)


def profile(text: str = "") -> Profile:
    return parse_profile(f"executor: slurm\ngpus_per_node: 1\nmax_parallel: 4\n{text}", "test")


def lines(runs: Path, text: str = "", arrays: list[Array] = ARRAYS, images: int | None = 200) -> list[str]:
    return cost_lines(arrays, past_runs(runs, None), profile(text), images)


def test_nothing_is_known_and_that_is_said(tmp_path: Path) -> None:
    (line,) = lines(tmp_path)
    assert line == (
        "how long it takes cannot be told yet of 10 runs of alexnet, fast bf16, freeze=none, augment=none: it can "
        "after the first such result in this study on a GPU, or with images_per_second in the profile"
    )
    assert lines(tmp_path, images=None)[0].endswith("in the profile, or with the data set at hand")
    assert lines(tmp_path, arrays=[]) == []


def test_from_the_profiles_rate(tmp_path: Path) -> None:
    # 10 runs of 30 epochs of 100 images at 1 image/s: 3,000 s each.
    (line,) = lines(tmp_path, "images_per_second: {alexnet: 1}")
    assert line == (
        "about 8.3 GPU hours, 2 h 30 min with 4 tasks of each array at a time and no waiting for others' jobs; "
        "told from the profile's images_per_second, start-up left out"
    )


def test_seconds_are_not_told_as_nothing(tmp_path: Path) -> None:
    assert lines(tmp_path, "images_per_second: {alexnet: 10000}")[0].startswith("about 0.01 GPU hours")


def test_from_results_and_how_many_by_what(tmp_path: Path) -> None:
    write_result(tmp_path, PLAN[0], epoch_seconds=20.0)  # 610 s with 10 s besides epochs
    (line,) = lines(tmp_path)
    assert line == (
        "about 1.7 GPU hours, 30 min with 4 tasks of each array at a time and no waiting for others' jobs; "
        "told from 1 result of this study on A100 (8 runs by the same network and images, 2 runs by the same "
        "settings)"
    )
    two = parse_profile("executor: slurm\ngpus_per_node: 2\nmax_parallel: 4\n", "test")
    assert "about 3.4 GPU hours, 30 min" in cost_lines(ARRAYS, past_runs(tmp_path, None), two, 200)[0]


def test_results_of_another_type_of_device_do_not_count(tmp_path: Path) -> None:
    write_result(tmp_path, PLAN[0], device="cpu")
    assert lines(tmp_path)[0].startswith("how long it takes cannot be told yet")
    assert "hours of CPU tasks" in cost_lines(ARRAYS, past_runs(tmp_path, None), profile("device: cpu"), 200)[0]


def test_part_is_known(tmp_path: Path) -> None:
    plan = [*PLAN, *expand(THE_REPORT.select(tables=["resnet.batch_256"]), (0,), StudySettings())]
    told, cannot = lines(tmp_path, "images_per_second: {alexnet: 1}", make_arrays(plan, "s", 1, None))
    assert told.startswith("at least 8.3 GPU hours")
    assert "cannot be told yet of 1 run of resnet18, fast bf16" in cannot


@pytest.mark.parametrize(
    ("runs_per_task", "text", "words"),
    [
        (1, "time_minutes: 51", None),
        (2, "time_minutes: 51", "takes about 1 h 40 min, its time limit is 51 min: there it is queued again"),
        (
            1,
            "time_minutes: 49",
            "takes about 50 min, its time limit is 49 min: there it is queued again, and goes on",
        ),
        (1, "time_minutes: 49\nsbatch: {no-requeue: true}", "there it ends, and the same command goes on"),
    ],
)
def test_tasks_longer_than_their_time_limit(
    runs_per_task: int, text: str, words: str | None, tmp_path: Path
) -> None:
    arrays = make_arrays(PLAN, "s", runs_per_task, None)
    _, *warning = lines(tmp_path, f"images_per_second: {{alexnet: 1}}\n{text}", arrays)
    assert len(warning) == (words is not None)
    assert not words or words in warning[0]


def test_a_dry_run_says_it_and_writes_nothing(submit: Command, stand_in: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done_run, *_ = write_paper_study(runs)
    write_result(runs, done_run, device="cpu")
    before = sorted(path for path in runs.rglob("*"))
    done = submit(
        "table=scratch.lr", "seeds=2", "dry_run=true", "profile=demo", f"data={stand_in}", f"runs={runs}"
    )
    assert "of CPU tasks" in done.stdout
    assert "with 2 tasks at a time" in done.stdout
    assert "told from 1 result of this study on EPYC" in done.stdout
    assert sorted(path for path in runs.rglob("*")) == before


def test_rates_in_a_profile_are_numbers_above_zero() -> None:
    for bad in ("{a b: 1}", "{alexnet: 0}", "{alexnet: .inf}", "3"):
        with pytest.raises(Exception, match="images_per_second"):
            profile(f"images_per_second: {bad}")
    assert RunConfig().model in profile("images_per_second: {alexnet: 2900, resnet18: 1200.5}").images_per_second
