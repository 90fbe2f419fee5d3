"""A data set of the user's own, from images to the report."""

import json
import shutil
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.study.results import Result, read_result
from tests.conftest import Command
from tests.tools.shapes import SHAPES, write_shapes

STUDY = """
title: Five shapes
seeds: 1
settings: {model: tiny, epochs: 3, batch_size: 4, workers: 0, precision: fp32, lr: 1e-2}
networks: {tiny: nets.py:tiny}
sections:
  data:
    dataset_figures:
      - {number: 1, name: averages, caption: Averages of the shapes}
      - {number: 2, name: train, caption: Images to train on}
      - {number: 3, name: test, caption: Images to test on}
  shapes:
    tables:
      engine: {rows: {fast: {reported: 0.123 ± 0.045}, reference: {engine: reference}}}
claims:
  - {claim: They agree, row: shapes.engine=fast, against: shapes.engine=reference, direction: similar, margin: 0.5}
"""
NETS = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 28 * 28, num_classes))
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command that submits the study with a random split."""
    write_shapes(tmp_path / "my shapes", 8)
    (tmp_path / "shapes.yaml").write_text(STUDY)
    (tmp_path / "nets.py").write_text(NETS)
    return ["study=shapes.yaml", "section=all", "data=my shapes", "split=0.25", "profile=demo", "runs=runs"]


def results(runs: Path) -> list[Result]:
    found = [read_result(path.parent) for path in sorted(runs.glob("*-s*/result.json"))]
    return [result for result in found if isinstance(result, Result)]


def test_own_data_goes_from_images_to_the_report(
    words: list[str], submit: Command, status: Command, aggregate: Command, tmp_path: Path, caltech101: Path
) -> None:
    done = submit(*words, "wait=true", "runs_per_task=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shapes.engine                 2" in status("runs=runs").stdout

    study = json.loads((tmp_path / "runs" / "study.json").read_text())
    assert study["data"]["classes"] == sorted(SHAPES)
    assert study["data"]["split"] == {"test": 0.25, "seed": 0}
    for result in results(tmp_path / "runs"):
        assert result.config.classes == 5
        assert result.config.data_set == result.data.fingerprint == study["data"]["fingerprint"]
        assert (result.data.train_images, result.data.val_images, result.data.test_images) == (15, 15, 10)

    # The environment names Caltech-101, and the study has its own data.
    again = submit("section=all", "runs=runs", CALTECH101_ROOT=str(caltech101))
    assert "nothing to submit: all 2 runs are finished" in again.stdout, again.stderr
    report = aggregate("runs=runs", "out=report", CALTECH101_ROOT=str(caltech101))
    assert report.returncode == 0, report.stderr
    text = (tmp_path / "report" / "report.md").read_text()
    assert "NUM_CLASSES = 5" in text
    assert "Figure 1. Averages of the shapes" in text
    assert "30 and 10 images of 5 classes" in text
    assert (
        "**Another data set:** 5 classes, 40 images. The reported values are of Caltech-101 and not shown." in text
    )
    assert "0.123" not in text  # the reported value
    for foreign in ("= 102", "accordion", "CALTECH101_ROOT", "class 5"):
        assert foreign not in text, foreign
    recalls = (tmp_path / "report" / "tables" / "per_class.csv").read_text()
    assert [line.partition(",")[0] for line in recalls.splitlines()[1:]] == sorted(SHAPES)
    assert "They agree" in (tmp_path / "report" / "tables" / "claims.csv").read_text()


def test_own_data_trains_side_by_side_and_once_more(
    words: list[str], submit: Command, compare: Command, tmp_path: Path
) -> None:
    both = (*words, "runs_at_once=2", "profile.cpus_per_task=2", "wait=true")
    done = submit(*both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(results(tmp_path / "runs")) == 2
    done = submit(*both[:1], "table=shapes.engine", "seeds=1", *both[2:], "retry=finished")
    assert done.returncode == 0, done.stdout + done.stderr
    assert compare("first=runs").stdout.startswith("2 of 2 runs that were trained again are equal to the bit")


def test_reported_values_of_own_data_stand_beside_it_alone(
    words: list[str], submit: Command, aggregate: Command, tmp_path: Path
) -> None:
    (tmp_path / "shapes.yaml").write_text(f"reported_data: Shapes\n{STUDY}")
    row = "table=shapes.engine=fast"
    assert submit(*words[:1], row, *words[2:], "wait=true").returncode == 0
    assert aggregate("runs=runs", "out=report").returncode == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "0.123" in text
    assert "Another data set" not in text


def test_changed_data_is_refused(words: list[str], submit: Command, tmp_path: Path) -> None:
    assert submit(*words, "wait=true", "runs_per_task=2").returncode == 0
    shutil.copy(tmp_path / "my shapes" / "ring" / "01.png", tmp_path / "my shapes" / "ring" / "09.png")
    done = submit(*words)
    assert done.returncode == 2
    assert "(30 + 10 images" in done.stderr
    assert "(31 + 10 images" in done.stderr
    assert "restore what has changed in it or choose another runs= folder" in done.stderr
    (tmp_path / "my shapes" / "ring" / "09.png").unlink()
    assert "give the same data= and split=" in submit(*words, "split_seed=1").stderr
    assert "nothing to submit" in submit(*words).stdout


def test_runs_of_other_data_have_other_ids(
    words: list[str], submit: Command, stand_in: Path, tmp_path: Path
) -> None:
    known = STUDY.replace("networks: {tiny: nets.py:tiny}\n", "").replace("tiny", "resnet18, weights: none")
    (tmp_path / "shapes.yaml").write_text(known)  # a network of one's own would be tried each time

    def ids(**changes: str | None) -> set[str]:
        given = dict(word.split("=", 1) for word in words) | changes
        done = submit("dry_run=true", *(f"{key}={value}" for key, value in given.items() if value is not None))
        assert done.returncode == 0, done.stderr
        return {line.partition(" ")[0] for line in done.stdout.splitlines() if "-s0 " in line}

    split = ids()
    assert len(split) == 2
    assert not split & ids(split_seed="1")
    assert not split & ids(split="0.5")
    shutil.copytree(tmp_path / "my shapes", tmp_path / "elsewhere")
    assert split == ids(data="elsewhere")  # by content, not by place
    assert not split & ids(data=str(stand_in), split=None)


def test_the_reports_tables_have_the_classes_of_own_data(
    words: list[str], submit: Command, aggregate: Command, tmp_path: Path
) -> None:
    small = ("epochs=1", "batch_size=4", "max_images=4", "seeds=1", "model=nets.py:tiny", "weights=none")
    done = submit("table=scratch.lr=1e-3", *words[2:], *small, "precision=fp32", "wait=true")
    assert done.returncode == 0, done.stdout + done.stderr
    report = aggregate("runs=runs", "out=report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# AlexNet and ResNet-18 on a data set of 5 classes\n"), report.stderr
    assert "**Another data set:** 5 classes, 40 images." in text
    assert "in the report" not in text
    assert THE_REPORT.title.partition(":")[0] not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split_seed": "1", "split": None}, "split_seed=1 is the seed of split=; add split=0.3"),
        ({"split": "1.5"}, "split=1.5: input should be less than 1"),
        ({"batch_size": "16"}, "batch_size=16 is larger than the training set of 15 images"),
        ({"classes": "5"}, "unknown"),
        ({"split": None}, "A data set of your own has train.txt and test.txt, or split=0.3"),
    ],
)
def test_mistakes_cost_one_line(
    words: list[str], submit: Command, untouched: Path, changes: dict[str, str | None], message: str
) -> None:
    given = dict(word.split("=", 1) for word in words) | changes
    done = submit(*(f"{key}={value}" for key, value in given.items() if value is not None))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not untouched.exists()


def test_study_file_does_not_set_what_the_data_set_says(words: list[str], submit: Command, tmp_path: Path) -> None:
    (tmp_path / "shapes.yaml").write_text(STUDY.replace("epochs: 3", "epochs: 3, classes: 4"))
    done = submit(*words)
    assert done.returncode == 2
    assert "classes comes from the data set; leave it out, and submit with data=DIR" in done.stderr
