"""Frames say what the files say: every number, every state, and nothing twice."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import caltech_exp
from caltech_exp.catalog import THE_REPORT, row_key
from caltech_exp.cli import UserError
from caltech_exp.config import RUN_SETTINGS, RunConfig, run_id
from caltech_exp.reporting.comparison import find_row
from caltech_exp.reporting.frames import (
    EPOCH_COLUMNS,
    ROW_COLUMNS,
    RUN_COLUMNS,
    SETTINGS,
    StudyFrames,
    is_overridden,
    read_study,
)
from caltech_exp.study.results import RESULT
from caltech_exp.study.study import StudySettings
from tests.conftest import CHECKOUT
from tests.reporting.conftest import PRINT, SampleStudy, make_diverged, make_result, row_config

PAGE = (CHECKOUT / "docs" / "notebooks.md").read_text()
BLOCKS = [  # training/test_kept_weights.py has that of load_run
    block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "load_run" not in block
]


@pytest.fixture(scope="module")
def study(simulated: Path) -> StudyFrames:
    return read_study(simulated)


@pytest.fixture(scope="module")
def results(simulated: Path) -> dict[str, dict[str, Any]]:
    """The results of the simulated study as its JSON files hold them, by run id."""
    return {path.parent.name: json.loads(path.read_text()) for path in simulated.glob(f"*/{RESULT}")}


def same(value: Any, expected: Any) -> bool:
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        return bool(pd.isna(value))
    return bool(value == expected)


def test_runs_equal_the_files(study: StudyFrames, results: dict[str, dict[str, Any]]) -> None:
    runs = study.runs.set_index("run_id")
    assert runs.index.is_unique
    assert len(runs) == len(results) == 120
    numbers = ("first_loss", "val_accuracy", "best_val_accuracy", "test_loss", "test_accuracy", "wall_seconds")
    for name, result in results.items():
        run = runs.loc[name]
        assert (run["state"], run["seed"], run["device"]) == (
            result["status"],
            result["seed"],
            result["device"]["name"],
        )
        assert all(same(run[number], result[number]) for number in numbers)
        assert all(same(run[setting], result["config"][setting]) for setting in SETTINGS)
        assert run["epochs_done"] == len(result["epochs"])
        assert run["is_simulated"]


def test_epochs_equal_the_files(study: StudyFrames, results: dict[str, dict[str, Any]]) -> None:
    assert len(study.epochs) == sum(len(result["epochs"]) for result in results.values())
    for name, epochs in study.epochs.groupby("run_id"):
        expected = results[str(name)]["epochs"]
        for column in ("epoch", "lr", "train_loss", "val_loss", "val_accuracy", "seconds"):
            assert all(same(a, b[column]) for a, b in zip(epochs[column], expected, strict=True))


def test_rows_are_the_catalogs(study: StudyFrames) -> None:
    keys = [row_key(s.name, t.name, row.label) for s, t in THE_REPORT.tables for row in t.rows]
    assert list(study.rows["key"]) == keys
    rows = study.rows.set_index("key")
    row = rows.loc["scratch.lr=5e-2"]
    assert (row["reported_mean"], row["reported_std"], row["reported_runs"]) == (0.446, 0.016, 3)
    assert not rows["is_overridden"].any()
    assert rows.loc[rows["reported_diverges"], "reported_mean"].isna().all()


def test_row_runs_has_each_run_for_each_of_its_rows(study: StudyFrames) -> None:
    expected = sum(len(rows.split("; ")) for rows in study.runs["rows"])
    assert len(study.row_runs) == expected > len(study.runs)
    assert not study.row_runs.duplicated(["key", "seed"]).any()


def test_columns_have_their_types(study: StudyFrames, folder: SampleStudy) -> None:
    folder.start()
    for frames in (study, read_study(folder.path)):  # of results, and of none
        for frame, columns in (
            (frames.runs, RUN_COLUMNS),
            (frames.epochs, EPOCH_COLUMNS),
            (frames.rows, ROW_COLUMNS),
        ):
            assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == columns


def test_runs_without_a_result_keep_their_state_and_no_number(folder: SampleStudy) -> None:
    config, other = row_config("scratch.lr", "5e-2"), row_config("scratch.lr", "1e-2")
    folder.start()
    folder.submit(*(run_id(config, seed) for seed in range(3)))
    folder.add(make_result(config, 0), make_diverged(other, 0), make_result(other, 1, data=foreign_data()))
    folder.fail(run_id(config, 1), "out of memory")
    damaged = folder.path / run_id(other, 2)
    damaged.mkdir()
    (damaged / RESULT).write_text('{"run_id"')
    runs = read_study(folder.path).runs.set_index("run_id")
    states = {
        run_id(config, 0): "finished",
        run_id(config, 1): "failed",
        run_id(config, 2): "queued",
        run_id(other, 0): "diverged",
        run_id(other, 1): "not counted",
        run_id(other, 2): "damaged",
        run_id(row_config("scratch.lr", "1e-1"), 0): "pending",
    }
    assert {run: runs.loc[run, "state"] for run in states} == states
    assert "out of memory" in str(runs.loc[run_id(config, 1), "detail"])
    assert runs.loc[~runs["state"].isin(["finished", "diverged"]), "val_accuracy"].isna().all()
    assert runs["val_accuracy"].count() == 1
    assert runs.loc[run_id(other, 0), "epochs_done"] == 3


def foreign_data() -> dict[str, Any]:
    return {
        "fingerprint": PRINT[::-1],
        "stand_in": False,
        "train_images": 1,
        "val_images": 1,
        "test_images": 1,
    }


def test_nothing_that_does_not_count_is_averaged(tmp_path: Path) -> None:
    """A study with one run of each kind: a column says which kind it is, and only what counts has numbers."""
    sample = SampleStudy(tmp_path / "runs", StudySettings(overrides={"epochs": 60, "precision": "fp32"}))
    sample.start()
    config = sample.settings.apply(row_config("scratch.step_size", "10"))
    other = sample.settings.apply(row_config("scratch.lr", "1e-2"))
    drawn = make_result(config, 1, 0.3)
    sample.add(
        make_result(config, 0, 0.5),
        drawn.model_copy(update={"data": drawn.data.model_copy(update={"simulated": True})}),
        make_result(config, 2, 0.4, data=foreign_data()),
        make_diverged(other, 0),
        make_result(other, 1, 0.7),
        make_result(other, 2, 0.8),
    )
    newer, damaged = (sample.path / run_id(other, seed) / RESULT for seed in (1, 2))
    newer.write_text(newer.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    damaged.write_text(damaged.read_text()[:-10])

    study = read_study(sample.path)
    runs = study.runs.set_index("run_id")
    columns = ["state", "is_simulated", "is_overridden"]
    lines = runs.loc[[run_id(kind, seed) for kind in (config, other) for seed in range(3)], columns]
    assert lines.astype(object).where(lines.notna(), None).values.tolist() == [
        ["finished", False, False],
        ["finished", True, False],
        ["not counted", None, False],
        ["diverged", False, True],
        ["newer", None, True],
        ["damaged", None, True],
    ]
    assert runs["val_accuracy"].dropna().to_dict() == {run_id(config, 0): 0.5, run_id(config, 1): 0.3}
    assert set(study.epochs["run_id"]) == {run_id(config, 0), run_id(config, 1), run_id(other, 0)}
    assert "newer version" in str(runs.loc[run_id(other, 1), "detail"])
    assert "another data set" in str(runs.loc[run_id(config, 2), "detail"])
    assert study.is_simulated

    row, overridden = find_row(study, "scratch.step_size=10"), find_row(study, "scratch.lr=1e-2")
    assert (row.measured.n, row.measured.mean, row.is_comparable) == (2, 0.4, True)
    assert (overridden.measured.n, overridden.measured.mean, overridden.reported) == (0, None, None)
    means = study.row_runs.query("state == 'finished'").groupby("key")["val_accuracy"].mean()
    assert means.to_dict() == {"scratch.step_size=10": 0.4}


def test_a_run_that_no_row_asks_for_is_there(folder: SampleStudy) -> None:
    folder.start()
    stray = make_result(RunConfig(lr=0.3), 0)
    folder.add(stray)
    run = read_study(folder.path).runs.set_index("run_id").loc[stray.run_id]
    assert (run["rows"], run["lr"], run["val_accuracy"]) == ("", 0.3, 0.5)


def test_overridden_rows_are_marked(tmp_path: Path) -> None:
    sample = SampleStudy(tmp_path / "runs", StudySettings(overrides={"epochs": 30, "engine": "reference"}))
    sample.start()
    frames = read_study(sample.path)
    rows = frames.rows.set_index("key")["is_overridden"]
    assert rows["scratch.epochs=20"]
    assert not rows["scratch.epochs=30"]
    assert set(frames.runs["engine"]) == {"reference"}
    assert not is_overridden(RunConfig(), StudySettings(overrides={"engine": "reference", "precision": "fp32"}))


def test_a_damaged_record_of_the_study_is_named(folder: SampleStudy) -> None:
    folder.start()
    folder.submit(run_id(RunConfig(), 0))
    (manifest,) = (folder.path / "submissions").glob("*/manifest.json")
    manifest.write_text("{")
    (problem,) = read_study(folder.path).problems
    assert str(manifest) in problem


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="holds no study; give the folder"):
            read_study(folder)


def test_importing_the_package_loads_no_pandas() -> None:
    code = "import sys, caltech_exp; assert 'pandas' not in sys.modules; caltech_exp.read_study"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECKOUT)
    with pytest.raises(AttributeError, match="read_studies"):
        caltech_exp.read_studies  # noqa: B018


def test_the_pages_examples_answer_their_questions(
    simulated: Path, results: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(BLOCKS) == 7
    monkeypatch.chdir(simulated.parent)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block, names)

    def accuracy(table: str, label: str) -> list[float]:
        config = row_config(table, label)
        return [results[run_id(config, seed)]["val_accuracy"] for seed in range(3)]

    best = names["best"].set_index("section")
    assert best.loc["scratch", "key"].startswith("scratch.")
    labels = [row.label for s, t in THE_REPORT.tables if (s.name, t.name) == ("scratch", "lr") for row in t.rows]
    means = [
        sum(accuracy("scratch.lr", label)) / 3 for label in labels if None not in accuracy("scratch.lr", label)
    ]
    assert best.loc["scratch", "mean"] >= max(means) - 1e-12
    first = results[run_id(row_config("scratch.lr", "5e-2"), 0)]
    assert names["curve"]["val_accuracy"].tolist() == [epoch["val_accuracy"] for epoch in first["epochs"]]
    hours = sum(result["wall_seconds"] for result in results.values()) / 3600
    assert names["cost"]["hours"].sum() == pytest.approx(hours)
    assert names["cost"]["runs"].sum() == 120
    pairs = zip(accuracy("scratch.lr", "5e-2"), accuracy("scratch.lr", "1e-2"), strict=True)
    assert names["paired"].tolist() == pytest.approx([a - b for a, b in pairs])
    assert names["failed"].empty
    measured = names["table"].loc["scratch.lr=5e-2"]
    assert measured["measured"] == pytest.approx(sum(accuracy("scratch.lr", "5e-2")) / 3)
    assert (measured["reported"], measured["runs"]) == (0.446, 3)
    assert "\\toprule" in names["latex"]
    finished = names["finished"]
    names["finished"] = finished.assign(is_overridden=finished["key"] == "scratch.lr=5e-2")
    exec(BLOCKS[-1], names)
    assert pd.isna(names["table"].loc["scratch.lr=5e-2", "reported"])
    assert names["table"].loc["scratch.lr=1e-2", "reported"] == 0.298


def test_restricted_study_holds_the_selected_rows_with_their_runs_and_epochs(study: StudyFrames) -> None:
    part = study.restrict(study.catalog.restrict(tables=["scratch.lr=5e-2", "resnet.scratch"]))
    labels = ["5e-2", "1e-3", "1e-2", "5e-2"]
    assert part.rows["row"].tolist() == labels
    assert part.rows["table"].tolist() == ["lr", "scratch", "scratch", "scratch"]
    assert set(part.runs["config_id"]) == set(part.epochs["config_id"]) == set(part.rows["config_id"])
    assert len(part.runs) == 12
    assert part.study is study.study


def test_the_page_lists_every_column() -> None:
    listed = set(re.findall(r"`(\w+)`", PAGE))
    first, *_, last = RUN_SETTINGS
    missing = {*RUN_COLUMNS, *EPOCH_COLUMNS, *ROW_COLUMNS} - listed
    assert missing <= set(SETTINGS) - {first, last}
