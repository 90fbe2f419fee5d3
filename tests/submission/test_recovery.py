"""Jobs that sbatch queued without saying so get their tasks' files. On a real Slurm: test_slurm_recovery."""

import os
import pickle
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from caltech_exp.config import RunConfig, run_id
from caltech_exp.executors.sbatch import BatchJob, queue_array
from caltech_exp.executors.sbatch_errors import UncertainError
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.queued_runs import read_queue
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.provenance import Snapshot, code_version
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import (
    SUBMISSIONS,
    AggregationJob,
    Manifest,
    SubmittedTask,
    job_comment,
    read_manifests,
)
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.recovery import recover_orphans
from caltech_exp.submission.tasks import AggregateTask, TrainTask
from tests.tools.testbed import path_with, show_queue

NUMBER = "20260101T000000-abcd"
PROFILE = SlurmProfile(executor="slurm", device="cpu")
SEEDS = (0, 1, 2)
NAMES = tuple(run_id(RunConfig(), seed) for seed in SEEDS)


def task(runs: Path, seed: int) -> TrainTask:
    return TrainTask(
        submission=NUMBER,
        runs=((RunConfig(), seed),),
        folder=str(runs),
        data="",
        data_on_node=None,
        packs="",
        packs_on_node=None,
        fingerprint="",
        device="cpu",
        threads=None,
        torch_home=None,
        torch_home_here=None,
        checkpoint_minutes=10,
        log_mb=1,
        code=code_version(),
    )


@pytest.fixture
def unsure(tmp_path: Path, code_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A submission of three tasks and a report, none of which sbatch confirmed."""
    runs = tmp_path / "runs"
    folder = runs / SUBMISSIONS / NUMBER
    folder.mkdir(parents=True)
    for command in ("srun", "scancel"):
        path_with(tmp_path, command, f'echo "$*" >>"{tmp_path}/{command}"')
    monkeypatch.setenv("PATH", path_with(tmp_path, "sbatch", "echo 'Socket timed out' >&2; exit 1"))
    path_with(tmp_path, "squeue", "exit 0")
    for part, tasks in (
        (0, [task(runs, seed) for seed in SEEDS]),
        ("aggregation", [AggregateTask(str(runs), "report", str(folder), 1)]),
    ):
        with pytest.raises(UncertainError):
            queue_array(BatchJob("scratch.runs", "comment", tasks, folder, part), PROFILE, code_snapshot)
    manifest = Manifest(
        id=NUMBER,
        executor="slurm",
        job_names=("scratch.runs",),
        tasks=tuple(SubmittedTask(array=0, index=n, job="", runs=(name,)) for n, name in enumerate(NAMES)),
        aggregation=AggregationJob(name="aggregate.runs", report="report"),
        settings=StudySettings(),
        seeds=SEEDS,
        profile={},
        command=(),
        code=code_version(),
        host="login",
        created="2026-01-01T00:00:00+00:00",
        user="me",
        uid=os.geteuid(),
    )
    StudyFolder(runs).write_manifest(manifest)
    return manifest


def in_queue(tmp_path: Path, *lines: str) -> None:
    """Have squeue show these jobs, and count how often it is asked."""
    show_queue(tmp_path, *lines, before=f'echo x >>"{tmp_path}/asked"')


ARRAY = [f"7_{n}|PENDING|Priority|scratch.runs|{job_comment(NUMBER, 0)}" for n in range(3)]
REPORT = f"8|PENDING|Dependency|aggregate.runs|{job_comment(NUMBER, 'aggregation')}"


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "runs" / SUBMISSIONS / NUMBER).glob("*_submitted.pkl"))


def jobs(manifests: Sequence[Manifest]) -> list[str]:
    return [task.job for manifest in manifests for task in manifest.tasks]


def test_each_job_gets_the_task_whose_place_it_has(unsure: Manifest, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    in_queue(tmp_path, *ARRAY, REPORT)
    found, lines = recover_orphans(StudyFolder(runs), [unsure], (), Slurm(5))
    assert jobs(found) == ["7_0", "7_1", "7_2"]
    assert found[0].aggregation
    assert found[0].aggregation.job == "8"
    assert read_manifests(runs) == found
    assert names(tmp_path) == [*(f"7_{n}_submitted.pkl" for n in range(3)), "8_submitted.pkl"]
    folder = runs / SUBMISSIONS / NUMBER
    assert [DelayedSubmission.load(folder / f"7_{seed}_submitted.pkl").function for seed in SEEDS] == [
        task(runs, seed) for seed in SEEDS
    ]
    assert lines == ["recovered 7_[0-2], 8: queued although sbatch did not confirm it, now with its tasks"]
    assert recover_orphans(StudyFolder(runs), found, (), Slurm(5)) == (found, [])
    assert (tmp_path / "asked").read_text().count("x") == 1  # all are known now


def test_one_that_died_half_way_is_finished(unsure: Manifest, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    in_queue(tmp_path, *ARRAY)
    recover_orphans(StudyFolder(runs), [unsure], (), Slurm(5))
    StudyFolder(runs).write_manifest(unsure)
    found, _ = recover_orphans(StudyFolder(runs), [unsure], (), Slurm(5))
    assert jobs(found) == ["7_0", "7_1", "7_2"]
    assert not (tmp_path / "scancel").exists()


CANCELLED = "the files of its tasks are missing, or its runs were submitted again"


def remove(path: Path) -> None:
    path.unlink()


def let_others_write(path: Path) -> None:
    path.chmod(0o664)


def replace_by_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.symlink_to(path.with_suffix(".old"))


def name_as_submitit_does(path: Path) -> None:
    """As before the files had names of their own."""
    path.rename(path.with_name(f"{uuid.uuid4().hex}.pkl"))


@pytest.mark.parametrize("harm", [remove, let_others_write, replace_by_a_link, name_as_submitit_does])
def test_a_job_without_its_task_is_cancelled_and_its_run_is_open_again(
    harm: Callable[[Path], None], unsure: Manifest, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    folder = runs / SUBMISSIONS / NUMBER
    for path in folder.glob("*.pkl"):
        harm(path)
    in_queue(tmp_path, *ARRAY[:2], REPORT)
    found, lines = recover_orphans(StudyFolder(runs), [unsure], (), Slurm(5))
    assert (tmp_path / "scancel").read_text() == "7_[0-1] 8\n"
    assert jobs(found) == [""]  # of the third, which is in no queue and may be yet
    assert found[0].aggregation is None
    assert lines == [f"cancelled 7_[0-1], 8: {CANCELLED}"]
    assert names(tmp_path) == []


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(unsure: Manifest, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = runs / SUBMISSIONS / NUMBER
    for path in (*folder.glob("*.pkl"), folder / f"{uuid.uuid4().hex}.pkl"):
        path.write_bytes(pickle.dumps(Exploit(tmp_path / "executed")))
    in_queue(tmp_path, *ARRAY, REPORT)
    recover_orphans(StudyFolder(runs), [unsure], (), Slurm(5))
    assert not (tmp_path / "executed").exists()
    pickle.loads((folder / "7_0_submitted.pkl").read_bytes())
    assert (tmp_path / "executed").exists()  # so it would have shown


def test_another_users_submission_is_left_as_it_is(unsure: Manifest, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    theirs = unsure.model_copy(update={"uid": os.geteuid() + 1, "user": "anna"})
    StudyFolder(runs).write_manifest(theirs)
    before = sorted(path.name for path in (runs / SUBMISSIONS / NUMBER).iterdir())
    in_queue(tmp_path, *(f"{line}|{theirs.uid}" for line in (*ARRAY, REPORT)))
    assert recover_orphans(StudyFolder(runs), [theirs], (), Slurm(5)) == ([theirs], [])
    assert sorted(path.name for path in (runs / SUBMISSIONS / NUMBER).iterdir()) == before
    assert not (tmp_path / "scancel").exists()
    states = read_queue(StudyFolder(runs), [theirs], Slurm(5), ()).runs
    assert set(states) == set(NAMES)  # they count as queued even so


def test_a_job_that_comes_into_the_queue_after_its_runs_were_submitted_again_is_cancelled(
    unsure: Manifest, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    tasks = tuple(entry.model_copy(update={"job": f"9_{entry.index}"}) for entry in unsure.tasks)
    later = unsure.model_copy(update={"id": f"{NUMBER[:-4]}ffff", "tasks": tasks, "aggregation": None})
    in_queue(tmp_path, *ARRAY)
    (found, same), lines = recover_orphans(StudyFolder(runs), [unsure, later], (), Slurm(5))
    assert (found.tasks, same) == ((), later)
    assert (tmp_path / "scancel").read_text() == "7_[0-2]\n"
    assert lines == [f"cancelled 7_[0-2]: {CANCELLED}"]


def test_slurm_is_not_asked_about_what_is_known_or_done(unsure: Manifest, tmp_path: Path) -> None:
    in_queue(tmp_path, *ARRAY, REPORT)
    # Its report has no id, and waits for nothing.
    assert recover_orphans(StudyFolder(tmp_path / "runs"), [unsure], NAMES, Slurm(5)) == ([unsure], [])
    assert not (tmp_path / "asked").exists()


def test_a_report_that_was_submitted_without_runs_of_its_own_gets_its_task(
    unsure: Manifest, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    alone = unsure.model_copy(update={"tasks": ()})
    in_queue(tmp_path, REPORT)
    found, lines = recover_orphans(StudyFolder(runs), [alone], NAMES, Slurm(5))
    assert found[0].aggregation
    assert found[0].aggregation.job == "8"
    assert "8_submitted.pkl" in names(tmp_path)
    assert lines == ["recovered 8: queued although sbatch did not confirm it, now with its tasks"]
