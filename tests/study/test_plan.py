"""Seeds of rows, and the expansion of tables into runs."""

from collections.abc import Sequence

import pytest

from caltech_exp.catalog import THE_REPORT, read_catalog, row_key
from caltech_exp.catalog.loader import parse_seeds
from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig, run_id
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.manifest import Manifest, PublishedSeeds, SubmittedTask
from caltech_exp.study.plan import (
    catalog_seeds,
    check_frozen_batchnorm,
    describe_seeds,
    expand,
    requested_seeds,
)
from caltech_exp.study.study import StudySettings

STUDY = read_catalog(
    """
seeds: 2
sections:
  a:
    tables:
      lr: {sweep: {lr: [1e-3, 1e-2, 5e-2]}}
      same: {seeds: 4, rows: {again: {lr: 5e-2}, other: {momentum: 0.5}}}
""",
    "mine",
    "mine.yaml",
)
CONFIGS = {row_key("a", t.name, row.label): row.config for _, t in STUDY.tables for row in t.rows}
IDS = {key: config.id for key, config in CONFIGS.items()}


def manifest(*runs: str, seeds: Sequence[int], requests: dict[str, tuple[int, ...]] | None = None) -> Manifest:
    """A submission of the runs, on paper."""
    return Manifest(
        id="20260101T000000-abcd",
        executor="local",
        job_names=("a.study",),
        tasks=tuple(SubmittedTask(array=0, index=n, job="", runs=(run,)) for n, run in enumerate(runs)),
        settings=StudySettings(),
        seeds=tuple(seeds),
        requests=requests or {},
        profile={},
        command=(),
        code=CodeVersion(version="0", commit=None, dirty=None),
        host="login",
        created="2026-01-01T12:00:00Z",
    )


def by_row(*manifests: Manifest, published: PublishedSeeds | None = None) -> dict[str, int]:
    """How many seeds each row of STUDY has."""
    seeds = requested_seeds(STUDY, StudySettings(), manifests, published)
    return {key: len(seeds[config_id]) for key, config_id in IDS.items()}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (0, 1, 2)),
        ("1", (0,)),
        ("0,1,2", (0, 1, 2)),
        ("7,", (7,)),
        ("5, 3", (5, 3)),
        ("4294967295,", (2**32 - 1,)),
    ],
)
def test_parse_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["0", "-1", "a", "1.5", "", ",", "1,,2", "1,1", "4294967296,", "²", "99999999999999999999", "100001"]
)
def test_parse_seeds_rejects_anything_else(text: str) -> None:
    with pytest.raises(UserError, match="seeds takes a number of seeds"):
        parse_seeds(text)


def test_expand_refuses_more_runs_than_a_study_may_have() -> None:
    with pytest.raises(UserError, match=r"^4,000,000 runs are more than 1,000,000; use fewer seeds= or rows$"):
        expand(THE_REPORT.tables, parse_seeds("100000"), StudySettings())


def test_expand_merges_rows_of_one_configuration() -> None:
    tables = THE_REPORT.select([], ["scratch.epochs"])
    assert len(expand(tables, (0,), StudySettings())) == 5
    (only,) = expand(tables, (0,), StudySettings(overrides={"epochs": 1}))
    assert only.rows == tuple(f"scratch.epochs={n}" for n in (20, 30, 40, 50, 60))
    assert only.config.epochs == 1


def test_expand_replaces_imagenet_weights_only_in_rows_that_use_them() -> None:
    settings = StudySettings(imagenet_weights={"resnet18": "/w/resnet18.pth@sha256:" + "0" * 64})
    runs = expand(THE_REPORT.select(["resnet", "transfer"]), (0,), settings)
    replaced = {(run.config.model, run.config.weights.partition("@")[0]) for run in runs}
    assert replaced == {("alexnet", "imagenet"), ("resnet18", "none"), ("resnet18", "/w/resnet18.pth")}


def test_expand_names_a_row_that_the_overrides_do_not_fit() -> None:
    settings = StudySettings(overrides={"model": "/x/nets.py:tiny"})
    assert expand(THE_REPORT.select(["scratch"]), (0,), settings)
    with pytest.raises(UserError, match=r"^transfer\.lr=1e-4 with model=/x/nets\.py:tiny: .* give weights=none"):
        expand(THE_REPORT.select(["transfer"], ["transfer.lr"]), (0,), settings)


def test_expand_keeps_seeds_of_a_configuration_together() -> None:
    runs = expand(THE_REPORT.select([], ["scratch.lr"]), (0, 1), StudySettings())
    assert [run.seed for run in runs] == [0, 1] * 5


def test_expand_takes_the_seeds_of_each_configuration() -> None:
    seeds = dict.fromkeys(IDS.values(), (0,)) | {IDS["a.lr=5e-2"]: (5, 3)}
    runs = expand(STUDY.tables, seeds, StudySettings())
    assert [(run.rows[0], run.seed) for run in runs] == [
        ("a.lr=1e-3", 0),
        ("a.lr=1e-2", 0),
        ("a.lr=5e-2", 5),
        ("a.lr=5e-2", 3),
        ("a.same=other", 0),
    ]


def test_rows_that_nobody_submitted_have_the_catalogs_seeds() -> None:
    # a.same=again is the same run as a.lr=5e-2
    assert by_row() == {"a.lr=1e-3": 2, "a.lr=1e-2": 2, "a.lr=5e-2": 4, "a.same=again": 4, "a.same=other": 4}


def test_requested_seeds_are_those_of_all_submissions_of_the_row() -> None:
    section = manifest(seeds=(0, 1, 2), requests=dict.fromkeys(IDS.values(), (0, 1, 2)))
    row = manifest(seeds=range(10), requests={IDS["a.lr=1e-2"]: tuple(range(10))})
    other = manifest(seeds=(7,), requests={IDS["a.same=again"]: (7,)})
    counts = {"a.lr=1e-3": 3, "a.lr=1e-2": 10, "a.lr=5e-2": 4, "a.same=again": 4, "a.same=other": 3}
    assert by_row(section, row, other) == by_row(row, other, section) == counts
    assert by_row(row)["a.lr=1e-3"] == 2
    assert by_row(other)["a.lr=5e-2"] == 1


def test_a_submission_with_orphaned_tasks_still_asks_for_its_rows() -> None:
    row = manifest(run_id(CONFIGS["a.lr=1e-2"], 9), seeds=range(10), requests={IDS["a.lr=1e-2"]: tuple(range(10))})
    assert by_row(row.model_copy(update={"tasks": ()})) == by_row(row)


def test_manifests_of_older_versions_ask_for_their_seeds_of_the_rows_that_they_train() -> None:
    runs = [run_id(CONFIGS["a.lr=1e-3"], 0), run_id(CONFIGS["a.lr=5e-2"], 2), "no run", "0123456789-s0"]
    old = manifest(*runs, seeds=range(5))
    assert by_row(old) == {"a.lr=1e-3": 5, "a.lr=1e-2": 2, "a.lr=5e-2": 5, "a.same=again": 5, "a.same=other": 4}


def test_published_seeds() -> None:
    published = PublishedSeeds(seeds=tuple(range(10)), requests={IDS["a.lr=1e-2"]: tuple(range(10))})
    assert by_row(published=published) == by_row() | {"a.lr=1e-2": 10}
    assert set(by_row(published=PublishedSeeds(seeds=(0, 1, 2))).values()) == {3}  # of an older version
    assert by_row(published=PublishedSeeds()) == by_row()


def test_results_of_a_copied_study_count_as_asked_for() -> None:
    seeds = requested_seeds(STUDY, StudySettings(), (), results=[run_id(CONFIGS["a.lr=1e-2"], 7)])
    assert seeds == catalog_seeds(STUDY.tables, StudySettings()) | {IDS["a.lr=1e-2"]: (7,)}


def test_rows_that_settings_make_one_run_have_the_seeds_of_all() -> None:
    (seeds,) = requested_seeds(STUDY, StudySettings(overrides={"lr": 0.1, "momentum": 0.9}), ()).values()
    assert seeds == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ({}, ""),
        ({"a.lr=1e-2": 10}, "a.lr=1e-2: 10 seeds, other rows 3"),
        ({"a.lr=1e-2": 1, "a.lr=1e-3": 10}, "a.lr=1e-3: 10 seeds, a.lr=1e-2: 1 seed, other rows 3"),
        ({"a.lr=1e-2": 5, "a.lr=1e-3": 5}, "a.lr=1e-3, a.lr=1e-2: 5 seeds, other rows 3"),
    ],
)
def test_seeds_are_described_where_rows_differ(seeds: dict[str, int], text: str) -> None:
    by_id = dict.fromkeys(IDS.values(), (0, 1, 2)) | {IDS[row]: tuple(range(n)) for row, n in seeds.items()}
    assert describe_seeds(expand(STUDY.tables, by_id, StudySettings())) == text


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        (["scratch.lr"], "scratch.template=template, scratch.lr, scratch.epochs=30: 9 seeds, other rows 3"),
        (
            ["augmentation.augment", "transfer.freezing", "transfer.lr=1e-2", "scratch.lr=6e-2"],
            "scratch.lr=6e-2, transfer.lr=1e-2, transfer.step_size=50, transfer.freezing and 1 more: "
            "9 seeds, other rows 3",
        ),
    ],
)
def test_whole_tables_go_by_their_names_and_at_most_four_are_named(tables: list[str], text: str) -> None:
    more = dict.fromkeys(catalog_seeds(THE_REPORT.select(tables=tables), StudySettings()), range(9))
    seeds = catalog_seeds(THE_REPORT.tables, StudySettings()) | more
    assert describe_seeds(expand(THE_REPORT.tables, seeds, StudySettings())) == text


def test_frozen_batchnorm_is_refused_only_if_it_has_no_effect_on_any_run() -> None:
    fixed = RunConfig(model="resnet18", freeze="conv", frozen_batchnorm="eval")
    check_frozen_batchnorm([fixed, fixed.but(model="alexnet")])
    check_frozen_batchnorm([fixed.but(model="alexnet", frozen_batchnorm="train")])
    check_frozen_batchnorm([])
    with pytest.raises(UserError, match="no effect with model=alexnet and freeze=fc: it needs"):
        check_frozen_batchnorm([fixed.but(model="alexnet"), fixed.but(freeze="fc"), RunConfig()])
