"""Why runs have no result, and where they are not tried again."""

from datetime import datetime
from pathlib import Path

import pytest

from caltech_exp.executors.slurm import SlurmExecutor
from caltech_exp.executors.slurm_queries import EndedJob, Slurm
from caltech_exp.monitoring.run_states import bad_nodes, describe_failures, explain_lost
from caltech_exp.profiles.profile import SlurmProfile, parse_profile
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Failure, FailureKind
from caltech_exp.study.run_status import RunStatus
from tests.executors.test_job_index import MANIFEST
from tests.tools.testbed import path_with


def failed(kind: FailureKind, node: str = "", error: str = "the error") -> RunStatus:
    failure = Failure(
        run_id="0123456789-s0", error=error, traceback="", kind=kind, submission="s", job="1_0", host="h",
        node="", log="l", when="2026-01-01T12:00:00Z",
    )  # fmt: skip
    return RunStatus("failed", f"{error} (log: l)", failure, node=node if kind == "node" else "")


@pytest.fixture
def profile() -> SlurmProfile:
    found = parse_profile("executor: slurm\ngpus_per_node: 1\nexclude: old7", "p")
    assert isinstance(found, SlurmProfile)
    return found


def test_describe_failures_has_a_line_for_each_kind() -> None:
    lost = RunStatus("lost", "its node failed (gpu07)", node="gpu07", end="its node failed (gpu07)")
    lost_alone = RunStatus("lost", "epoch 3 of 30, noon")
    failures = [
        failed("gpu_memory"),
        failed("gpu_memory", error="wants 2 GiB"),
        failed("mistake"),
        failed("error"),
    ]
    cancelled = RunStatus("cancelled")
    statuses = [
        cancelled,
        *failures,
        lost,
        lost,
        lost_alone,
        cancelled,
        failed("error"),
        failed("error", error="b"),
    ]
    lines = describe_failures({f"run{n}": status for n, status in enumerate(statuses)}, retry=True)
    assert lines == [
        "1 failed because of an error in settings or data; retrying will not help: the error (log: l)",
        "2 failed: out of GPU memory; use a larger GPU (constraint or gres in the profile) or precision=bf16: "
        "the error (log: l)",
        "2 failed: the error (log: l)",
        "1 failed: b (log: l)",
        "2 lost: its node failed (gpu07)",
        "1 lost: epoch 3 of 30, noon",
        "2 runs were cancelled; submit without retry=failed to train them",
    ]


def test_describe_failures_limits_the_reasons() -> None:
    lines = describe_failures({f"run{n}": failed("error", error=f"error {n}") for n in range(20)})
    assert len(lines) == 9
    assert lines[-1] == "and 12 more reasons; jobs/status.py failed=true shows all"


def test_describe_failures_blames_the_profile_for_its_mistakes() -> None:
    error = "its task did not start: conda: command not found; check python and setup in the profile"
    (line,) = describe_failures({"run": failed("mistake", error=error)})
    assert (
        line
        == f"1 failed because of a mistake in the profile, and will again unless it is corrected: {error} (log: l)"
    )


@pytest.mark.parametrize(
    ("state", "out", "err", "line"),
    [
        ("FAILED", "", "x: line 9: module: command not found\nsrun: error: n: task 0: Exited with exit code 2\n",
         "x: line 9: module: command not found"),
        ("FAILED", "", "slurmstepd: error: execve(): /no/python: No such file or directory\n",
         "slurmstepd: error: execve(): /no/python: No such file or directory"),
        ("FAILED", "submitit INFO (now) - Starting with JobEnvironment(1)\n", "Killed\n", None),
        ("FAILED", "", "x: line 31: 4711 Killed    srun python\n", None),
        ("NODE_FAIL", "", "a line\n", None),
        ("FAILED", "", "", None),
    ],
)  # fmt: skip
def test_explain_lost_blames_the_profile_if_no_task_began(
    state: str, out: str, err: str, line: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "submissions" / MANIFEST.id / "12_1_0_log.out"
    log.parent.mkdir(parents=True)
    log.write_text(out)
    log.with_suffix(".err").write_text(err)
    ended = EndedJob("12_1", "scratch.study", state, "gpu07")
    monkeypatch.setattr(Slurm, "ended_jobs", lambda _slurm, _ids: {"12_1": ended})
    statuses, _ = explain_lost(StudyFolder(tmp_path), {"r1": RunStatus("lost")}, [MANIFEST], Slurm(5))
    status = statuses["r1"]
    if line is None:
        assert status.state == "lost"
    else:
        assert status.state == "failed"
        error = f"its task did not start: {line}; check python and setup in the profile"
        assert status.detail == f"{error} (log: {log})"
        assert not status.node


def test_bad_nodes_are_excluded(profile: SlurmProfile) -> None:
    nodes = bad_nodes([failed("node", "gpu07"), failed("error", "gpu08"), failed("node", "gpu07")])
    assert nodes == {"gpu07": 2}
    assert SlurmExecutor(profile).excluding([*nodes]).profile.exclude == "old7,gpu07"
    assert SlurmExecutor(profile).excluding([*bad_nodes([failed("error", "gpu08")])]).profile == profile


@pytest.mark.parametrize(
    ("nodes", "constraint", "excluded"),
    [
        ({"gpu01": 1}, None, ("gpu01",)),
        ({"gpu01": 1, "gpu02": 3}, None, ("gpu02",)),  # gpu03 is down, cpu01 has no GPU, old7 is excluded
        ({"gpu01": 1}, "a100", ()),
        ({"gpu01": 1, "gone": 2}, "a100", ("gone",)),
        ({"gpu01": 1, "gpu02": 3}, "a100|v100", ("gpu02",)),
        ({}, None, ()),
    ],
)
def test_last_node_that_could_run_is_not_excluded(
    nodes: dict[str, int], constraint: str | None, excluded: tuple[str, ...],
    profile: SlurmProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lines = [
        "gpu01|gpu*|idle|a100|gpu:2", "gpu02|gpu*|mixed|v100,big|gpu:2", "gpu03|gpu*|down*|v100|gpu:2",
        "cpu01|gpu*|idle|(null)|(null)", "old7|gpu*|idle|(null)|gpu:1", "far|other|idle|(null)|gpu:1",
    ]  # fmt: skip
    monkeypatch.setenv("PATH", path_with(tmp_path, "sinfo", f"printf '%s\\n' {' '.join(map(repr, lines))}"))
    executor = SlurmExecutor(profile.model_copy(update={"constraint": constraint}))
    assert executor.can_exclude(nodes) == excluded
    monkeypatch.setenv("PATH", path_with(tmp_path, "sinfo", "exit 1"))
    assert executor.can_exclude(nodes) == tuple(nodes)  # nobody can tell


@pytest.mark.parametrize(
    ("name", "state", "detail", "nodes"),
    [
        ("scratch.study", "NODE_FAIL", "its node failed (gpu07)", ("gpu07",)),
        ("scratch.study", "BOOT_FAIL", "its node did not boot (gpu07)", ("gpu07",)),
        ("scratch.study", "FAILED", "its process died", ()),
        ("allocation", "CANCELLED", "", ()),
        ("scratch.study", "COMPLETED", "", ()),
        ("another.study", "NODE_FAIL", "", ()),  # another job had that id before
    ],
)
def test_explain_lost_tells_how_the_job_ended(
    name: str, state: str, detail: str, nodes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = EndedJob("12_1", name, state, "gpu07")
    monkeypatch.setattr(Slurm, "ended_jobs", lambda _slurm, _ids: {"12_1": ended})
    statuses, _ = explain_lost(StudyFolder(tmp_path), {"r1": RunStatus("lost")}, [MANIFEST], Slurm(5))
    status = statuses["r1"]
    assert (status.detail, tuple(bad_nodes([status]))) == (detail, nodes)
    assert status.state == ("cancelled" if state == "CANCELLED" else "lost")


@pytest.mark.parametrize(
    ("submitted", "believed"),
    [("2026-01-31T11:30:00", False), ("2026-01-31T11:55:00", True), ("2026-02-01T00:00:00", True)],
)
def test_explain_lost_ignores_jobs_from_before_the_submission(
    submitted: str, believed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = EndedJob("12_1", "scratch.study", "NODE_FAIL", "gpu07", datetime.fromisoformat(f"{submitted}+00:00"))
    manifest = MANIFEST.model_copy(update={"created": "2026-01-31T12:00:00Z"})
    monkeypatch.setattr(Slurm, "ended_jobs", lambda _slurm, _ids: {"12_1": ended})
    statuses, _ = explain_lost(StudyFolder(tmp_path), {"r1": RunStatus("lost")}, [manifest], Slurm(5))
    status = statuses["r1"]
    assert (status.detail, status.node) == (("its node failed (gpu07)", "gpu07") if believed else ("", ""))


@pytest.mark.parametrize("name", ["gpu07\n#SBATCH --uid=0", "$(reboot)", "gpu 7", "-x"])
def test_bad_nodes_ignores_what_is_no_node_name(name: str) -> None:
    assert bad_nodes([failed("node", name)]) == {}
