"""Seeds of one row alone, over several commands: none asks for more of the other rows or forgets the row's."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.commands.publish import main as publish
from caltech_exp.reporting.frames import read_study
from tests.conftest import CHECKOUT, Command, manifests

TINY = CHECKOUT / "tests" / "tools" / "tiny_network.py"
ROW = "table=scratch.lr=6e-2"
MORE = "scratch.lr=6e-2: 5 seeds, other rows 3"


@pytest.fixture
def words(stand_in: Path, tmp_path: Path) -> tuple[str, ...]:
    """Settings of a run that takes a moment; all else is the report's."""
    return (
        *("epochs=1", "batch_size=4", "max_images=4", "workers=0", "precision=fp32"),
        *(f"model={TINY}:tiny", "weights=none", f"data={stand_in}", f"packs={tmp_path / 'packs'}", "runs=runs"),
        *("profile=demo", "runs_per_task=100"),
    )


@pytest.fixture
def study(submit: Command, words: tuple[str, ...]) -> Callable[..., str]:
    """Run jobs/submit.py in the study and return what it prints."""

    def run(*given: str) -> str:
        done = submit(*given, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_seeds_of_one_row(study: Callable[..., str], status: Command, tmp_path: Path) -> None:
    assert "15 runs of 5 configurations: 15 pending" in study("table=scratch.lr", "wait=true")
    first = study(ROW, "seeds=5", "wait=true")
    assert "5 runs of 1 configuration: 3 finished, 2 pending" in first
    assert "other rows" not in first

    # Nothing asks for more of the other rows.
    for again in (("table=scratch.lr",), ("section=scratch", "table=scratch.lr", "retry=failed")):
        text = study(*again)
        assert f"17 runs of 5 configurations: 17 finished\n{MORE}\nnothing to submit" in text
    assert "15 runs of 5 configurations: 15 finished" in study("table=scratch.lr", "seeds=3")
    assert "5 runs of 1 configuration: 5 finished" in study(ROW)
    assert len(manifests(tmp_path / "runs")) == 2
    text = status("runs=runs").stdout
    assert re.search(r"^scratch\.lr +17 *$", text, re.MULTILINE)
    assert MORE in text.splitlines()
    lines = read_study(tmp_path / "runs").row_runs.query("section == 'scratch' and table == 'lr'")
    three = dict.fromkeys(("1e-3", "1e-2", "5e-2", "1e-1"), 3)
    assert lines.groupby("row").size().to_dict() == three | {"6e-2": 5}
    assert set(lines["state"]) == {"finished"}

    # A row that nobody submitted has the study's seeds; the row's five stay.
    planned = study("section=scratch", "dry_run=true")
    assert MORE in planned.splitlines()
    assert set(re.findall(r" (\d+) +pending ", planned)) == {"0", "1", "2"}

    # A lost run of the row is submitted again by any command that holds the row.
    (last,) = (tmp_path / "runs").glob("*-s4/result.json")
    last.unlink()
    assert re.search(r"^scratch\.lr +16 +1\b", status("runs=runs").stdout, re.MULTILINE)
    text = study("table=scratch.lr", "retry=failed", "wait=true")
    assert "17 runs of 5 configurations: 16 finished, 1 lost" in text
    assert last.is_file()


def test_a_published_study_keeps_the_seeds_of_its_rows(
    study: Callable[..., str], status: Command, tmp_path: Path
) -> None:
    study("table=scratch.lr", "seeds=1", "wait=true")
    study(ROW, "seeds=2", "wait=true")
    (lost,) = (tmp_path / "runs").glob("*-s1")
    shutil.rmtree(lost)
    assert publish([f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'copy'}"]) == 0
    record = json.loads((tmp_path / "copy" / "published.json").read_text())
    assert sorted(record["requests"].values()) == [[0]] * 4 + [[0, 1]]
    text = status("runs=copy").stdout
    assert "scratch.lr=6e-2: 2 seeds, other rows 1" in text.splitlines()
    assert publish([f"runs={tmp_path / 'copy'}", f"out={tmp_path / 'again'}"]) == 0
    assert (tmp_path / "again" / "published.json").read_bytes() == (
        tmp_path / "copy" / "published.json"
    ).read_bytes()


def test_a_study_file_says_the_seeds_of_a_row(submit: Command, stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "seeds: 2\nsections: {a: {tables: {lr: {sweep: lr, rows: {1e-3: , 1e-2: {seeds: 4}}}}}}\n"
    )
    words = ("study=mine.yaml", "section=all", "profile=demo", "batch_size=4", f"data={stand_in}", "dry_run=true")
    assert "6 runs of 2 configurations: 6 pending\na.lr=1e-2: 4 seeds, other rows 2" in submit(*words).stdout
    assert "6 runs of 2 configurations: 6 pending\nwould" in submit(*words, "seeds=3").stdout
