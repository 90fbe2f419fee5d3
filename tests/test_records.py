"""Records with absurd numbers and times, and files that are no records at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caltech_exp.data.pack_format import PackIndex
from caltech_exp.executors.local import _State
from caltech_exp.files import MOST_BYTES
from caltech_exp.monitoring.logs import Refusal
from caltech_exp.monitoring.report_job import JobEnd
from caltech_exp.records import Corrupt, StrictRecord, read_record
from caltech_exp.reporting.published import Published
from caltech_exp.study.lease import Owner
from caltech_exp.study.manifest import Manifest, PublishedSeeds
from caltech_exp.study.results import Failure, Progress, Result
from caltech_exp.study.study import Study

RECORDS = (
    Failure, JobEnd, Manifest, Owner, PackIndex, Progress, Published, PublishedSeeds, Refusal, Result, Study,
    _State,
)  # fmt: skip
TIMES = {"when", "created", "since", "started"}
PROGRESS = {
    "run_id": "r", "epoch": 1, "epochs": 9, "images_per_second": 1.0, "seconds_left": 5.0, "submission": "s",
    "job": "1_0", "host": "h", "when": "2026-01-01T12:00:00Z",
}  # fmt: skip


def schemas(value: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a JSON schema, with the name of its field."""
    if isinstance(value, dict):
        yield name, value
        for key, part in value.items():
            yield from schemas(part, name if key in ("anyOf", "items", "properties", "prefixItems") else key)
    elif isinstance(value, list):
        for part in value:
            yield from schemas(part, name)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_number_of_a_record_is_bounded_and_every_time_has_a_form(record: type[StrictRecord]) -> None:
    for name, schema in schemas(record.model_json_schema()):
        if (
            schema.get("type") in ("integer", "number")
            and "const" not in schema
            and name != "additionalProperties"
        ):
            assert schema.keys() & {"minimum", "exclusiveMinimum"}, name
            assert schema.keys() & {"maximum", "exclusiveMaximum"}, name
        if name in TIMES and schema.get("type") == "string":
            assert "pattern" in schema, name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("when", "2026-01-01T12:00:00"),
        ("when", "2026-01-01"),
        ("when", "9999-12-31T23:59:59Z"),
        ("when", "0001-01-01T00:00:00+14:00"),
        ("when", "2026-01-01\x1b12:00:00Z"),
        ("when", "noon"),
        ("when", ""),
        ("when", 10**400),
        ("seconds_left", 1e300),
        ("seconds_left", 10**400),
        ("seconds_left", -1),
        ("seconds_left", float("nan")),
        ("images_per_second", -1.0),
        ("images_per_second", float("inf")),
        ("epoch", -1),
        ("epochs", 10**400),
    ],
)
def test_an_absurd_time_or_number_is_damage(field: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(json.dumps({**PROGRESS, field: value}))
    record = read_record(tmp_path / "progress.json", Progress)
    assert isinstance(record, Corrupt)
    assert record.reason.isprintable()
    assert field in record.reason or "JSON" in record.reason


@pytest.mark.parametrize("when", ["2026-01-01T12:00:00Z", "2026-01-01T12:00:00.5+05:30", "1970-01-01T00:00:00Z"])
def test_times_with_a_zone_are_read(when: str, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(json.dumps({**PROGRESS, "when": when}))
    assert isinstance(read_record(tmp_path / "progress.json", Progress), Progress)


def test_a_pipe_a_device_and_a_gigabyte_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "gigabyte").touch()
    os.truncate(tmp_path / "gigabyte", 2**30)
    reasons = {}
    for name in ("pipe", "device", "gigabyte"):
        record = read_record(tmp_path / name, Progress)
        assert isinstance(record, Corrupt)
        reasons[name] = record.reason
    assert reasons == {
        "pipe": "it is a pipe or a device, not a file",
        "device": "it is a pipe or a device, not a file",
        "gigabyte": f"it has 1,073,741,824 bytes, more than {MOST_BYTES:,}",
    }


def test_a_complaint_is_one_line_whatever_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[2Jb" / "manifest.json"
    assert Corrupt(path, "\x9b2J\u202e").complaint("remove it") == (
        f"{tmp_path}/a\\n\\x1b[2Jb/manifest.json is damaged (\\x9b2J\\u202e); remove it"
    )
