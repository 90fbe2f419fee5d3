"""The kept results of real runs: what they are, and that report and text say what they say."""

import re
from itertools import combinations, takewhile
from pathlib import Path

import numpy as np
import pytest

from caltech_exp.commands.aggregate import main as aggregate
from caltech_exp.config import PIN, RunConfig
from caltech_exp.data.splits import read_data_set
from caltech_exp.reporting.comparison import TableRow, all_rows, compare_row, distinct_rows, split_by_weights
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import accuracy
from caltech_exp.reporting.sections.figures import as_quoted
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Result, decode, read_result

CHECKOUT = Path(__file__).resolve().parent.parent.parent
KEPT = CHECKOUT / "reports" / "reproduction"
RUNS = KEPT / "runs"
STUDIES = {"runs": {}, "fp32": {"precision": "fp32"}, "cpu": {"precision": "fp32"}}
"""The folders of the report's results, and the settings that each overrides."""
FROZEN = "frozen"
"""The folder of the study frozen.yaml."""


def read(study: str) -> list[Result]:
    found = [read_result(folder) for folder in StudyFolder(KEPT / study).run_folders()]
    assert found
    assert all(isinstance(one, Result) for one in found)
    return [one for one in found if isinstance(one, Result)]


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return read("runs")


def without_date(report: Path) -> list[str]:
    return [line for line in report.read_text().splitlines() if not re.search(r"Written \d", line)]


def words() -> str:
    return " ".join((KEPT / "README.md").read_text().split())


@pytest.mark.parametrize("name", [*STUDIES, FROZEN])
def test_they_are_of_the_real_data_set_and_whole(name: str, caltech101: Path) -> None:
    data = read_data_set(caltech101)
    study = StudyFolder(KEPT / name).study()
    assert study is not None
    assert study.data.fingerprint == data.fingerprint
    for one in read(name):
        assert one.data.fingerprint == data.fingerprint
        assert not one.data.simulated
        assert not one.data.stand_in
        assert (one.data.train_images, one.data.val_images, one.data.test_images) == (2892, 2892, 2893)
        assert one.status == "diverged" or len(one.epochs) == one.config.epochs
        assert one.code.commit is not None
        assert not one.code.dirty


@pytest.mark.parametrize("name", STUDIES)
def test_the_studies_have_changed_nothing_but_the_arithmetic(name: str) -> None:
    study = StudyFolder(KEPT / name).study()
    assert study is not None
    assert study.settings.overrides == STUDIES[name]
    assert bool(study.settings.imagenet_weights) == (name == "runs")
    assert study.file is None


def test_only_resnet_starts_from_other_weights_and_the_text_has_its_rows() -> None:
    study = StudyFolder(RUNS).study()
    assert study is not None
    ((model, file),) = study.settings.imagenet_weights.items()
    digest = file.partition(PIN)[2]
    assert (model, digest in words()) == ("resnet18", True)
    assert study.weights_origins.keys() == {digest}
    (part,) = split_by_weights(read_study(RUNS))[1:]
    rows = [row for row in all_rows(part) if row.is_measured]
    assert rows
    for row in rows:
        assert list(row.finished["seed"]) == [0]
        val, test = (accuracy(row.finished[name].iloc[0]) for name in ("val_accuracy", "test_accuracy"))
        assert f"| `{row.key}` | {printed(row)} | {val} | {test} |" in words()


def printed(row: TableRow) -> str:
    """What the report prints of a row: in its table, or in the text about the row's only figure."""
    if row.reported:
        return f"{accuracy(row.reported.mean)} ± {accuracy(row.reported.std)}"
    (figure,) = row.table.figures
    assert figure.quoted
    assert figure.quoted.last_accuracy
    return f"{as_quoted(figure.quoted.last_accuracy)} (text on Figure {figure.number})"


def test_the_frozen_study_is_its_file_with_nine_runs_from_one_file_of_weights() -> None:
    study = StudyFolder(KEPT / FROZEN).study()
    assert study is not None
    assert study.file is not None
    assert study.file.text == (KEPT / "frozen.yaml").read_text()
    assert not study.settings.overrides
    results = read(FROZEN)
    assert len(results) == 9
    file = study.settings.imagenet_weights["resnet18"]
    digest = file.partition(PIN)[2]
    assert digest in words()
    for result in results:
        assert (result.config.freeze, result.config.frozen_batchnorm) == ("conv", "eval")
        assert (result.config.weights, result.weights_sha256) == (file, digest)


def test_the_text_has_the_frozen_study_row_by_row() -> None:
    for row in all_rows(read_study(KEPT / FROZEN)):
        assert set(row.runs["state"]) == {"finished"}
        val, test = row.runs["val_accuracy"], row.runs["test_accuracy"]
        cells = [f"{accuracy(each.mean())} ± {accuracy(each.std(ddof=0))}" for each in (val, test)]
        assert re.search(rf"\| {row.label} \|[^|]*\| {cells[0]} \| {cells[1]} \|", words()), (row.label, cells)


def test_every_row_from_random_weights_has_its_three_seeds() -> None:
    rows = [row for row in all_rows(read_study(RUNS)) if row.config.weights == "none"]
    assert len(rows) == 19
    for row in rows:
        assert set(row.runs["seed"]) == {0, 1, 2}
        assert set(row.runs["state"]) <= {"finished", "diverged"}


def test_the_report_is_that_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    aggregate(["runs=reports/reproduction/runs", f"out={tmp_path}"])
    assert without_date(KEPT / "report.md") == without_date(tmp_path / "report.md")
    kept, made = ({path.name for path in (folder / "figures").iterdir()} for folder in (KEPT, tmp_path))
    assert kept == made


def test_the_text_begins_with_the_reports_first_screen() -> None:
    report = (KEPT / "report.md").read_text()
    first_screen = report.split("\n\n- [", 1)[0].partition("\n\n")[2]
    assert "best row of" in first_screen
    assert first_screen in (KEPT / "README.md").read_text()


def test_the_text_names_every_row_that_does_not_agree() -> None:
    rows = [(row, compare_row(row)) for row in distinct_rows(all_rows(read_study(RUNS)))]
    verdicts = {row.key: difference.verdict for row, difference in rows if difference}
    assert len(verdicts) == 16
    text = words()
    assert f"{list(verdicts.values()).count('agrees')} of 16 rows agree" in text
    for row, difference in rows:
        if difference and difference.verdict != "agrees":
            assert f"`{row.key}`" in text
            assert row.measured.mean is not None
            assert accuracy(row.measured.mean) in text


def test_runs_are_the_same_to_the_last_bit_until_their_learning_rates_part(results: list[Result]) -> None:
    def kind(one: Result) -> tuple[int, RunConfig]:
        return one.seed, one.config.but(epochs=1, step_size=1)

    pairs = [(one, other) for one, other in combinations(results, 2) if kind(one) == kind(other)]
    assert len(pairs) == 108  # of the nine ways to train AlexNet at 5e-2, with three seeds
    for one, other in pairs:
        epochs = zip(one.epochs, other.epochs, strict=False)
        shared = list(takewhile(lambda pair: pair[0].lr == pair[1].lr, epochs))
        assert len(shared) >= 10
        for first, second in shared:
            assert first.model_dump(exclude={"seconds"}) == second.model_dump(exclude={"seconds"})


def test_the_text_names_the_class_that_the_template_comes_to(results: list[Result]) -> None:
    (template,) = [
        one for one in results if one.config.lr == 1e-3 and one.config.model == "alexnet" and not one.seed
    ]
    study = StudyFolder(RUNS).study()
    assert study is not None
    assert template.val_confusion is not None
    matrix = decode(template.val_confusion)
    (taken,) = np.flatnonzero(matrix.sum(axis=0)).tolist()  # every image for one class
    images = matrix.sum(axis=1)
    largest = int(images.argmax())
    assert (study.data.classes[taken], int(images[taken]), int(images.sum())) == ("Motorbikes", 266, 2892)
    assert (study.data.classes[largest], int(images[largest])) == ("airplanes", 267)
    share = template.val_accuracy
    assert share == images[taken] / images.sum()
    first = next(epoch.epoch for epoch in template.epochs if epoch.val_accuracy == share)
    assert all(epoch.val_accuracy == share for epoch in template.epochs if epoch.epoch >= first)
    assert f"takes every image for Motorbikes from epoch {first} on (seed 0)" in words()
    assert f"{share:.4f} is their share, 266 of the 2,892 validation images" in words()
    assert f"airplanes, has 267, which would be {267 / 2892:.4f}" in words()


def test_no_folder_of_a_machine_is_kept() -> None:
    for path in KEPT.rglob("*"):
        if path.suffix in (".json", ".md", ".svg"):
            found = re.findall(r"(?:/root|/home|/work|/tmp|/mnt|/scratch)/\w+", path.read_text())
            assert found == [], path
