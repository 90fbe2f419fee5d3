"""Slurm's limits on how many jobs may be queued: what is taken stays, the same command queues the rest later."""

import os
import shutil
from pathlib import Path

import pytest

from caltech_exp.bootstrap import user_name
from caltech_exp.executors.sbatch_errors import hint, is_refusal
from caltech_exp.executors.slurm_queries import Slurm
from tests.conftest import Command, manifests
from tests.tools.testbed import path_with, profile, queue

OF_EITHER = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)
REFUSAL = f"sbatch: error: AssocMaxSubmitJobLimit\n{OF_EITHER}"
OF_SIZE = f"sbatch: error: QOSMaxWallDurationPerJobLimit {OF_EITHER}"


@pytest.mark.slurm
@pytest.mark.usefixtures("empty_queue")
def test_a_limit_on_submitted_jobs(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "refusal").write_text(REFUSAL)
    runs, calls = tmp_path / "runs", tmp_path / "calls"
    path = path_with(
        tmp_path,
        "sbatch",
        f"echo >> '{calls}'; if [ $(wc -l < '{calls}') -gt 1 ]; then cat '{tmp_path}/refusal' >&2; exit 1; fi\n"
        f'exec {shutil.which("sbatch")} "$@"',
    )
    few = profile(tmp_path, sbatch="{hold: true}", max_array_size=2)
    words = (*small, "seeds=5", f"profile={few}", f"runs={runs}")
    refused = submit(*words, PATH=path)
    assert refused.returncode == 2
    assert "AssocMaxSubmitJobLimit" in refused.stderr
    assert "give the same command again when some have ended" in refused.stderr
    assert "2 tasks are queued already, the same command queues the rest" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert len(queue()) == 2

    later = submit(*words)
    assert later.returncode == 0, later.stderr
    assert len(queue()) == 5
    tasks = [task for manifest in manifests(runs) for task in manifest["tasks"]]  # type: ignore[attr-defined]
    assert len({run for task in tasks for run in task["runs"]}) == len(tasks) == 5
    assert "nothing to submit" in submit(*words).stdout


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (REFUSAL, "the cluster limits how many jobs may be queued"),
        ("Batch job submission failed: QOSMaxSubmitJobPerUserLimit", "give the same command again"),
        ("Slurm temporarily unable to accept job, sleeping and retrying", "give the same command again"),
        ("Invalid job array specification: Job array index too large", "set max_array_size lower"),
        ("Invalid job array specification", "set max_array_size lower"),
        (OF_SIZE, "QOSMaxWallDurationPerJobLimit: the site limits what a job may ask for: change time_minutes"),
        ("QOSMinGRES", "QOSMinGRES: the site limits what a job may ask for"),
        (OF_EITHER, "runs_per_task higher; or the site limits what a job may ask for"),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", "`scontrol ping`"),
        ("Invalid partition name specified", "correct the profile or ask Slurm"),
        ("Invalid account or account/partition combination specified", "correct the profile or ask Slurm"),
    ],
)
def test_what_to_do_about_a_refusal(reason: str, words: str) -> None:
    assert words in hint(reason)


@pytest.mark.parametrize(
    ("reason", "uncertain"),
    [
        ("Batch job submission failed: Socket timed out on send/recv operation", True),
        ("Batch job submission failed: Zero Bytes were transmitted or received", True),
        ("Batch job submission failed: Unable to contact slurm controller (receive failure)", True),
        ("Batch job submission failed: Protocol authentication error", True),
        ("Batch job submission failed: Slurm backup controller in standby mode", True),
        ("Batch job submission failed: a reason of a later Slurm", True),
        ("/opt/site/sbatch: line 7: cannot write /var/log/submissions: No space left on device", True),
        ("the job was registered, but its quota could not be recorded", True),
        ("Killed", True),
        ("", True),
        ("Batch job submission failed: Unable to contact slurm controller (connect failure)", False),
        ("please name your project\nsbatch: error: Batch job submission failed: Unspecified error", False),
        ("sbatch: error: Batch job submission failed: Unknown error 4321", False),
        ("Batch job submission failed: Invalid account or account/partition combination specified", False),
        ("Batch job submission failed: Requested node configuration is not available", False),
        ("sbatch: unrecognized option '--gpu'\nTry \"sbatch --help\" for more information", False),
        ("sbatch: error: Invalid --mem specification", False),
        ('sbatch: error: Invalid numeric value "0" for --cpus-per-task.', False),
        ('sbatch: error: unrecognized --hint argument "zz", see --hint=help', False),
        ('sbatch: error: "zz" is not a valid node count', False),
        ("sbatch: error: Invalid generic resource (gres) specification", False),
        ("sbatch: error: Could not open user environment file /nope", False),
        ("sbatch: error: cli_filter plugin terminated with error", False),
        (REFUSAL, False),
    ],
)
def test_whether_a_job_may_be_queued_although_sbatch_failed(reason: str, uncertain: bool) -> None:
    assert is_refusal(reason) == (not uncertain)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ("MaxArraySize            = 1001\nSchedulerParameters     = (null)\n", 1001),
        ("MaxArraySize = 100001\nSchedulerParameters = bf_window=60,max_array_tasks=500,defer\n", 500),
        ("MaxArraySize = 300\nSchedulerParameters = max_array_tasks=500\n", 300),
        ("AccountingStorageType = (null)\n", 1001),
    ],
)
def test_the_most_tasks_an_array_may_have(config: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slurm, "_ask", lambda _slurm, _command, **_: config)
    assert Slurm(5).max_tasks() == (most, None)


RECORDS = """Current Association Manager state

Association Records

ClusterName=c Account=a UserName= Partition= Priority=0 ID=2
    GrpJobs=N(0) GrpJobsAccrue=N(0)
    GrpSubmitJobs={of_account} GrpWall=N(0.00)
ClusterName=c Account=a UserName={user}(1) Partition= Priority=0 ID=3
    ParentAccount=(0) Lft=3 DefAssoc=Yes
    GrpJobs=N(0) GrpJobsAccrue=N(0)
    GrpSubmitJobs=N(0) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=20(5) MaxWallPJ=
ClusterName=c Account=b UserName={user}(1) Partition= Priority=0 ID=4
    ParentAccount=(0) Lft=3 DefAssoc=No
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=8(0) MaxWallPJ=

QOS Records

QOS=normal(1)
    GrpSubmitJobs=N(5) GrpWall=N(0.00)
    User Limits
      {user}(1)
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU={of_qos}
QOS=debug(2)
    User Limits
      {user}(1)
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=1(0)
"""


@pytest.mark.parametrize(
    ("account", "qos", "of_account", "of_qos", "room"),
    [
        (None, None, "N(9)", "N(0)", 15),
        (None, None, "12(9)", "N(0)", 3),
        (None, None, "N(9)", "7(5)", 2),
        ("b", None, "12(9)", "N(0)", 8),
        (None, "debug", "N(9)", "N(0)", 1),
        (None, None, "N(9)", "4(5)", 0),
        ("unknown", None, "N(9)", "N(0)", None),
    ],
)
def test_how_many_tasks_more_may_be_queued(
    account: str | None, qos: str | None, of_account: str, of_qos: str, room: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = "MaxArraySize = 300\nAccountingStorageEnforce = associations,limits,qos\n"
    records = RECORDS.format(user=user_name(os.geteuid()), of_qos=of_qos, of_account=of_account)
    answers = {"config": config, "assoc_mgr": records}
    monkeypatch.setattr(Slurm, "_ask", lambda _slurm, command, **_: answers[command[2]])
    assert Slurm(5).max_tasks(account, qos) == (300, room)


@pytest.mark.parametrize(
    ("partition", "minutes"), [(None, [120]), ("long", [2880]), ("short,long", [10, 2880]), ("endless", [])]
)
def test_the_longest_time_of_a_partition(
    partition: str | None, minutes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "gpu*|2:00:00\nshort|10:00\nlong|2-00:00:00\nendless|infinite\n"
    monkeypatch.setattr(Slurm, "_ask", lambda _slurm, _command, **_: lines)
    assert Slurm(5).max_minutes(partition) == minutes
