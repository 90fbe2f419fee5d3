"""A study file with a network of the user's own, through submit, status and aggregate."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import SMALL, Command

STUDY = """
title: Mine & yours
seeds: 2
settings: {epochs: 1, batch_size: 4, max_images: 8, precision: fp32}
networks: {tiny: nets.py:tiny}
sections:
  own:
    tables:
      sampling:
        question: Which *sampling* helps?
        settings: {model: tiny}
        sweep: {sampling: [shuffle, balanced]}
"""
NETS = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, num_classes))
"""
PARTS = """
from torch import nn

class tiny(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 32, stride=32)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(98, num_classes)
"""


@pytest.fixture
def words(tmp_path: Path, stand_in: Path) -> list[str]:
    """The command that submits the study, without what of it."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "my study.yaml").write_text(STUDY)
    return ["study=my study.yaml", f"data={stand_in}", "profile=demo", "runs=runs"]


def test_the_way_through(
    words: list[str], submit: Command, status: Command, aggregate: Command, tmp_path: Path
) -> None:
    done = submit(*words, "section=all", "wait=true", "runs_per_task=4")
    assert done.returncode == 0, done.stderr
    assert "4 runs of 2 configurations" in done.stdout
    for name in ("nets.py", "my study.yaml"):  # the folder keeps both
        (tmp_path / name).unlink()
    assert "own.sampling                  4" in status("runs=runs").stdout
    assert "nothing to submit" in submit("section=own", *words[1:]).stdout

    report = aggregate("runs=runs", "out=report")
    assert report.returncode == 0, report.stderr
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# Mine & yours\n")
    assert "## Own\n" in text
    assert "*Which \\*sampling\\* helps?*" in text
    assert "Key: `own.sampling`." in text
    assert re.search(r"^\| \**balanced\** +\|", text, re.MULTILINE)
    assert "balanced accuracy" in (tmp_path / "report" / "tables" / "own.sampling.csv").read_text()
    assert "**tiny of nets.py (sha256 " in text  # class by class
    assert "tiny of nets.py (sha256 " in text
    assert "4 of 4 runs finished" in text
    for absent in ("Conclusions", "Agreement", "Template", "in the report"):
        assert absent not in text, absent


def test_a_file_that_grew_adds_runs(words: list[str], submit: Command, tmp_path: Path) -> None:
    one = ("table=own.sampling=shuffle", "seeds=7,", "wait=true")
    done = submit(*words, *one)
    assert "1 run of 1 configuration: 1 pending" in done.stdout, done.stderr
    (tmp_path / "my study.yaml").write_text(
        STUDY.replace("[shuffle, balanced]", "[balanced, shuffle]") + "\n# more\n"
    )
    assert "nothing to submit" in submit(*words, *one).stdout
    plan = submit(*words, "section=all", "seeds=7,", "dry_run=true").stdout
    assert "2 runs of 2 configurations: 1 pending, 1 finished" in plan
    done = submit(*words, "section=all", "seeds=7,", "wait=true")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "runs" / "study.json").read_text())["file"]
    assert kept["text"].endswith("# more\n")
    assert set(kept["networks"]) == {"tiny"}


def test_a_folder_holds_one_study(words: list[str], submit: Command, tmp_path: Path) -> None:
    assert submit(*words, "table=own.sampling=shuffle", "seeds=1", "wait=true").returncode == 0
    (tmp_path / "other.yaml").write_text(STUDY)
    other = submit("study=other.yaml", *words[1:], "section=all")
    assert other.returncode == 2
    assert (
        "holds the study my study, but this command submits the study other; choose another runs= folder"
        in other.stderr
    )
    of_report = submit("section=scratch", *words[1:])
    assert of_report.returncode == 2
    assert "unknown section 'scratch'; known: own, all" in of_report.stderr


def test_results_that_a_changed_file_no_longer_asks_for_are_counted(
    words: list[str], submit: Command, tmp_path: Path
) -> None:
    assert submit(*words, "section=all", "wait=true", "runs_per_task=4").returncode == 0
    (tmp_path / "my study.yaml").write_text(STUDY.replace("[shuffle, balanced]", "[balanced]"))
    line = "2 finished runs are no longer asked for by my study.yaml; the report leaves them out\n"
    for last in ("dry_run=true", "wait=true"):
        done = submit(*words, "section=all", last)
        assert (done.returncode, done.stdout.count(line)) == (0, 1), done


def test_a_network_for_rows_from_scratch_needs_no_weights(
    submit: Command, status: Command, aggregate: Command, tmp_path: Path, stand_in: Path
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    words = ("table=scratch.lr=5e-2", "model=nets.py:tiny", "seeds=1", *SMALL, f"data={stand_in}", "profile=demo")
    done = submit(*words, "wait=true")
    assert done.returncode == 0, done.stderr
    (tmp_path / "nets.py").unlink()  # the folder keeps it
    assert "nothing to submit" in submit("table=scratch.lr=5e-2", "seeds=1").stdout
    state = status("runs=runs")
    assert (state.returncode, "transfer" in state.stdout) == (0, False)
    report = aggregate("runs=runs", "out=report")
    assert (report.returncode, report.stderr) == (0, "")
    refused = submit("section=transfer")
    assert refused.returncode == 2
    assert "ImageNet weights exist for alexnet and resnet18 only; give weights=none or a file" in refused.stderr


def test_a_network_for_rows_with_imagenet_weights_needs_other_weights(
    submit: Command, tmp_path: Path, stand_in: Path
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    words = ("section=transfer", "model=nets.py:tiny", f"data={stand_in}", "profile=demo", "dry_run=true")
    done = submit(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "error: transfer." in done.stderr
    assert "ImageNet weights exist for alexnet and resnet18 only; give weights=none or a file" in done.stderr
    # Rows that freeze a part of the network need it to have that part.
    assert (
        "freeze=conv: nets.py:tiny has no child called classifier"
        in submit(*words, "weights=none", "batch_size=4").stdout
    )
    (tmp_path / "nets.py").write_text(PARTS)
    assert submit(*words, "weights=none", "batch_size=4").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=none.yaml"], "study=none.yaml: there is no such file; give a YAML file"),
        (["study=report.yaml"], "report is the name of the report itself; rename the file"),
        (["study=broken.yaml"], "broken.yaml: unknown entry 'sectoins'; did you mean 'sections'?"),
        (["study=."], "cannot be read (Is a directory); give a YAML file"),
        (["study=lost.yaml"], "none.py cannot be read (No such file or directory); correct the path"),
        (["model=nets.py:f"], "nets.py cannot be read"),
    ],
)
def test_mistakes_cost_a_line(
    words: list[str], message: str, submit: Command, untouched: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.yaml").write_text(STUDY)
    (tmp_path / "broken.yaml").write_text("sectoins: {}")
    (tmp_path / "lost.yaml").write_text(STUDY.replace("nets.py", "none.py"))
    done = submit(*words, "section=all", f"runs={untouched}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
