"""What submit and a dry run say of the plan."""

from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.study.plan import expand
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.submission import MOST_MERGED, merged_lines
from tests.conftest import Command


@pytest.mark.parametrize(
    ("tables", "overrides", "seeds", "lines"),
    [
        (["scratch.lr"], {"lr": 0.01}, [0], ["lr=0.01 makes the 5 rows of scratch.lr one run"]),
        (["scratch.lr"], {"lr": 0.01}, [0, 1], ["lr=0.01 makes the 5 rows of scratch.lr one run per seed"]),
        (
            ["scratch.lr", "scratch.epochs"],
            {"lr": 0.01, "max_images": 20},
            [0],
            ["lr=0.01 makes 6 of the 10 rows of scratch.lr and scratch.epochs one run"],
        ),
        (["scratch.lr"], {"epochs": 5}, [0], []),
    ],
)
def test_overrides_that_make_rows_the_same_run_are_named(
    tables: list[str], overrides: dict[str, int | float | str], seeds: list[int], lines: list[str]
) -> None:
    chosen = THE_REPORT.select(tables=tables)
    settings = StudySettings(overrides=overrides)
    assert merged_lines(chosen, settings, seeds) == [f"warning: {line}" for line in lines]


def test_rows_that_are_alike_without_overrides_are_no_warning() -> None:
    assert (
        len(expand(THE_REPORT.tables, [0], StudySettings())) == 40 < sum(len(t.rows) for _, t in THE_REPORT.tables)
    )
    assert merged_lines(THE_REPORT.tables, StudySettings(), [0]) == []
    assert merged_lines(THE_REPORT.tables, StudySettings(overrides={"max_images": 20}), [0]) == []


def test_many_tables_take_few_lines() -> None:
    overrides: dict[str, int | float | str] = {
        "lr": 0.01,
        "epochs": 1,
        "batch_size": 8,
        "step_size": 1,
        "freeze": "none",
    }
    lines = merged_lines(THE_REPORT.tables, StudySettings(overrides=overrides), [0])
    assert 1 <= len(lines) <= MOST_MERGED
    assert all("scratch" in line or "transfer" in line or "resnet" in line for line in lines)


def test_a_dry_run_warns(submit: Command, stand_in: Path, tmp_path: Path) -> None:
    words = (
        "table=scratch.lr",
        "lr=1e-2",
        "seeds=2",
        "profile=demo",
        f"data={stand_in}",
        f"runs={tmp_path / 'runs'}",
    )
    done = submit(*words, "dry_run=true")
    assert "2 runs of 1 configuration: 2 pending" in done.stdout
    assert done.stdout.count("warning: lr=0.01 makes the 5 rows of scratch.lr one run per seed\n") == 1
