"""What a study changes in every row."""

import pytest

from caltech_exp.catalog import TEMPLATE, THE_REPORT, read_catalog
from caltech_exp.cli import UserError
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.study import (
    StudySettings,
)

CODE = CodeVersion(version="0", commit=None, dirty=None)
A, B = "a" * 64, "b" * 64


def test_settings_apply_to_a_row() -> None:
    settings = StudySettings(overrides={"epochs": 2}, imagenet_weights={"alexnet": f"/a.pth@sha256:{A}"})
    assert settings.apply(TEMPLATE) == TEMPLATE.but(epochs=2)
    assert settings.apply(TEMPLATE.but(weights="imagenet")).weights == f"/a.pth@sha256:{A}"


def test_an_engine_that_is_given_again_leaves_a_rows_precision_as_it_is() -> None:
    row = TEMPLATE.but(precision="fp32")
    assert StudySettings(overrides={"engine": "fast"}).apply(row) == row


OWN = {"model": f"/x/nets.py:tiny@sha256:{A}"}


@pytest.mark.parametrize(
    ("overrides", "row", "message"),
    [
        (OWN, "transfer.lr=1e-4", "ImageNet weights exist for alexnet and resnet18 only; give weights=none"),
        (
            {"precision": "bf16"},
            "mine.engines=reference",
            "engine=reference computes in fp32; leave precision out",
        ),
    ],
)
def test_overrides_that_do_not_fit_a_row_name_it_and_what_to_do(
    overrides: dict[str, int | float | str], row: str, message: str
) -> None:
    engines = read_catalog(
        "sections: {mine: {tables: {engines: {sweep: {engine: [fast, reference]}}}}}", "mine", "mine.yaml"
    )
    settings = StudySettings(overrides=overrides)
    with pytest.raises(UserError) as caught:
        settings.require_fit((*THE_REPORT.select(["transfer"], ["transfer.lr"]), *engines.tables))
    assert str(caught.value).startswith(f"{row} with {settings}: {message}")


def test_overrides_that_fit_every_row_are_taken() -> None:
    StudySettings(overrides={**OWN, "weights": "none"}).require_fit(THE_REPORT.tables)
    StudySettings(overrides={"precision": "fp32"}).require_fit(THE_REPORT.tables)
