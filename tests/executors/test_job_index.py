"""Which jobs in Slurm's queue are a study's, and how they are named to scancel."""

import getpass
import json
import os
from pathlib import Path

import pytest

from caltech_exp.executors.slurm import JobIndex
from caltech_exp.executors.slurm_queries import QueuedJob, grouped
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import (
    SUBMISSIONS,
    AggregationJob,
    Manifest,
    PreparationJob,
    SubmittedTask,
    job_comment,
    read_manifests,
)
from caltech_exp.study.study import StudySettings

ID = "20260101T000000-abcd"
MANIFEST = Manifest(
    id=ID,
    executor="slurm",
    job_names=("scratch.study",),
    tasks=tuple(SubmittedTask(array=0, index=n, job=f"12_{n}", runs=(f"r{n}",)) for n in range(2)),
    preparation=PreparationJob(name="prepare.study", job="11"),
    aggregation=AggregationJob(name="aggregate.study", job="", report="/report"),
    settings=StudySettings(),
    seeds=(0,),
    profile={},
    command=(),
    code=CodeVersion(version="0", commit=None, dirty=None),
    host="h",
    created="2026-01-01T12:00:00Z",
)
TASK = MANIFEST.tasks[1]


def job(number: str, name: str, comment: str) -> QueuedJob:
    return QueuedJob(number, "queued", "Priority", name, comment, os.geteuid())


@pytest.mark.parametrize(
    ("number", "name", "comment", "ours"),
    [
        ("12_1", "scratch.study", f"caltech_exp {ID}/0", True),
        ("99_1", "scratch.study", f"caltech_exp {ID}/0", True),  # its submission died before it knew the id
        ("12_1", "scratch.study", "of the site", True),
        ("12_1", "scratch.study", "caltech_exp 20260101T000000-ffff/0", False),  # a study of the same name
        ("12_1", "another.study", "of the site", False),
        ("13_1", "scratch.study", "of the site", False),
        ("12_0", "scratch.study", f"caltech_exp {ID}/0", False),
        ("12_1", "another.study", f"caltech_exp {ID}/0", False),
        ("99_1", "scratch.study", f"caltech_exp {ID}/0 ", False),
    ],
)
def test_task_is_found_by_comment_or_by_id_and_name(number: str, name: str, comment: str, ours: bool) -> None:
    found = JobIndex([job(number, name, comment)]).of_task(MANIFEST, TASK)
    assert (found is not None) == ours


def test_job_of_another_user_is_not_found() -> None:
    theirs = QueuedJob("12_1", "running", "None", "scratch.study", job_comment(ID, 0), os.geteuid() + 1)
    assert JobIndex([theirs]).of_task(MANIFEST, TASK) is None
    of_them = MANIFEST.model_copy(update={"uid": theirs.uid})
    assert JobIndex([theirs]).of_task(of_them, TASK) == theirs
    assert not of_them.is_own


def test_known_id_precedes_a_copied_comment() -> None:
    own, copy = (job(number, "scratch.study", job_comment(ID, 0)) for number in ("12_1", "99_1"))
    for order in ([own, copy], [copy, own]):
        assert JobIndex(order).of_task(MANIFEST, TASK) == own


def test_manifest_without_a_user_belongs_to_its_files_owner(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write_manifest(MANIFEST)
    path = tmp_path / SUBMISSIONS / ID / "manifest.json"
    old = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("user", "uid")}
    path.write_text(json.dumps(old))
    (read,) = read_manifests(tmp_path)
    assert isinstance(read, Manifest)
    assert (read.uid, read.is_own, read.user_name) == (os.geteuid(), True, getpass.getuser())


def test_single_jobs_are_found() -> None:
    index = JobIndex(
        [job("11", "prepare.study", "of the site"), job("14", "aggregate.study", job_comment(ID, "aggregation"))]
    )
    preparation, aggregation = (index.of_single(MANIFEST, part) for part in ("preparation", "aggregation"))
    assert preparation is not None
    assert aggregation is not None
    assert (preparation.id, aggregation.id) == ("11", "14")
    bare = MANIFEST.model_copy(update={"preparation": None, "aggregation": None})
    assert index.of_single(bare, "preparation") is None
    assert bare.all_names == {"scratch.study"}


def test_manifests_without_single_jobs_are_read() -> None:
    old = MANIFEST.model_dump(mode="json", exclude={"preparation", "aggregation"})
    old["code"].pop("source")
    read = Manifest.model_validate_json(Manifest.model_validate(old).model_dump_json())
    assert (read.preparation, read.aggregation, read.code.source) == (None, None, None)


def test_grouped_shortens_ids() -> None:
    ids = ["12_0", "12_1", "14", "12_5", "12_3", "12_4", "13_7"]
    assert grouped(ids) == ["12_[0-1,3-5]", "14", "13_[7]"]
