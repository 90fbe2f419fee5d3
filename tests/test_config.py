"""Identity and validation of a run's settings."""

import pytest
from pydantic import ValidationError

from caltech_exp.config import RunConfig, run_id, split_run_id

DIGEST = "ab" * 32


REFERENCE = RunConfig(engine="reference")


def test_run_id_is_stable() -> None:
    # A change here means that no result of an earlier version is found again: see the CHANGELOG's rule.
    other = {"model": "resnet18", "weights": "imagenet", "lr": 5e-2}
    assert REFERENCE.id == "d5ef5c5355"
    assert run_id(REFERENCE.but(**other), 2) == "78306a786b-s2"
    assert RunConfig().id == "ffaa4cfdb4"
    assert run_id(RunConfig().but(**other), 2) == "5ecc0bb5ec-s2"


def test_run_id_names_configuration_and_seed() -> None:
    assert split_run_id(run_id(REFERENCE, 12)) == (REFERENCE.id, 12)


OTHER = {
    "model": "resnet18", "weights": "imagenet", "freeze": "conv", "augment": "crop", "lr": 0.5,
    "momentum": 0.5, "weight_decay": 0.5, "batch_size": 7, "epochs": 7, "step_size": 7, "gamma": 0.5,
    "max_images": 7, "max_per_class": 7, "sampling": "balanced", "workers": 7,
    "last_batch": "keep", "resize": 0, "normalization": "half",
    "optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 7, "label_smoothing": 0.5,
    "engine": "reference", "precision": "fp32", "classes": 5, "data_set": "0123456789abcdef",
}  # fmt: skip
"""Another value than the default of every setting, but of frozen_batchnorm."""


def test_every_setting_has_another_value() -> None:
    assert {*OTHER, "frozen_batchnorm"} == {*RunConfig.model_fields}


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"model": "resnet18", "freeze": "conv"}, None),
        ({"model": "resnet18", "freeze": "conv", "engine": "reference"}, None),
        ({"model": "nets.py:tiny"}, None),  # it may freeze layers itself
        ({"model": "resnet18"}, "freeze=none"),
        ({"model": "resnet18", "freeze": "fc"}, "freeze=fc"),
        ({"model": "alexnet", "freeze": "conv"}, "model=alexnet"),
    ],
    ids=str,
)
def test_frozen_batchnorm_counts_in_the_id_where_one_is_frozen(
    settings: dict[str, str], cause: str | None
) -> None:
    config = RunConfig.model_validate(settings)
    assert (config.but(frozen_batchnorm="eval").id == config.id) == (cause is not None)
    assert config.unused.get("frozen_batchnorm") == cause


@pytest.mark.parametrize("name", [name for name in OTHER if name != "workers"])
def test_id_depends_on_every_setting_of_the_fast_engine(name: str) -> None:
    assert RunConfig().but(**{name: OTHER[name]}).id != RunConfig().id


@pytest.mark.parametrize("name", [name for name in OTHER if name not in ("engine", "precision")])
def test_id_depends_on_every_setting_of_the_reference_engine(name: str) -> None:
    assert REFERENCE.but(**{name: OTHER[name]}).id != REFERENCE.id


def test_id_of_the_fast_engine_ignores_workers() -> None:
    assert RunConfig(workers=0).id == RunConfig(workers=7).id


def test_setting_without_effect_does_not_count_in_the_id() -> None:
    for changes, unused in (
        ({"optimizer": "adamw"}, {"momentum": 0.5}),
        ({"schedule": "cosine"}, {"step_size": 7, "gamma": 0.5}),
        ({"schedule": "constant"}, {"step_size": 7, "gamma": 0.5}),
    ):
        config = RunConfig().but(**changes)
        assert config.but(**unused).id == config.id
        assert not config.settings.keys() & unused.keys()
        assert RunConfig().but(**unused).id != RunConfig().id


def test_reference_engine_has_one_precision() -> None:
    assert REFERENCE.precision == "fp32"
    assert RunConfig(engine="reference", precision="fp32").id == REFERENCE.id
    with pytest.raises(ValidationError, match="engine=reference computes in fp32; leave precision out, or use"):
        RunConfig(engine="reference", precision="bf16")


def test_new_engine_has_its_own_precision() -> None:
    there = RunConfig().but(engine="reference")
    assert there.precision == "fp32"
    assert there.but(engine="fast") == RunConfig()
    assert there.but(engine="fast", precision="fp32").precision == "fp32"


def test_same_engine_keeps_the_precision() -> None:
    fp32 = RunConfig(precision="fp32")
    assert fp32.but(engine="fast") == fp32
    assert REFERENCE.but(engine="reference") == REFERENCE


def test_id_ignores_the_spelling_of_a_number() -> None:
    assert RunConfig.model_validate({"lr": "5e-2", "epochs": "60"}).id == RunConfig(lr=0.05, epochs=60).id


def test_id_depends_on_a_pinned_files_content_not_its_path() -> None:
    here, there = (RunConfig(weights=f"{place}/net.pth@sha256:{DIGEST}") for place in ("/a", "/b"))
    assert here.id == there.id
    assert here.id != RunConfig(weights=f"/a/net.pth@sha256:{'cd' * 32}").id


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", 0), ("lr", -1), ("lr", "abc"), ("lr", "nan"), ("lr", "inf"), ("momentum", 1), ("epochs", 0),
        ("batch_size", 0), ("batch_size", 1.5), ("gamma", 0), ("gamma", 1.1), ("weights", ""), ("model", "vgg"),
        ("max_images", -1), ("workers", 65), ("colour", "red"),
    ],
)  # fmt: skip
def test_value_out_of_range_is_refused(setting: str, value: object) -> None:
    with pytest.raises(ValidationError):
        RunConfig.model_validate({setting: value})


def test_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        RunConfig().lr = 1.0  # type: ignore[misc]
