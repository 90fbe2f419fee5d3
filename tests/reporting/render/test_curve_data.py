"""The curves inside the page, each run once and safe inside a script element, and the list of all runs."""

import json
from typing import Any

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import run_id
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.curve_data import (
    MOST_LISTED,
    MOST_SINGLE_RUNS,
    RunGroup,
    curve_json,
    row_anchors,
    run_groups,
)
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import Study, StudyFile, StudySettings
from tests.reporting.conftest import CODE, DATA, SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "5e-2")


def curves(folder: SampleStudy) -> dict[str, Any]:
    folder.start()
    data: dict[str, Any] = json.loads(curve_json(read_study(folder.path)))
    return data


def group(folder: SampleStudy, anchor: str = f"runs-{CONFIG.id}") -> RunGroup:
    return next(group for group in run_groups(read_study(folder.path)) if group.anchor == anchor)


def test_run_of_two_tables_is_embedded_once(folder: SampleStudy) -> None:
    folder.add(*(make_result(CONFIG, seed, 0.4 + seed / 10) for seed in range(3)))
    data = curves(folder)
    assert set(data["rows"]) == {"scratch.lr=5e-2", "scratch.epochs=30"}
    assert len(data["configs"]) == 1
    assert len(data["runs"]) == 3
    assert data["rows"]["scratch.lr=5e-2"] == {"label": "5e-2", "config": CONFIG.id, "reported": 0.446}
    config = data["configs"][CONFIG.id]
    assert (config["n"], config["steps"], config["left_out"]) == (3, [20.5], 0)
    last = [config[part]["val_accuracy"][-1] for part in ("low", "mean", "high")]
    assert last == pytest.approx([0.4, 0.5, 0.6])
    assert len(config["mean"]["train_loss"]) == 30
    assert config["runs"] == [run_id(CONFIG, seed) for seed in range(3)]


def test_values_that_are_not_finite_are_null(folder: SampleStudy) -> None:
    folder.add(make_diverged(CONFIG, 0))
    data = curves(folder)
    (run,) = data["runs"].values()
    assert run["state"] == "diverged"
    assert run["train_loss"][-1] is None
    assert data["configs"][CONFIG.id]["n"] == 0
    assert data["configs"][CONFIG.id]["mean"] == {}


def test_mean_counts_all_of_many_runs_and_some_are_embedded(folder: SampleStudy) -> None:
    folder.add(*(make_result(CONFIG, seed, (seed + 1) / 100) for seed in range(40)))
    folder.add(*(make_diverged(CONFIG, seed) for seed in range(40, 60)))
    data = curves(folder)
    config = data["configs"][CONFIG.id]
    assert config["n"] == 40
    assert config["mean"]["val_accuracy"][-1] == pytest.approx(0.205)
    assert len(config["runs"]) == len(data["runs"]) == 2 * MOST_SINGLE_RUNS
    assert config["left_out"] == 60 - 2 * MOST_SINGLE_RUNS
    states = [data["runs"][name]["state"] for name in config["runs"]]
    assert states == ["finished"] * MOST_SINGLE_RUNS + ["diverged"] * MOST_SINGLE_RUNS


def test_no_text_can_end_the_script_element(folder: SampleStudy) -> None:
    text = "sections: {a: {tables: {b: {rows: {<!--<script>: {lr: 0.5}}}}}}"
    study = Study(
        settings=StudySettings(),
        file=StudyFile(name="mine", text=text),
        data=DATA,
        created="2026-01-01T12:00:00Z",
        code=CODE,
    )
    StudyFolder(folder.path).write_study(study)
    folder.add(make_result(study.catalog.tables[0][1].rows[0].config, 0))
    curves = curve_json(read_study(folder.path))
    assert json.loads(curves)["rows"]["a.b=<!--<script>"]["label"] == "<!--<script>"
    assert "<" not in curves


def test_reported_value_that_is_not_comparable_is_left_out(folder: SampleStudy) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"momentum": 0.8}))
    folder.start()
    config = folder.settings.apply(CONFIG)
    folder.add(make_result(config, 0))
    data = json.loads(curve_json(read_study(folder.path)))
    assert data["rows"]["scratch.lr=5e-2"]["reported"] is None


def test_study_without_results_has_no_curves(folder: SampleStudy) -> None:
    assert curves(folder) == {"rows": {}, "configs": {}, "runs": {}}


def test_every_configuration_has_one_group(folder: SampleStudy) -> None:
    folder.start()
    study = read_study(folder.path)
    groups = run_groups(study)
    assert len(groups) == len({group.anchor for group in groups}) == 40
    assert set(row_anchors(study).values()) == {group.anchor for group in groups}
    assert len(row_anchors(study)) == sum(len(table.rows) for _, table in THE_REPORT.tables)
    own = group(folder)
    assert own.rows == ("scratch.lr=5e-2", "scratch.epochs=30")
    assert own.tables == ("scratch.lr", "scratch.epochs")
    assert "LR = 5e-2" in own.settings
    assert own.settings.endswith("computed with the fast engine in bf16")


def test_group_tells_what_became_of_each_run(folder: SampleStudy) -> None:
    folder.start()
    names = [run_id(CONFIG, seed) for seed in range(4)]
    folder.submit(*names, seeds=range(5))
    folder.add(make_result(CONFIG, 0, 0.5), make_diverged(CONFIG, 1))
    folder.fail(names[2], "RuntimeError: CUDA out of memory")
    own = group(folder)
    assert [run["state"] for run in own.runs] == ["finished", "diverged", "failed", "queued"]
    first, second, third, _ = own.runs
    assert (first["val_accuracy"], first["test_accuracy"], first["minutes"]) == (0.5, 0.49, 30)
    assert (first["device"], first["device_type"], first["host"], first["job"]) == ("H200", "cuda", "gpu1", "1_0")
    assert (second["val_accuracy"], second["test_accuracy"]) == (None, None)
    log = folder.path / "submissions" / "first" / "log.out"
    assert third["detail"] == f"RuntimeError: CUDA out of memory (log: {log})"
    assert third["device"] is None
    assert own.missing == (4,)


def test_group_of_many_runs_lists_those_without_a_result_first(folder: SampleStudy) -> None:
    folder.start()
    folder.add(*(make_result(CONFIG, seed) for seed in range(30)))
    lost = run_id(CONFIG, 77)
    folder.submit(lost)
    folder.fail(lost, "x")
    own = group(folder)
    assert len(own.runs) == MOST_LISTED
    assert own.runs[-1]["run_id"] == lost
    assert own.left_out == 31 - MOST_LISTED


def test_runs_that_no_row_asks_for_are_listed_last(folder: SampleStudy) -> None:
    folder.start()
    stray = make_result(CONFIG.but(lr=0.123), 0)
    folder.add(stray)
    last = run_groups(read_study(folder.path))[-1]
    assert [run["run_id"] for run in last.runs] == [stray.run_id]
    assert last.rows == ()
