"""Reading result files strictly: whole and of this schema, or named as damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caltech_exp.config import RunConfig, run_id
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import Corrupt, write_record
from caltech_exp.study.results import RESULT, DataRecord, Device, Epoch, Result, read_result

CONFIG = RunConfig(epochs=1)


@pytest.fixture
def result() -> Result:
    return Result(
        run_id=run_id(CONFIG, 0),
        config=CONFIG,
        seed=0,
        status="finished",
        epochs=(Epoch(epoch=1, lr=1e-3, train_loss=4.6, val_loss=None, val_accuracy=0.09, seconds=1.5),),
        first_loss=4.62,
        val_accuracy=0.09,
        best_val_accuracy=0.09,
        test_loss=4.6,
        test_accuracy=0.1,
        data=DataRecord(fingerprint="0" * 16, stand_in=False, train_images=1, val_images=1, test_images=1),
        device=Device(type="cpu", name="cpu"),
        libraries={"torch": "2.7"},
        code=CodeVersion(version="0", commit=None, dirty=None),
        job="1_0",
        host="node",
        started="2026-01-01T00:00:00Z",
        wall_seconds=2.0,
        images_per_second=3.0,
        peak_memory_bytes=4,
    )


def test_what_is_written_is_read(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / result.run_id
    write_record(folder, RESULT, result)
    assert read_result(folder) == result


def test_a_result_from_before_there_was_a_precision_is_read_with_the_id_it_had(
    result: Result, tmp_path: Path
) -> None:
    config = RunConfig(engine="reference")
    epochs = result.epochs * config.epochs
    old = result.model_copy(update={"config": config, "run_id": "d5ef5c5355-s0", "epochs": epochs})
    path = write_record(tmp_path / old.run_id, RESULT, old)
    written = json.loads(path.read_text())
    del written["config"]["precision"]
    path.write_text(json.dumps(written))
    assert read_result(path.parent) == old


def test_a_result_from_before_earlier_code_was_named_is_read(result: Result, tmp_path: Path) -> None:
    path = write_record(tmp_path / result.run_id, RESULT, result)
    written = json.loads(path.read_text())
    del written["earlier_code"]
    path.write_text(json.dumps(written))
    assert read_result(path.parent) == result


def test_no_file_is_no_result(tmp_path: Path) -> None:
    assert read_result(tmp_path / "0123456789-s0") is None


def change(**values: Any) -> Callable[[str], str]:
    return lambda text: json.dumps({**json.loads(text), **values})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "EOF"),
        (lambda _: "", "the file is empty"),
        (lambda _: "[]", "object"),
        (lambda _: "{}", "run_id"),
        (lambda _: "\x00\xff", "json"),
        (change(schema_version=0), "schema version 0, this code reads 1"),
        (change(val_accuracy=1.5), "val_accuracy"),
        (change(seed=1), "holds run"),
        (change(extra=1), "extra"),
        (change(epochs=[]), "a finished run of 1 epochs has 0"),
        (change(val_accuracy=0.5), "val_accuracy is not that of the last epoch"),
        (change(val_accuracy=None), "val_accuracy is not that of the last epoch"),
        (change(test_accuracy=None), "a finished run lacks its test accuracy"),
        (lambda text: text.replace('"wall_seconds": 2.0', '"wall_seconds": Infinity'), "wall_seconds"),
        (lambda text: text.replace('"train_loss": 4.6', '"train_loss": NaN'), "train_loss"),
    ],
)
def test_damage_is_named(damage: Callable[[str], str], reason: str, result: Result, tmp_path: Path) -> None:
    folder = tmp_path / result.run_id
    path = write_record(folder, RESULT, result)
    path.write_text(damage(path.read_text()), encoding="latin-1")
    damaged = read_result(folder)
    assert isinstance(damaged, Corrupt)
    assert damaged.path == path
    assert reason.lower() in damaged.reason.lower()


def read_changed(result: Result, change: dict[str, object], folder: Path) -> Corrupt:
    """What is read of a result whose file holds these changes."""
    run = folder / result.run_id
    run.mkdir()
    (run / RESULT).write_text(json.dumps({**result.model_dump(mode="json"), **change}))
    corrupt = read_result(run)
    assert isinstance(corrupt, Corrupt)
    return corrupt


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"schema_version": 2}, "schema 2"),
        ({"schema_version": 2, "epochs": "of another form"}, "schema 2"),
        ({"schema_version": 10**12}, "schema 1000000000000"),
        ({"learned": 1}, "with learned"),
        ({"device": {"type": "cpu", "name": "cpu", "sockets": 2}}, "with device.sockets"),
    ],
)
def test_a_record_of_a_newer_version_is_told_as_that(
    change: dict[str, object], sign: str, result: Result, tmp_path: Path
) -> None:
    corrupt = read_changed(result, change, tmp_path)
    assert corrupt.is_newer
    assert corrupt.complaint("restore it") == (
        f"{tmp_path / result.run_id / RESULT} was made by a newer version of caltech_exp ({sign}); "
        "this version reads 1; update"
    )


@pytest.mark.parametrize("change", [{"schema_version": "2"}, {"schema_version": 0}, {"learned": 1, "seed": "x"}])
def test_a_damaged_record_is_of_no_newer_version(
    change: dict[str, object], result: Result, tmp_path: Path
) -> None:
    corrupt = read_changed(result, change, tmp_path)
    assert not corrupt.is_newer
    assert corrupt.complaint("restore it").endswith("); restore it")


@pytest.mark.parametrize(
    "change", [{"job": "../../etc/x"}, {"job": "-all"}, {"job": "1" * 65}, {"host": "a\nb"}, {"host": "../x"}]
)
def test_a_result_whose_job_or_host_cannot_be_is_damaged(
    change: dict[str, object], result: Result, tmp_path: Path
) -> None:
    folder = tmp_path / result.run_id
    folder.mkdir()
    (folder / RESULT).write_text(json.dumps({**result.model_dump(mode="json"), **change}))
    assert isinstance(read_result(folder), Corrupt)


@pytest.mark.parametrize(("classes", "text", "fits"), [
    (102, "0:101*1", True), (102, "0:102*1", False), (102, "102:0*1", False),
    (5, "4:0*2,4*1", True), (5, "0:5*1", False), (5, "12:0*1", False),
])  # fmt: skip
def test_confusion_matrix_has_the_classes_of_the_run(result: Result, classes: int, text: str, fits: bool) -> None:
    config = result.config.but(classes=classes)
    values = result.model_dump() | {"config": config, "run_id": run_id(config, result.seed), "val_confusion": text}
    if fits:
        assert Result.model_validate(values).val_confusion == text
    else:
        with pytest.raises(ValueError, match=r"val_confusion|more than 5 classes|pattern"):
            Result.model_validate(values)
