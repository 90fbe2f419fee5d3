"""Made-up studies: frames hold every number of the files, and what is damaged is a state and never a number."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.config import RunConfig, run_id
from caltech_exp.reporting.frames import EPOCH_VALUES, RESULTS, SETTINGS, StudyFrames, read_study
from caltech_exp.study.manifest import MANIFEST, SUBMISSIONS
from caltech_exp.study.results import FAILURE, RESULT, Result
from caltech_exp.study.study import STUDY
from tests.reporting.conftest import PRINT, SampleStudy, make_epochs, make_result, row_config
from tests.tools.bad_inputs import Reader, as_json, damaged_bytes, damaged_value, generated

CONFIG: RunConfig = row_config("scratch.lr", "5e-2")
RUN = f"{CONFIG.id}-s0"
OTHER = f"{CONFIG.id}-s1"
FILES = (STUDY, f"{RUN}/{RESULT}", f"{OTHER}/{FAILURE}", f"{SUBMISSIONS}/first/{MANIFEST}")

CONFIGS = (
    CONFIG,
    row_config("transfer.freezing", "convolutional"),
    RunConfig(epochs=2, lr=0.3, sampling="balanced"),  # of no row
)
NUMBER, AMOUNT, SECONDS = st.floats(-1e39, 1e39), st.floats(0, 1e39), st.floats(0, 1e10)
SHARE, LOSS = st.floats(0, 1), st.none() | NUMBER
CONFUSIONS = (None, "0:0*390,5*3 5:5*21", "7:1*2,7*1", "")


@st.composite
def any_result(draw: st.DrawFn) -> Result:
    """A result of any numbers that the record allows, two made-up epochs first."""
    config, seed = draw(st.sampled_from(CONFIGS)), draw(st.integers(0, 2))
    has_finished = draw(st.booleans())
    epochs = list(make_epochs(config, 0.5, config.epochs if has_finished else draw(st.integers(0, 3))))
    for place, epoch in enumerate(epochs[:2]):
        numbers = {"lr": draw(AMOUNT), "val_accuracy": draw(SHARE), "seconds": draw(SECONDS)}
        losses = {"train_loss": draw(LOSS), "val_loss": draw(LOSS)}
        epochs[place] = epoch.model_copy(update=numbers | losses)
    result = make_result(
        config,
        seed,
        status="finished" if has_finished else "diverged",
        epochs=tuple(epochs),
        val_accuracy=epochs[-1].val_accuracy if has_finished else None,
        best_val_accuracy=draw(SHARE),
        test_accuracy=draw(SHARE) if has_finished else None,
        test_loss=draw(LOSS),
        first_loss=draw(LOSS),
        val_confusion=draw(st.sampled_from(CONFUSIONS)),
        wall_seconds=draw(SECONDS),
        images_per_second=draw(AMOUNT),
        energy_joules=draw(st.none() | AMOUNT),
        peak_memory_bytes=draw(st.integers(0, 2**60)),
        weights_sha256=draw(st.sampled_from((None, "ab" * 32))),
    )
    data = {"fingerprint": draw(st.sampled_from((PRINT, PRINT, PRINT[::-1]))), "simulated": draw(st.booleans())}
    return result.model_copy(update={"data": result.data.model_copy(update=data)})


def equals(value: Any, expected: Any) -> bool:
    if expected is None:
        return bool(pd.isna(value))
    return bool(value == expected)


def balanced(confusion: str | None) -> float | None:
    """Balanced accuracy, read from the text of a confusion matrix."""
    recalls = []
    for row in (confusion or "").split():
        true, _, entries = row.partition(":")
        counts = {name: int(images) for name, _, images in (entry.partition("*") for entry in entries.split(","))}
        recalls.append(counts.get(true, 0) / sum(counts.values()))
    return sum(recalls) / len(recalls) if recalls else None


def check_run(run: Any, result: dict[str, Any], epochs: pd.DataFrame) -> None:
    """A line of `runs` and its epochs hold what the JSON of its result holds."""
    assert (run["state"], run["seed"]) == (result["status"], result["seed"])
    assert all(equals(run[name], result[name]) for name in RESULTS)
    assert all(equals(run[name], result["config"][name]) for name in SETTINGS)
    assert run["epochs_done"] == len(epochs) == len(result["epochs"])
    assert (run["device"], run["device_type"]) == (result["device"]["name"], result["device"]["type"])
    assert (run["data"], run["is_simulated"]) == (result["data"]["fingerprint"], result["data"]["simulated"])
    expected = balanced(result["val_confusion"])
    assert equals(run["balanced_accuracy"], expected) or math.isclose(run["balanced_accuracy"], expected or 0)
    for (_, line), epoch in zip(epochs.iterrows(), result["epochs"], strict=True):
        assert line["epoch"] == epoch["epoch"]
        assert all(equals(line[name], epoch[name]) for name in EPOCH_VALUES)


def test_frames_hold_every_number_of_the_files(folder: SampleStudy) -> None:
    """60 studies of up to five results of any numbers: all equal, and those of other data are not there."""

    @generated(60)
    @given(st.lists(any_result(), min_size=1, max_size=5))
    def study(results: list[Result]) -> None:
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.start()
        folder.add(*results)
        frames = read_study(folder.path)
        runs = frames.runs.set_index("run_id")
        assert runs.index.is_unique
        files = {path.parent.name: json.loads(path.read_text()) for path in folder.path.glob(f"*/{RESULT}")}
        counted = {name: result for name, result in files.items() if result["data"]["fingerprint"] == PRINT}
        for name, result in counted.items():
            check_run(runs.loc[name], result, frames.epochs[frames.epochs["run_id"] == name])
        foreign = runs.loc[sorted({*files} - {*counted})]
        assert (foreign["state"] == "not counted").all()
        assert set(runs.index[runs["wall_seconds"].notna()]) == {*counted}
        assert set(frames.epochs["run_id"]) == {name for name, result in counted.items() if result["epochs"]}
        assert len(runs) == len({*files} | set(runs.index[runs["rows"] != ""]))

    study()


def test_a_damaged_study_is_read_or_refused(folder: SampleStudy) -> None:
    """300 studies with one or two damaged files; a sound result among them always counts."""
    folder.start()
    folder.submit(RUN, OTHER)
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 2, 0.625))
    folder.fail(OTHER, "a reason")
    reader = Reader(folder.path)
    sound = {name: (folder.path / name).read_bytes() for name in FILES}
    manifest = json.loads(sound[FILES[3]])
    result = json.loads(sound[FILES[1]])

    def submitted(*runs: str) -> tuple[str, bytes]:
        return FILES[3], as_json(manifest | {"tasks": [manifest["tasks"][0] | {"runs": runs}]})

    damages = {
        name: damaged_value(json.loads(content)).map(as_json) | damaged_bytes(st.just(content))
        for name, content in sound.items()
    }
    pairs = st.sampled_from(FILES).flatmap(lambda name: st.tuples(st.just(name), damages[name]))

    @generated(300)
    @given(st.lists(pairs, min_size=1, max_size=2))
    @example([(FILES[3], as_json(manifest | {"seeds": [-1, 10**30]}))])
    @example([(FILES[1], as_json(result | {"peak_memory_bytes": 10**30}))])
    @example([(FILES[1], as_json(result | {"attempts": -(10**400)}))])
    @example([submitted("..", "0123456789-s٣")])
    @example([submitted("/etc")])
    @example([submitted("a\0b")])
    @example([submitted("0123456789-s" + "9" * 5000)])
    def study(changes: list[tuple[str, bytes]]) -> None:
        for name, content in (sound | dict(changes)).items():
            (folder.path / name).write_bytes(content)
        frames: StudyFrames | None = reader.read(lambda: read_study(Path(folder.path)))
        if frames is not None and frames.fingerprint == PRINT:
            run = frames.runs.set_index("run_id").loc[run_id(CONFIG, 2)]
            assert (run["state"], run["val_accuracy"]) == ("finished", 0.625)
            assert frames.runs["run_id"].is_unique

    study()
    assert reader.refused >= 30
