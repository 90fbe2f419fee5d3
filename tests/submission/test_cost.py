"""What a dry run and a submission say of GPU hours, time and the time limit."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.cli import parse
from caltech_exp.config import RunConfig
from caltech_exp.executors.executor import JobArray, make_executor
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.profiles.profile import Profile, parse_profile
from caltech_exp.study.forecast import measure_throughput
from caltech_exp.study.plan import expand
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import past_runs
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.cost import choose_sizes, cost_lines
from caltech_exp.submission.request import SubmitOptions
from caltech_exp.submission.submission import TaskSize, make_arrays
from tests.conftest import Command
from tests.tools.paper_study import write_paper_study, write_result

PLAN = expand(THE_REPORT.select(tables=["scratch.lr"]), (0, 1), StudySettings())
ARRAYS = make_arrays(PLAN, "s", {}, None)


def profile(text: str = "") -> Profile:
    return parse_profile(f"executor: slurm\ngpus_per_node: 1\nmax_parallel: 4\n{text}", "test")


def lines(runs: Path, text: str = "", arrays: list[JobArray] = ARRAYS, images: int | None = 200) -> list[str]:
    return costs(runs, profile(text), arrays, images)


def costs(
    runs: Path,
    chosen: Profile,
    arrays: list[JobArray] = ARRAYS,
    images: int | None = 200,
    unfinished: Sequence[tuple[RunConfig, Progress, int | None]] = (),
) -> list[str]:
    executor = make_executor(chosen)
    past = past_runs(runs, None)
    throughput = measure_throughput(past, chosen.device_type, chosen.images_per_second, unfinished)
    return cost_lines(arrays, throughput, executor, images)


def test_cost_without_results_has_no_estimate_on_a_device_that_was_not_measured(tmp_path: Path) -> None:
    none = ["no time estimate yet; one appears once a run has finished an epoch"]
    assert lines(tmp_path, images=None) == none
    assert lines(tmp_path, "device: cpu") == none
    for gpus in ("gres: gpu:a100:1", "sbatch: {gpus-per-task: 'v100:1', ntasks: 1}", "gres: gpu:h100_1g.10gb:1"):
        asked = parse_profile(f"executor: slurm\n{gpus}\n", "test")
        assert costs(tmp_path, asked) == none, gpus
    assert lines(tmp_path, arrays=[]) == []


def test_cost_without_results_is_rough_and_by_section(tmp_path: Path) -> None:
    plan = expand(THE_REPORT.tables, (0, 1, 2), StudySettings())
    estimate, sections = lines(tmp_path, arrays=make_arrays(plan, "s", {}, None), images=5784)
    assert re.fullmatch(
        r"rough estimate, if the GPUs are H100s: \d+ GPU minutes, \d+ min at 4 tasks of each array at a time, "
        r"plus queueing \(rates of one H100 in docs/performance.md; your own count once a run has finished an "
        r"epoch\)",
        estimate,
    )
    assert re.fullmatch(r"by section: (\w+ \d+ GPU minutes(, )?){4}", sections)
    asked = parse_profile("executor: slurm\ngres: gpu:nvidia_h100_80gb_hbm3:1\n", "test")
    assert costs(tmp_path, asked, images=5784)[0].startswith("rough estimate: ")
    write_result(tmp_path, PLAN[0], epoch_seconds=20.0)
    assert lines(tmp_path)[0].startswith("estimated ")


def test_cost_from_the_rate_of_the_profile(tmp_path: Path) -> None:
    # 10 runs of 30 epochs of 100 images at 1 image/s: 3,000 s each.
    (line,) = lines(tmp_path, "images_per_second: {alexnet: 1}")
    assert line == (
        "estimated 8.3 GPU hours, 2 h 30 min at 4 tasks of each array at a time, plus queueing "
        "(from images_per_second in the profile, without start-up)"
    )


def test_cost_of_seconds_is_not_zero(tmp_path: Path) -> None:
    assert lines(tmp_path, "images_per_second: {alexnet: 10000}")[0].startswith(
        "estimated under one GPU minute, under a minute at 4 tasks"
    )


@pytest.mark.parametrize(("rate", "words"), [(100, "5 GPU minutes, 2 min at"), (5, "1.7 GPU hours, 30 min at")])
def test_cost_below_an_hour_and_a_half_is_in_minutes(rate: int, words: str, tmp_path: Path) -> None:
    assert lines(tmp_path, f"images_per_second: {{alexnet: {rate}}}")[0].startswith(f"estimated {words}")


def test_cost_from_the_epochs_of_a_lost_run(tmp_path: Path) -> None:
    progress = Progress(
        run_id="r", epoch=20, epochs=30, images_per_second=1.0, seconds_left=600.0, submission="s", job="1",
        host="h", when="2026-01-01T11:59:00Z",
    )  # fmt: skip
    (line,) = costs(tmp_path, profile(), unfinished=[(PLAN[0].config, progress, 100)])
    assert line == (
        "estimated 5.0 GPU hours, 1 h 30 min at 4 tasks of each array at a time, plus queueing "
        "(from 1 unfinished run, without start-up)"
    )


def test_cost_from_finished_runs(tmp_path: Path) -> None:
    write_result(tmp_path, PLAN[0], epoch_seconds=20.0)  # 610 s with 10 s besides epochs
    (line,) = lines(tmp_path)
    assert line == (
        "estimated 1.7 GPU hours, 30 min at 4 tasks of each array at a time, plus queueing "
        "(from 1 finished run on A100)"
    )
    two = parse_profile("executor: slurm\ngpus_per_node: 2\nmax_parallel: 4\n", "test")
    assert "estimated 3.4 GPU hours, 30 min" in costs(tmp_path, two)[0]


def test_cost_ignores_results_of_another_type_of_device(tmp_path: Path) -> None:
    write_result(tmp_path, PLAN[0], device="cpu")
    assert lines(tmp_path)[0].startswith("rough estimate")
    assert "CPU task hours" in costs(tmp_path, profile("device: cpu"))[0]


def test_cost_of_some_runs_names_the_others(tmp_path: Path) -> None:
    plan = [*PLAN, *expand(THE_REPORT.select(tables=["resnet.batch_256"]), (0,), StudySettings())]
    arrays = make_arrays(plan, "s", {}, None)
    estimate, sections, missing = lines(tmp_path, "images_per_second: {alexnet: 1}", arrays)
    assert estimate.startswith("estimated 8.3 GPU hours for 10 of 11 runs, 2 h 30 min at 4 tasks")
    assert sections == "by section: scratch 8.3 GPU hours, resnet unknown"
    assert missing == "no time estimate yet for 1 run of resnet18: none has finished an epoch"


@pytest.mark.parametrize(
    ("runs_per_task", "text", "words"),
    [
        (1, "time_minutes: 51", None),
        (
            2,
            "time_minutes: 51",
            "takes about 1 h 40 min, but its time limit is 51 min: Slurm will requeue it there",
        ),
        (
            1,
            "time_minutes: 49",
            "takes about 50 min, but its time limit is 49 min: Slurm will requeue it there, and it resumes",
        ),
        (1, "time_minutes: 49\nsbatch: {no-requeue: true}", "it will end there, and the same command resumes it"),
    ],
)
def test_cost_warns_of_tasks_longer_than_their_time_limit(
    runs_per_task: int, text: str, words: str | None, tmp_path: Path
) -> None:
    arrays = make_arrays(PLAN, "s", {"scratch": TaskSize(runs_per_task)}, None)
    _, *warning = lines(tmp_path, f"images_per_second: {{alexnet: 1}}\n{text}", arrays)
    assert len(warning) == (words is not None)
    assert not words or words in warning[0]


def test_dry_run_shows_the_cost_and_writes_nothing(submit: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    done_run, *_ = write_paper_study(runs)
    write_result(runs, done_run, device="cpu")
    before = sorted(path for path in runs.rglob("*"))
    done = submit("table=scratch.lr", "seeds=2", "dry_run=true", "profile=demo", f"runs={runs}")
    assert "CPU task hours" in done.stdout or "CPU task minutes" in done.stdout
    assert "at 2 tasks at a time, plus queueing (from 1 finished run on EPYC)" in done.stdout
    assert sorted(path for path in runs.rglob("*")) == before


def test_rates_in_a_profile_are_numbers_above_zero() -> None:
    for bad in ("{a b: 1}", "{alexnet: 0}", "{alexnet: .inf}", "3"):
        with pytest.raises(Exception, match="images_per_second"):
            profile(f"images_per_second: {bad}")
    assert RunConfig().model in profile("images_per_second: {alexnet: 2900, resnet18: 1200.5}").images_per_second


def sizes(text: str, *words: str, room: int | None = None) -> tuple[list[tuple[int, float | None]], list[str]]:
    """(runs of a task, its time limit in minutes) of each section, and the lines."""
    executor = make_executor(profile(text))
    options = parse(SubmitOptions, dict(word.split("=") for word in words))
    throughput = measure_throughput({}, "cuda", executor.profile.images_per_second, ())
    chosen, lines_shown = choose_sizes(PLAN, options, executor, throughput, 200, room=room)
    limits = [(size.executor or executor).time_limit_seconds for size in chosen.values()]
    return [
        (size.runs, limit and limit / 60) for size, limit in zip(chosen.values(), limits, strict=True)
    ], lines_shown


ONE_AT_A_TIME = "sections: {scratch: {max_parallel: 1}}\n"
RATE = "images_per_second: {alexnet: 10}\n"  # 300 s a run


@pytest.mark.parametrize(
    ("text", "words", "room", "size"),
    [
        ("", (), None, (1, 240)),
        ("", ("runs_at_once=3",), None, (3, 240)),
        ("", ("runs_at_once=3", "runs_per_task=5"), None, (5, 240)),
        # With gpus_per_node: 1 of the base: a task fills an hour with 450 s a run, but 4 tasks run at a time.
        (RATE, ("runs_per_task=auto",), None, (3, 240)),
        (f"{RATE}{ONE_AT_A_TIME}", ("runs_per_task=auto",), None, (8, 240)),
        (f"{RATE}{ONE_AT_A_TIME}time_minutes: 20\n", ("runs_per_task=auto",), None, (2, 20)),
        (RATE, ("runs_per_task=auto",), 4, (5, 240)),
        ("", ("runs_per_task=auto",), 7, (2, 240)),
        ("", ("runs_per_task=auto",), 0, (10, 240)),
        ("", ("runs_at_once=auto",), None, (4, 240)),
        (RATE, ("time=auto",), None, (1, 15)),
        (RATE, ("time=auto", "runs_per_task=4"), None, (4, 35)),
        ("sections: {scratch: {time_minutes: 70}}\n", (), None, (1, 70)),
        ("sections: {scratch: {gpus_per_node: 4}}\n", (), None, (4, 240)),
    ],
)
def test_sizes_of_tasks(
    text: str, words: tuple[str, ...], room: int | None, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slurm, "max_minutes", lambda *_: [])
    assert sizes(text, *words, room=room)[0] == [size]


def test_a_time_limit_from_the_forecast_is_at_most_the_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slurm, "max_minutes", lambda *_: [30])
    assert sizes(RATE, "time=auto", "runs_per_task=10") == ([(10, 30)], ["scratch: time limit 30 min"])


def test_sizes_without_an_estimate_say_so() -> None:
    shown = sizes("", "time=auto", "runs_per_task=auto")[1]
    assert shown == [
        "scratch: 1 run in a task, without an estimate",
        "scratch: time limit 4 h 00 min, the profile's, without an estimate",
    ]


def test_cost_of_a_task_with_several_gpus_divides_its_runs_among_them(tmp_path: Path) -> None:
    executor = make_executor(profile("images_per_second: {alexnet: 1}\nsections: {scratch: {gpus_per_node: 2}}"))
    arrays = make_arrays(PLAN, "s", {"scratch": TaskSize(2, executor.for_section("scratch"))}, None)
    (line,) = costs(tmp_path, executor.profile, arrays)
    assert line.startswith("estimated 8.3 GPU hours, 1 h 40 min at 4 tasks of each array at a time")
