"""The curves inside the page: each run once, of many runs only some, safe inside a script element."""

import json
from typing import Any

import pytest

from caltech_exp.reporting.curve_json import MOST_SINGLE_RUNS, curve_json
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "5e-2")


def curves(folder: SampleStudy) -> dict[str, Any]:
    folder.start()
    found: dict[str, Any] = json.loads(curve_json(folder.collect()))
    return found


def test_a_run_of_three_tables_stands_there_once(folder: SampleStudy) -> None:
    folder.add(*(make_result(CONFIG, seed, 0.4 + seed / 10) for seed in range(3)))
    found = curves(folder)
    assert set(found["rows"]) == {"scratch.lr=5e-2", "scratch.epochs=30"}
    assert len(found["configs"]) == 1
    assert len(found["runs"]) == 3
    assert found["rows"]["scratch.lr=5e-2"]["reported"] == 0.446
    config = found["configs"][CONFIG.id]
    assert (config["n"], config["steps"], config["left_out"]) == (3, [20.5], 0)
    last = [config[part]["val_accuracy"][-1] for part in ("low", "mean", "high")]
    assert last == pytest.approx([0.4, 0.5, 0.6])
    assert len(config["mean"]["train_loss"]) == 30


def test_values_that_are_not_finite_are_null(folder: SampleStudy) -> None:
    folder.add(make_diverged(CONFIG, 0))
    found = curves(folder)
    (run,) = found["runs"].values()
    assert run["state"] == "diverged"
    assert run["train_loss"][-1] is None
    assert found["configs"][CONFIG.id]["n"] == 0


def test_of_many_runs_the_mean_counts_all_and_some_are_embedded(folder: SampleStudy) -> None:
    folder.add(*(make_result(CONFIG, seed, (seed + 1) / 100) for seed in range(40)))
    folder.add(*(make_diverged(CONFIG, seed) for seed in range(40, 60)))
    found = curves(folder)
    config = found["configs"][CONFIG.id]
    assert config["n"] == 40
    assert config["mean"]["val_accuracy"][-1] == pytest.approx(0.205)
    assert len(config["runs"]) == len(found["runs"]) == 2 * MOST_SINGLE_RUNS
    assert config["left_out"] == 60 - 2 * MOST_SINGLE_RUNS
    assert {run["state"] for run in found["runs"].values()} == {"finished", "diverged"}


def test_nothing_can_end_the_script_element(folder: SampleStudy) -> None:
    folder = SampleStudy(
        folder.path, StudySettings(overrides={"weights": "/x/<!--<script>.pth@sha256:" + "a" * 64})
    )
    folder.start()
    folder.add(make_result(folder.settings.apply(CONFIG), 0))
    text = curve_json(folder.collect())
    assert "<!--<script>" in json.loads(text)["configs"].popitem()[1]["caution"]
    assert "<" not in text


def test_without_results_there_is_nothing_to_draw(folder: SampleStudy) -> None:
    assert curves(folder) == {"rows": {}, "configs": {}, "runs": {}}
