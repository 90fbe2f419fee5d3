"""Results copied to where others may read them: all of them, once, and nothing of the machine."""

from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.commands.aggregate import main as aggregate
from caltech_exp.commands.publish import main
from caltech_exp.commands.publish import without_folders as study_without_folders
from caltech_exp.config import RunConfig, run_id
from caltech_exp.records import without_folders, write_record
from caltech_exp.reporting.comparison import all_rows
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.published import Published, read_published
from caltech_exp.reporting.wording import count_line
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import PUBLISHED
from caltech_exp.study.results import RESULT, Result, again_folder, read_result
from caltech_exp.study.study import STUDY, StudySettings
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")
PINNED = "/secret/place/net.pth@sha256:" + "0" * 64


def publish(folder: SampleStudy, out: Path) -> int:
    return main([f"runs={folder.path}", f"out={out}"])


def test_the_report_of_the_copy_has_the_same_numbers(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.29), make_result(CONFIG, 1, 0.31), make_diverged(CONFIG, 2))
    assert publish(folder, tmp_path / "copy") == 0
    before, after = folder.read(), read_study(tmp_path / "copy")
    assert [row.measured for row in all_rows(after)] == [row.measured for row in all_rows(before)]
    assert len(after.results) == 3
    aggregate([f"runs={tmp_path / 'copy'}", f"out={tmp_path / 'report'}"])
    assert "0.300" in (tmp_path / "report" / "report.md").read_text()


def test_what_is_there_stays_and_what_is_new_is_added(
    folder: SampleStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.29))
    publish(folder, tmp_path / "copy")
    first = (tmp_path / "copy" / f"{CONFIG.id}-s0" / RESULT).read_bytes()
    folder.add(make_result(CONFIG, 0, 0.99), make_result(CONFIG, 1, 0.31))
    publish(folder, tmp_path / "copy")
    assert "1 result published" in capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / "copy" / f"{CONFIG.id}-s0" / RESULT).read_bytes() == first
    assert len(list(StudyFolder(tmp_path / "copy").run_folders())) == 2


def test_second_results_are_published_and_compared(
    folder: SampleStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.start()
    results = [make_result(CONFIG, 0, 0.29), make_result(CONFIG, 1, 0.31)]
    folder.add(*results)
    others = [results[0], results[1].model_copy(update={"first_loss": 0.25})]
    for second in others:
        write_record(again_folder(folder.path / second.run_id, "20260101T000000-abcd"), RESULT, second)
    damaged = again_folder(folder.path / results[0].run_id, "20260202T000000-abcd")
    damaged.mkdir(parents=True)
    (damaged / RESULT).write_text("{")
    assert publish(folder, tmp_path / "copy") == 0
    text = capsys.readouterr().out
    assert f"4 results published in {tmp_path / 'copy'}; 0 already there" in text
    assert f"skipped: {damaged / RESULT}" in text
    first, second = read_study(tmp_path / "copy").runs["again"].dropna()
    assert first == "equal to the bit"
    assert second.startswith("differs in the loss of the first step")
    assert publish(folder, tmp_path / "copy") == 0
    assert "0 results published" in capsys.readouterr().out
    assert aggregate([f"runs={tmp_path / 'copy'}", f"out={tmp_path / 'report'}"]) == 0
    report = (tmp_path / "report" / "report.md").read_text()
    assert "1 of 2 runs that were trained again are equal to the bit" in report


def test_what_a_study_asks_since_is_published_too(folder: SampleStudy, tmp_path: Path) -> None:
    first = StudySettings(imagenet_weights={"resnet18": PINNED})
    folder = SampleStudy(folder.path, first)
    folder.start()
    publish(folder, tmp_path / "copy")
    both = StudySettings(imagenet_weights={"alexnet": PINNED, "resnet18": PINNED})
    (folder.path / STUDY).unlink()
    folder = SampleStudy(folder.path, both)
    folder.start()
    folder.add(make_result(both.apply(row_config("transfer.lr", "1e-3")), 0))
    publish(folder, tmp_path / "copy")
    published = read_study(tmp_path / "copy")
    assert len(published.results) == 1
    assert set(published.settings.imagenet_weights) == {"alexnet", "resnet18"}


def test_where_weights_are_from_is_published(folder: SampleStudy, tmp_path: Path) -> None:
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights={"resnet18": PINNED}))
    sample.start()
    publish(sample, tmp_path / "copy")  # before it was known
    study = StudyFolder(sample.path).require_study()
    origins = {"0" * 64: "Trained on ImageNet with CNTK."}
    StudyFolder(sample.path).write_study(study.model_copy(update={"weights_origins": origins}))
    publish(sample, tmp_path / "copy")
    published = StudyFolder(tmp_path / "copy").require_study()
    assert published.weights_origins == origins
    assert published.settings.imagenet_weights == {"resnet18": PINNED.rpartition("/")[2]}


def test_no_folder_of_the_machine_is_in_the_copy(folder: SampleStudy, tmp_path: Path) -> None:
    settings = StudySettings(overrides={"weights": PINNED}, imagenet_weights={"alexnet": PINNED})
    folder = SampleStudy(folder.path, settings)
    folder.start()
    config = settings.apply(CONFIG)
    folder.add(make_result(config, 0))
    publish(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.json"):
        assert "/secret" not in path.read_text()
    (found,) = StudyFolder(tmp_path / "copy").run_folders()
    result = read_result(found)
    assert isinstance(result, Result)
    assert result.config.weights == "net.pth@sha256:" + "0" * 64
    assert len(read_study(tmp_path / "copy").results) == 1


def test_a_data_folder_is_left_out_of_the_study(folder: SampleStudy) -> None:
    folder.start()
    study = StudyFolder(folder.path).study()
    assert study is not None
    named = study.model_copy(update={"data": study.data.model_copy(update={"root": "/secret/data"})})
    assert study_without_folders(named) == study


def test_results_that_do_not_count_are_named(
    folder: SampleStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.start()
    other = make_result(CONFIG, 1)
    folder.add(
        make_result(CONFIG, 0),
        other.model_copy(update={"data": other.data.model_copy(update={"fingerprint": "f" * 16})}),
        make_result(CONFIG, 2),
    )
    (folder.path / f"{CONFIG.id}-s2" / RESULT).write_text("{")
    publish(folder, tmp_path / "copy")
    said = capsys.readouterr().out
    assert f"skipped: {CONFIG.id}-s1 was trained on another data set" in said
    assert f"{CONFIG.id}-s2/{RESULT} is damaged" in said
    assert [path.name for path in StudyFolder(tmp_path / "copy").run_folders()] == [f"{CONFIG.id}-s0"]


def test_another_study_is_not_mixed_in(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start()
    publish(folder, tmp_path / "copy")
    other = SampleStudy(tmp_path / "other", StudySettings(overrides={"epochs": 1}))
    other.start()
    other.add(make_result(RunConfig(epochs=1), 0))
    with pytest.raises(UserError, match="was started without epochs; this command says epochs=1"):
        publish(other, tmp_path / "copy")
    assert list(StudyFolder(tmp_path / "copy").run_folders()) == []


def test_studies_with_and_without_imagenet_weights_are_published_together(
    folder: SampleStudy, tmp_path: Path
) -> None:
    weights = StudySettings(imagenet_weights={"resnet18": PINNED.replace("net.pth", "resnet18.pth")})
    other = SampleStudy(tmp_path / "other", weights)
    pretrained = row_config("resnet.transfer", "5e-2")
    folder.start()
    other.start()
    folder.add(make_result(CONFIG, 0, 0.3))
    other.add(make_result(weights.apply(pretrained), 0, 0.93))
    for first, second in ((folder, other), (other, folder)):
        copy = tmp_path / f"copy of {first.path.name}"
        publish(first, copy)
        publish(second, copy)
        measured = [row.has_other_weights for row in all_rows(read_study(copy)) if row.is_measured]
        assert sorted(measured) == [False, True]
    folder.add(make_result(pretrained, 0, 0.93))  # from torchvision's weights, which cannot be replaced any more
    with pytest.raises(UserError, match=r"this command says nothing of imagenet_weights\[resnet18\]"):
        publish(folder, tmp_path / f"copy of {other.path.name}")
    publish(folder, tmp_path / "all")
    with pytest.raises(UserError, match=r"was started without imagenet_weights\[resnet18\]; this command says"):
        publish(other, tmp_path / "all")


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study; give the folder that jobs/submit"):
        main([f"runs={tmp_path}", f"out={tmp_path / 'copy'}"])
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("way", ["the same path", "a relative path", "a link"])
def test_publish_refuses_the_study_itself(
    way: str, folder: SampleStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0))
    before = (folder.path / STUDY).read_bytes()
    (tmp_path / "link").symlink_to(folder.path)
    monkeypatch.chdir(folder.path)
    out = {"the same path": folder.path, "a relative path": Path("../runs"), "a link": tmp_path / "link"}[way]
    with pytest.raises(UserError, match=r"^out=.* is the study itself; give another folder$"):
        publish(folder, out)
    assert (folder.path / STUDY).read_bytes() == before
    assert not (folder.path / PUBLISHED).exists()


def test_publish_refuses_a_run_of_the_study_but_no_other_folder_below_it(
    folder: SampleStudy,
) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0))
    for out in (folder.path / run_id(CONFIG, 0), folder.path / run_id(CONFIG, 7) / "copy"):
        with pytest.raises(UserError, match="is the folder of a run of the study; give another folder"):
            publish(folder, out)
    assert not (folder.path / run_id(CONFIG, 7)).exists()
    assert publish(folder, folder.path / "published") == 0
    assert (
        len(StudyFolder(folder.path).run_names()) == len(StudyFolder(folder.path / "published").run_names()) == 1
    )
    assert publish(folder, folder.path / "published") == 0


@pytest.fixture
def unfinished(folder: SampleStudy) -> SampleStudy:
    """Five seeds: one finished, one failed, one queued, one of another data set, one damaged."""
    folder.start()
    folder.submit(*(run_id(CONFIG, seed) for seed in range(5)), seeds=range(5))
    other = make_result(CONFIG, 3)
    folder.add(
        make_result(CONFIG, 0, 0.29),
        other.model_copy(update={"data": other.data.model_copy(update={"fingerprint": "f" * 16})}),
        make_result(CONFIG, 4),
    )
    folder.fail(run_id(CONFIG, 1), "cannot read '/home/me/data/x y.jpg' of /scratch/me")
    (folder.path / run_id(CONFIG, 4) / RESULT).write_text("{")
    return folder


def test_the_report_of_the_copy_counts_as_before(
    unfinished: SampleStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(unfinished, tmp_path / "copy")
    said = capsys.readouterr().out
    for words in ("1 failed", "1 queued", "1 not counted", "1 damaged"):
        assert words in said
    before, after = unfinished.read(), read_study(tmp_path / "copy")
    assert after.seeds == before.seeds
    assert after.seeds[CONFIG.id] == (0, 1, 2, 3, 4)
    assert count_line(after.runs["state"]) == count_line(before.runs["state"])
    assert after.runs[["run_id", "state"]].equals(before.runs[["run_id", "state"]])
    report = tmp_path / "report"
    assert aggregate([f"runs={tmp_path / 'copy'}", f"out={report}"]) == 0
    states = "1 of 5 runs finished; 1 failed, 1 damaged, 1 queued, 1 not counted"
    assert states in (report / "tables" / "scratch.lr.csv").read_text()
    lines = (report / "report.md").read_text().splitlines()
    assert any(line.startswith(f"- `{run_id(CONFIG, 1)}` failed: cannot read") for line in lines)
    text = (tmp_path / "copy" / PUBLISHED).read_text()
    assert "/home" not in text
    assert "/scratch" not in text
    assert "log.out" not in text


def test_a_copy_of_the_copy_counts_the_same_and_later_results_take_the_states_place(
    unfinished: SampleStudy, tmp_path: Path
) -> None:
    publish(unfinished, tmp_path / "copy")
    assert main([f"runs={tmp_path / 'copy'}", f"out={tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again" / PUBLISHED).read_bytes() == (tmp_path / "copy" / PUBLISHED).read_bytes()
    unfinished.add(make_result(CONFIG, 1, 0.31))
    publish(unfinished, tmp_path / "copy")
    record = read_published(tmp_path / "copy")
    assert isinstance(record, Published)
    assert set(record.runs) == {run_id(CONFIG, seed) for seed in (2, 3, 4)}
    # Another place of the same study, with other seeds and nothing of these runs.
    elsewhere = SampleStudy(tmp_path / "elsewhere")
    elsewhere.start()
    elsewhere.submit(run_id(CONFIG, 7), seeds=(7,))
    publish(elsewhere, tmp_path / "copy")
    record = read_published(tmp_path / "copy")
    assert isinstance(record, Published)
    assert record.seeds == (0, 1, 2, 3, 4, 7)
    assert set(record.runs) == {run_id(CONFIG, seed) for seed in (2, 3, 4, 7)}


def test_a_damaged_record_of_what_was_published_is_named(unfinished: SampleStudy, tmp_path: Path) -> None:
    publish(unfinished, tmp_path / "copy")
    (tmp_path / "copy" / PUBLISHED).write_text('{"runs": {"x/y": 1}}')
    study = read_study(tmp_path / "copy")
    (problem,) = study.problems
    assert str(tmp_path / "copy" / PUBLISHED) in problem
    assert study.seeds[CONFIG.id] == (0, 1, 2)
    (tmp_path / "copy" / PUBLISHED).write_text('{"runs": {"stray": {"state": "failed"}}}')  # no run's name
    assert "stray" not in set(read_study(tmp_path / "copy").runs["run_id"])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("no such file: /home/me/data/x.jpg", "no such file: x.jpg"),
        ("'/a/b/c' and \"/d/e\"", "'c' and \"e\""),
        ("50 % of a/b", "50 % of a/b"),
        ("(log:/tmp/x/log.out)", "(log:log.out)"),
        ("of https://a.org/b/c, ~/w/x.pth 1 / 2", "of https://a.org/b/c, x.pth 1 / 2"),
    ],
)
def test_folders_are_left_out_of_reasons(text: str, left: str) -> None:
    assert without_folders(text) == left
