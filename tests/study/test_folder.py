"""The folder of a study: its record, its lock, and the commands that fit it."""

import errno
import os
import threading
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.cli import UserError
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import (
    Study,
    StudyData,
    StudySettings,
)
from tests.tools.testbed import until

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
    return Study(
        settings=StudySettings(overrides=overrides), data=data(), created="2026-01-01T12:00:00Z", code=CODE
    )


def folder_with(study: Study, path: Path) -> StudyFolder:
    StudyFolder(path).write_study(study)
    return StudyFolder(path)


def test_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    StudyFolder(tmp_path / "new folder").write_study(study(epochs=1, lr=0.5))
    assert StudyFolder(tmp_path / "new folder").study() == study(epochs=1, lr=0.5)
    assert StudyFolder(tmp_path).study() is None


def test_damaged_study_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study.json is damaged .*restore it, or use another runs= folder"):
        StudyFolder(tmp_path).study()


def test_require_same_names_what_differs(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        folder_with(study(epochs=1), tmp_path).require_same(
            StudySettings(overrides={"epochs": 2, "lr": 0.1}), data()
        )
    assert str(caught.value) == (
        f"{tmp_path} was started with epochs=1 and without lr; this command says epochs=2 lr=0.1; "
        "use another runs= folder"
    )
    with pytest.raises(UserError, match="was started with epochs=1; this command says nothing of epochs; "):
        StudyFolder(tmp_path).require_same(StudySettings(), data())


def test_require_same_looks_only_at_what_is_asked_for(tmp_path: Path) -> None:
    folder, settings = folder_with(study(), tmp_path), StudySettings(overrides={"epochs": 20})
    folder.require_same(settings, data(), tables=THE_REPORT.select(tables=["scratch.epochs=20"]))
    with pytest.raises(UserError, match="was started without epochs; this command says epochs=20;"):
        folder.require_same(settings, data(), tables=THE_REPORT.select(tables=["scratch.epochs"]))


def test_require_same_names_both_data_sets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1111111111111111.*2222222222222222"):
        folder_with(study(), tmp_path).require_same(StudySettings(), data("2" * 16))


def test_require_same_ignores_order_and_the_path_of_a_pinned_file(tmp_path: Path) -> None:
    first = study(epochs=1, weights=f"/x/net.pth@sha256:{A}")
    folder = folder_with(first, tmp_path)
    folder.require_same(StudySettings(overrides={"weights": f"/y/net.pth@sha256:{A}", "epochs": 1}), data())
    with pytest.raises(UserError, match="bbbbbbbbbbbb"):
        folder.require_same(StudySettings(overrides={"weights": f"/x/net.pth@sha256:{B}", "epochs": 1}), data())


def test_run_folders_skips_everything_else(tmp_path: Path) -> None:
    for name in ("0123456789-s0", "0123456789-s12", "submissions", "0123456789", "notes-s1"):
        (tmp_path / name).mkdir()
    assert [folder.name for folder in StudyFolder(tmp_path).run_folders()] == ["0123456789-s0", "0123456789-s12"]
    assert list(StudyFolder(tmp_path / "nowhere").run_folders()) == []


def test_lock_says_that_it_waits_for_another_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StudyFolder(tmp_path / "runs")

    def lock_once() -> None:
        with folder.lock():
            pass

    with folder.lock():
        waiting = threading.Thread(target=lock_once)
        waiting.start()
        until(lambda: "waiting for it" in capsys.readouterr().out, 10)
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_lock_tells_a_lack_of_processes_or_open_files_as_that(number: int, tmp_path: Path) -> None:
    with (
        pytest.raises(
            UserError, match=f"^no more processes or open files are allowed here .{os.strerror(number)}"
        ),
        StudyFolder(tmp_path / "runs").lock(),
    ):
        raise OSError(number, os.strerror(number))
