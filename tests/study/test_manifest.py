"""Manifests and the records beside them: written by anybody who may write into the study, and not trusted."""

import json
import os
from pathlib import Path

import pytest

from caltech_exp.executors.local import submitit_jobs
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.logs import log_path, tail
from caltech_exp.monitoring.report_job import describe_report_job, last_report_job
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import Corrupt
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import read_lease
from caltech_exp.study.manifest import (
    Manifest,
    PreparationJob,
    SubmittedTask,
    cancelled_runs,
    read_manifests,
    record_cancelled,
    recorded_log,
)
from caltech_exp.study.study import StudySettings

ID = "20260101T000000-abcd"
MANIFEST = Manifest(
    id=ID,
    executor="local",
    job_names=("scratch.study",),
    tasks=(SubmittedTask(array=0, index=0, job="local-0", runs=("0123456789-s0",)),),
    preparation=PreparationJob(name="prepare.study", job="11"),
    settings=StudySettings(),
    seeds=(0,),
    profile={},
    command=(),
    code=CodeVersion(version="0", commit=None, dirty=None),
    host="login",
    created="2026-01-01T12:00:00Z",
    uid=os.geteuid(),
)


def written(runs: Path, **changes: object) -> Manifest | Corrupt:
    """A manifest with other content, as it is read."""
    StudyFolder(runs).write_manifest(MANIFEST)
    path = runs / "submissions" / ID / "manifest.json"
    path.write_text(json.dumps({**MANIFEST.model_dump(mode="json"), **changes}))
    (found,) = read_manifests(runs)
    return found


def test_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert written(tmp_path) == MANIFEST


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../../../home/other"},
        {"id": "20260101T000000-abce"},
        {"id": "a\nb"},
        {"host": "x" * 256},
        {"host": "a\nb"},
        {"job_names": ["scratch,others"]},
        {"job_names": ["scratch\n"]},
        {"tasks": [{"array": 0, "index": 0, "job": "../../../etc/x", "runs": []}]},
        {"tasks": [{"array": 0, "index": 0, "job": "--user=root", "runs": []}]},
        {"tasks": [{"array": 0, "index": 0, "job": "1", "runs": [".."]}]},
        {"tasks": [{"array": 0, "index": 0, "job": "1", "runs": ["a/b"]}]},
        {"preparation": {"name": "p", "job": "1 2"}},
        {"aggregation": {"name": "p", "job": "1", "report": "/" + "a" * 4096}},
    ],
)
def test_manifest_with_impossible_names_is_corrupt(changes: dict[str, object], tmp_path: Path) -> None:
    found = written(tmp_path, **changes)
    assert isinstance(found, Corrupt)
    assert found.complaint("").isprintable()


def test_manifest_of_a_newer_version_is_named_as_newer(tmp_path: Path) -> None:
    found = written(tmp_path, schema_version=2, tasks="of another form")
    assert isinstance(found, Corrupt)
    assert found.is_newer


@pytest.mark.parametrize(
    ("log", "name"),
    [
        (f"/on/the/node/submissions/{ID}/12_3_0_log.out", "12_3_0_log.out"),
        ("12_3_0_log.err", "12_3_0_log.err"),
        ("/etc/other.log", "other.log"),
        ("/etc/shadow", None),
        ("/etc/..", None),
        ("/etc/.out", None),
        ("", None),
    ],
)
def test_recorded_log_is_in_its_submission_or_not_opened(log: str, name: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "submissions" / ID
    folder.mkdir(parents=True)
    for file in ("12_3_0_log.out", "12_3_0_log.err", "other.log", "shadow"):
        (folder / file).touch()
    assert recorded_log(tmp_path, ID, "/gone.log") is None
    found = recorded_log(tmp_path, ID, log)
    assert found == (tmp_path / "submissions" / ID / name if name else None)


def test_cancelled_runs_are_those_whose_last_job_was_cancelled(tmp_path: Path) -> None:
    first, second = (MANIFEST.model_copy(update={"id": number}) for number in ("s1", "s2"))
    (tmp_path / "submissions" / "s1").mkdir(parents=True)
    record_cancelled(tmp_path / "submissions" / "s1", [task.job for task in MANIFEST.tasks])
    runs = {run for task in MANIFEST.tasks for run in task.runs}
    assert cancelled_runs(tmp_path, [first]) == dict.fromkeys(runs, "s1")
    assert cancelled_runs(tmp_path, [first, second]) == {}  # submitted again


def test_tail_does_not_read_links_or_pipes(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret\n")
    (tmp_path / "1_0_log.out").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "2_0_log.out")
    assert tail(tmp_path / "1_0_log.out") == tail(tmp_path / "2_0_log.out") == tail(tmp_path) == []
    assert tail(tmp_path / "secret") == ["a secret"]


def test_local_queue_cannot_name_another_file(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write_manifest(MANIFEST)
    folder = tmp_path / "submissions" / ID
    state = {"waiting": [], "running": ["local-0"], "jobs": {"local-0": "../../../secret"}}
    (folder / "queue.json").write_text(json.dumps(state))
    assert submitit_jobs(folder) == {}
    assert log_path(StudyFolder(tmp_path), MANIFEST, MANIFEST.tasks[0]) is None
    (folder / "queue.json").write_text(json.dumps({**state, "jobs": {"local-0": "77"}}))
    assert log_path(StudyFolder(tmp_path), MANIFEST, MANIFEST.tasks[0]) == folder / "77_0_log.out"


def test_lease_cannot_name_another_file(tmp_path: Path) -> None:
    holder = {
        "job": "../../secret",
        "host": "n",
        "machine": "m",
        "pid": 1,
        "started": 1,
        "since": "2026-01-01T12:00:00Z",
    }
    (tmp_path / "lease.000001.json").write_text(json.dumps(holder))
    lease_info = read_lease(tmp_path)
    assert lease_info is not None
    assert lease_info.owner is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"log": "/etc/shadow"}, "report: failed: no room"),
        ({"log": f"/else/{ID}/5_0_log.out"}, "report: failed: no room (log: {folder}/5_0_log.out)"),
        ({"job": "a b"}, "report: {folder}/aggregation.json is damaged (job: "),
        ({"schema_version": 2}, "report: {folder}/aggregation.json was made by a newer version of caltech_exp ("),
    ],
)
def test_report_job_is_described_without_trusting_its_record(
    changes: dict[str, object], line: str, tmp_path: Path
) -> None:
    manifest = written(tmp_path, aggregation={"name": "aggregate.study", "job": "12", "report": "/report"})
    assert isinstance(manifest, Manifest)
    folder = tmp_path / "submissions" / ID
    ended = {
        "schema_version": 1,
        "status": "failed",
        "reason": "no room",
        "job": "12",
        "log": "",
        "when": "2026-01-01T12:00:00Z",
    }
    (folder / "aggregation.json").write_text(json.dumps({**ended, **changes}))
    (folder / "5_0_log.out").touch()
    report_job = last_report_job(StudyFolder(tmp_path), [manifest], Slurm(1))
    assert report_job is not None
    described = describe_report_job(StudyFolder(tmp_path), report_job)
    assert described.startswith(line.format(folder=folder))
    assert "shadow" not in described
