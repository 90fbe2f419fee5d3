"""Files of a runs folder: whatever stands in them, they are read as what they are or called damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.config import RunConfig
from caltech_exp.records import read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import MANIFEST, SUBMISSIONS, read_manifests
from caltech_exp.study.results import FAILURE, RESULT, Failure, read_result
from caltech_exp.study.study import STUDY, StudySettings
from tests.reporting.conftest import SampleStudy, make_result
from tests.tools.bad_inputs import Reader, as_json, damaged_bytes, damaged_value, generated

CONFIG = RunConfig(epochs=2)
RUN = f"{CONFIG.id}-s0"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A study with a result, a failure and a manifest."""
    study = SampleStudy(tmp_path / "runs", StudySettings(overrides={"epochs": 2, "lr": 0.01, "weights": "none"}))
    study.start()
    study.submit(RUN)
    study.add(make_result(CONFIG, 0))
    study.fail(RUN, "a reason")
    return study.path


def one_manifest(runs: Path) -> object:
    return read_manifests(runs)[0]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (f"{RUN}/{RESULT}", lambda runs: read_result(runs / RUN)),
        (f"{RUN}/{FAILURE}", lambda runs: read_record(runs / RUN / FAILURE, Failure)),
        (STUDY, lambda runs: StudyFolder(runs).study()),
        (f"{SUBMISSIONS}/first/{MANIFEST}", one_manifest),
    ],
)
def test_a_record_is_read_or_damaged(name: str, read: Callable[[Path], object], runs: Path) -> None:
    """400 contents of each file: values replaced in a sound one, its bytes damaged, and any bytes."""
    reader = Reader(runs)
    sound = (runs / name).read_bytes()
    value: dict[str, Any] = json.loads(sound)
    assert reader.read(lambda: read(runs)) is not None

    @generated(400)
    @given(damaged_value(value).map(as_json) | damaged_bytes(st.just(sound)) | st.binary())
    @example(b"")
    @example(b"null")
    @example(b"[" * 100_000)
    @example(b"\xff\xfe")
    @example(b'{"schema_version": "a\\nb"}')
    @example(b'{"schema_version": 2}')
    @example(as_json(value | {"a\nb": 1}))
    @example(as_json(value | {"x" * 10**6: 1}))
    @example(as_json(value | {"schema_version": "x\n" * 10**6}))
    def record(content: bytes) -> None:
        (runs / name).write_bytes(content)
        reader.read(lambda: read(runs))

    record()
    assert reader.refused >= 250
