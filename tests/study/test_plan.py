"""Seeds and the expansion of tables into runs."""

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.catalog.loader import parse_seeds
from caltech_exp.cli import UserError
from caltech_exp.study.plan import expand
from caltech_exp.study.study import StudySettings


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
