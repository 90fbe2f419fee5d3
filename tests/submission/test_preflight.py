"""The checks before a submission: warnings, and the packs that are missing."""

from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import shared_pack
from caltech_exp.data.splits import read_data_set
from caltech_exp.study.plan import expand
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.preflight import merged_rows, missing_packs
from caltech_exp.submission.request import parse_request
from tests.conftest import Command


def warnings(*words: str) -> list[str]:
    return merged_rows(parse_request([*words, "profile=local"]))


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("table=scratch.lr lr=0.01 seeds=1", ["lr=0.01 makes the 5 rows of scratch.lr one run"]),
        ("table=scratch.lr lr=0.01 seeds=2", ["lr=0.01 makes the 5 rows of scratch.lr one run per seed"]),
        (
            "table=scratch.lr,scratch.epochs lr=0.01 max_images=20 seeds=1",
            ["lr=0.01 makes 6 of the 10 rows of scratch.lr and scratch.epochs one run"],
        ),
        ("table=scratch.lr epochs=5 seeds=1", []),
    ],
)
def test_merged_rows_are_named_with_the_overrides_that_merge_them(words: str, lines: list[str]) -> None:
    assert warnings(*words.split()) == [f"warning: {line}" for line in lines]


def test_merged_rows_without_overrides_are_no_warning() -> None:
    assert (
        len(expand(THE_REPORT.tables, [0], StudySettings())) == 40 < sum(len(t.rows) for _, t in THE_REPORT.tables)
    )
    assert warnings("section=all") == []
    assert warnings("section=all", "max_images=20") == []


def test_merged_rows_of_many_tables_take_one_line() -> None:
    words = "section=all lr=0.01 epochs=1 batch_size=8 step_size=1 freeze=none seeds=1"
    (line,) = warnings(*words.split())
    assert all(section in line for section in ("scratch", "transfer", "resnet"))


def test_dry_run_warns_of_merged_rows(submit: Command, stand_in: Path, tmp_path: Path) -> None:
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


CONFIG = RunConfig(max_images=4)
CENTERS = [("train", 4, "center", 256), ("val", 4, "center", 256), ("test", 4, "center", 256)]


def test_missing_packs_are_one_set_per_resize_and_whole_images_for_random_crops(
    stand_in: Path, tmp_path: Path
) -> None:
    data = read_data_set(stand_in)
    assert sorted(missing_packs([CONFIG], data, tmp_path)) == sorted(CENTERS)
    assert ("train", 4, "resized", 256) in missing_packs([CONFIG.but(augment="crop")], data, tmp_path)
    as_they_are = missing_packs([CONFIG, CONFIG.but(resize=0)], data, tmp_path)
    assert {item[3] for item in as_they_are} == {0, 256}
    assert len(as_they_are) == 6
    assert missing_packs([CONFIG.but(engine="reference")], data, tmp_path) == {}


def test_missing_packs_leave_out_packs_that_exist(stand_in: Path, tmp_path: Path) -> None:
    data = read_data_set(stand_in)
    for item in missing_packs([CONFIG], data, tmp_path):
        shared_pack(tmp_path, split_contents(data, *item))
    assert missing_packs([CONFIG], data, tmp_path) == {}
    assert len(missing_packs([CONFIG.but(resize=0)], data, tmp_path)) == 3
