"""A runs folder holds one study."""

from pathlib import Path

import pytest

from caltech_exp.catalog import TEMPLATE, THE_REPORT, read_catalog
from caltech_exp.cli import UserError
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import (
    Study,
    StudyData,
    StudySettings,
)

CODE = CodeVersion(version="0", commit=None, dirty=None)
A, B = "a" * 64, "b" * 64


def data(fingerprint: str = "1" * 16) -> StudyData:
    return StudyData(
        root="/data",
        fingerprint=fingerprint,
        stand_in=False,
        classes=("Faces", "ant"),
        train_val_images=5784,
        test_images=2893,
    )


def study(**overrides: int | float | str) -> Study:
    return Study(settings=StudySettings(overrides=overrides), data=data(), created="now", code=CODE)


def folder_with(study: Study, path: Path) -> StudyFolder:
    StudyFolder(path).write_study(study)
    return StudyFolder(path)


def test_round_trip(tmp_path: Path) -> None:
    StudyFolder(tmp_path / "new folder").write_study(study(epochs=1, lr=0.5))
    assert StudyFolder(tmp_path / "new folder").study() == study(epochs=1, lr=0.5)
    assert StudyFolder(tmp_path).study() is None


def test_a_damaged_study_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study.json is damaged .*restore it, or use another runs= folder"):
        StudyFolder(tmp_path).study()


def test_other_overrides_are_refused_with_both_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        folder_with(study(epochs=1), tmp_path).require_same(
            StudySettings(overrides={"epochs": 2, "lr": 0.1}), data()
        )
    assert "holds a study with epochs=1, but this command sets epochs=2 lr=0.1" in str(caught.value)


def test_other_data_are_refused_with_both_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1111111111111111.*2222222222222222"):
        folder_with(study(), tmp_path).require_same(StudySettings(), data("2" * 16))


def test_the_order_of_overrides_and_the_place_of_a_pinned_file_do_not_count(tmp_path: Path) -> None:
    first = study(epochs=1, weights=f"/x/net.pth@sha256:{A}")
    folder = folder_with(first, tmp_path)
    folder.require_same(StudySettings(overrides={"weights": f"/y/net.pth@sha256:{A}", "epochs": 1}), data())
    with pytest.raises(UserError, match="bbbbbbbbbbbb"):
        folder.require_same(StudySettings(overrides={"weights": f"/x/net.pth@sha256:{B}", "epochs": 1}), data())


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


def test_only_folders_of_runs_are_runs(tmp_path: Path) -> None:
    for name in ("0123456789-s0", "0123456789-s12", "submissions", "0123456789", "notes-s1"):
        (tmp_path / name).mkdir()
    assert [folder.name for folder in StudyFolder(tmp_path).run_folders()] == ["0123456789-s0", "0123456789-s12"]
    assert list(StudyFolder(tmp_path / "nowhere").run_folders()) == []
