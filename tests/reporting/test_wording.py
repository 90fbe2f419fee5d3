"""Settings, states, commands and cautions in the report's words."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from caltech_exp.catalog import read_catalog
from caltech_exp.config import PIN, RunConfig
from caltech_exp.provenance import CHECKOUT
from caltech_exp.reporting.comparison import NetworkStart, TableRow, find_row
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.wording import (
    as_typed,
    cautions,
    changed_settings,
    computed_with,
    count_line,
    display_path,
    how_to_get,
    network_name,
    picture_caution,
    row_words,
    setting,
    shared_settings,
    start_words,
    submit_command,
)
from caltech_exp.study.results import DataRecord
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import PRINT, SampleStudy, make_result, row_config

STAND_IN = DataRecord(fingerprint=PRINT, stand_in=True, train_images=9, val_images=9, test_images=9)
NETWORK = f"/nets/nets.py:tiny@sha256:{'a' * 64}"
WEIGHTS = f"/weights/$net$.pth{PIN}{'c' * 64}"


def pages(sample: SampleStudy) -> list[str]:
    return [caution.page for caution in cautions(read_study(sample.path))]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", 0.05, "LR = 5e-2"),
        ("lr", 0.00125, "LR = 1.25e-3"),
        ("weight_decay", 0.0, "WEIGHT_DECAY = 0"),
        ("momentum", 0.9, "MOMENTUM = 0.9"),
        ("weights", "imagenet", "pretrained on ImageNet"),
        ("weights", WEIGHTS, "starting from $net$.pth (sha256 cccccccccccc)"),
        ("model", "resnet18", "ResNet-18"),
        ("model", NETWORK, "tiny of nets.py (sha256 aaaaaaaaaaaa)"),
        ("max_images", 64, "at most 64 images of each split"),
        ("resize", 128, "images resized to 128 pixels before the crop"),
        ("optimizer", "adamw", "AdamW"),
        ("schedule", "cosine", "cosine schedule"),
        ("frozen_batchnorm", "eval", "batch normalisation of frozen layers kept fixed"),
        ("warmup_epochs", 5, "WARMUP_EPOCHS = 5"),
        ("label_smoothing", 0.1, "LABEL_SMOOTHING = 0.1"),
    ],
)
def test_setting_is_in_the_reports_words(name: str, value: object, words: str) -> None:
    assert setting(name, value) == words


def test_shared_settings_leave_out_what_differs_and_what_only_computes() -> None:
    words = shared_settings([row_config("transfer.freezing", "fully connected"), RunConfig(weights="imagenet")])
    assert words.startswith("AlexNet, pretrained on ImageNet, no augmentation")
    assert "BATCH_SIZE = 256" in words
    assert words.endswith("NUM_CLASSES = 102")
    assert not any(word in words for word in ("layers trained", "LR =", "engine", "precision", "resize"))


def test_settings_without_effect_are_not_listed() -> None:
    words = shared_settings([RunConfig(optimizer="adamw", schedule="cosine", label_smoothing=0.1)])
    assert "AdamW, cosine schedule" in words
    assert "LABEL_SMOOTHING = 0.1" in words
    assert not any(word in words for word in ("MOMENTUM", "STEP_SIZE", "GAMMA", "WARMUP"))
    assert "SGD" not in shared_settings([RunConfig()])


def test_changed_settings_have_the_studys_values() -> None:
    changed = RunConfig(epochs=1, precision="fp32", workers=0)
    assert changed_settings(RunConfig(), changed) == ["NUM_EPOCHS = 1"]


def test_engines_are_named_once() -> None:
    configs = [RunConfig(), RunConfig(lr=1), RunConfig(engine="reference")]
    assert computed_with(configs) == "the fast engine in bf16 and the reference engine in fp32 with 4 workers"


def test_files_are_typed_by_name_and_hash() -> None:
    assert network_name("alexnet") == "AlexNet"
    assert as_typed({"model": NETWORK, "lr": 0.05}) == "model=tiny of nets.py (sha256 aaaaaaaaaaaa) lr=0.05"


def test_folder_of_the_checkout_is_relative() -> None:
    assert display_path(CHECKOUT / "reports" / "x") == "reports/x"
    assert display_path(Path("/scratch/runs")) == "/scratch/runs"


def test_states_are_counted_most_advanced_first() -> None:
    states = ["pending", "failed", "finished", "pending", "newer"]
    assert count_line(states) == ("1 of 5 runs finished; 1 failed, 1 written by a newer version, 2 not submitted")
    assert count_line(["finished"]) == "1 of 1 runs finished"


def test_command_names_folder_seeds_data_and_overrides(folder: SampleStudy) -> None:
    sample = SampleStudy(
        folder.path, StudySettings(overrides={"epochs": 1}, imagenet_weights={"alexnet": WEIGHTS})
    )
    sample.start(root="/data/caltech 101")
    study = read_study(sample.path)
    start = f"python jobs/submit.py table=scratch.lr=6e-2 runs={folder.path}"
    end = "'data=/data/caltech 101' epochs=1 imagenet_weights=/weights"
    assert submit_command(study, "table=scratch.lr=6e-2") == f"{start} {end}"
    assert submit_command(study, "table=scratch.lr=6e-2", seeds=10) == f"{start} seeds=10 {end}"


def test_rows_without_weights_say_which_were_not_given(folder: SampleStudy) -> None:
    sample = SampleStudy(
        folder.path, StudySettings(imagenet_weights={"resnet18": WEIGHTS.replace("/weights/", "")})
    )
    sample.start()
    study = read_study(sample.path)
    lacking, others = (find_row(study, key) for key in ("transfer.lr=1e-2", "resnet.transfer=1e-2"))
    command = f"To get them: `python jobs/submit.py section=all runs={folder.path} imagenet_weights=FOLDER`"
    assert how_to_get(study, [others], "section=all") == command  # a published study names no folder
    assert how_to_get(study, [lacking, others], "section=all") == (
        f"No ImageNet weights of AlexNet were given; put alexnet.pth into the folder of the others. {command}"
    )


def test_command_leaves_out_the_usual_folder(folder: SampleStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.start()
    monkeypatch.chdir(folder.path.parent)
    assert os.path.realpath("runs") == os.path.realpath(folder.path)
    assert submit_command(read_study(folder.path), "section=all") == "python jobs/submit.py section=all"


def test_real_study_has_no_caution(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(RunConfig(), 0))
    assert pages(folder) == []


def test_settings_that_compute_the_same_are_no_caution(folder: SampleStudy) -> None:
    sample = SampleStudy(folder.path, StudySettings(overrides={"precision": "fp32", "workers": 0}))
    sample.start()
    assert pages(sample) == []


def test_simulated_study_says_so(folder: SampleStudy) -> None:
    folder.start(simulated=True)
    (page,) = pages(folder)
    assert page.startswith("**Simulated:** ")


@pytest.mark.parametrize("has_study", [True, False])
def test_stand_in_data_is_named_from_study_or_one_result(folder: SampleStudy, has_study: bool) -> None:
    if has_study:
        folder.start(stand_in=True)
    else:
        folder.add(make_result(RunConfig(), 0, data=STAND_IN))
    (page,) = pages(folder)
    assert page.startswith("**Not Caltech-101:** ")
    assert picture_caution(read_study(folder.path)) == "Not Caltech-101: generated stand-in data"


@pytest.mark.parametrize(("images", "has_caution"), [(5784, False), (5000, True)])
def test_another_selection_of_images_is_named(folder: SampleStudy, images: int, has_caution: bool) -> None:
    folder.start(train_val_images=images)
    assert any("5,000 + 2,893" in page for page in pages(folder)) == has_caution


def test_overrides_are_named_as_typed(folder: SampleStudy) -> None:
    overrides = {"epochs": 1, "engine": "reference", "max_images": 64}
    sample = SampleStudy(folder.path, StudySettings(overrides=overrides))
    sample.start()
    (page,) = pages(sample)
    assert "`epochs=1 max_images=64`" in page


def test_replaced_weights_concern_only_runs_that_start_from_them(folder: SampleStudy) -> None:
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights={"alexnet": WEIGHTS}))
    sample.start()
    study = read_study(sample.path)
    (caution,) = cautions(study)
    assert "**With other ImageNet weights** than the report's: `alexnet: $net$.pth (sha256 ccc" in caution.page
    assert caution.page.endswith("headings of their own, and a difference may come from the weights.")
    assert picture_caution(study, [RunConfig()]) == ""
    pretrained = sample.settings.apply(RunConfig(weights="imagenet"))
    assert picture_caution(study, [RunConfig(), pretrained]) == caution.picture


def test_rows_are_named_without_their_table(folder: SampleStudy) -> None:
    folder.start()
    study = read_study(folder.path)
    keys = ("scratch.lr=5e-2", "transfer.freezing=convolutional", "resnet.batch_256=256")
    assert [row_words(find_row(study, key)) for key in keys] == [
        "learning rate 5e-2",
        "layers trained convolutional",
        "A larger batch",
    ]
    part = study.restrict(study.catalog.restrict([], ["scratch.lr=5e-2"]))
    assert row_words(find_row(part, "scratch.lr=5e-2")) == "learning rate 5e-2"
    own = read_catalog("sections: {a: {tables: {b: {sweep: {lr: [1], batch_size: [2, 3]}}}}}", "mine", "mine.yaml")
    ((section, table),) = own.tables
    pair = TableRow(section, table, table.rows[0], table.rows[0].config, study.runs, True, is_comparable=True)
    assert row_words(pair) == "LR 1, batch size 2"


def test_networks_have_the_titles_that_the_catalog_gives(simulated: Path) -> None:
    study = read_study(simulated)
    start = NetworkStart("resnet18", is_pretrained=True)
    assert start_words(study, start) == "ResNet-18 pretrained"
    text = "architectures: {resnet18: {title: Residual, parameters: 1}}\n"
    text += "sections: {a: {tables: {b: {rows: {x: {}}}}}}"
    own = replace(study, catalog=read_catalog(text, "mine", "mine.yaml"))
    assert start_words(own, start) == "Residual pretrained"
    assert start_words(own, NetworkStart("alexnet", is_pretrained=False)) == "AlexNet from scratch"
