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


def failed(kind: FailureKind, node: str = "") -> RunStatus:
    failure = Failure(
        run_id="0123456789-s0", error="the error", traceback="", kind=kind, submission="s", job="1_0", host="h",
        node="", log="l", when="2026-01-01T12:00:00Z",
    )  # fmt: skip
    return RunStatus("failed", "the error (log: l)", failure, node=node if kind == "node" else "")


@pytest.fixture
def profile() -> SlurmProfile:
    found = parse_profile("executor: slurm\ngpus_per_node: 1\nexclude: old7", "p")
    assert isinstance(found, SlurmProfile)
    return found


def test_describe_failures_has_a_line_for_each_kind() -> None:
    lost = RunStatus("lost", "its node failed (gpu07)", node="gpu07")
    cancelled = RunStatus("lost", "its job was cancelled", is_cancelled=True)
    failures = [failed("gpu_memory"), failed("gpu_memory"), failed("mistake"), failed("error")]
    lines = describe_failures([cancelled, *failures, lost, cancelled])
    assert lines == [
        "1 failed because of an error in settings or data; retrying will not help: the error (log: l)",
        "2 failed: out of GPU memory; use a larger GPU (constraint or gres in the profile) or precision=bf16: "
        "the error (log: l)",
        "1 failed: the error (log: l)",
        "1 lost: its node failed (gpu07)",
        "2 runs were cancelled",
    ]


def test_bad_nodes_are_excluded(profile: SlurmProfile) -> None:
    nodes = bad_nodes([failed("node", "gpu07"), failed("error", "gpu08"), failed("node", "gpu07")])
    assert nodes == ("gpu07",)
    assert SlurmExecutor(profile).excluding(nodes).profile.exclude == "old7,gpu07"
    assert SlurmExecutor(profile).excluding(bad_nodes([failed("error", "gpu08")])).profile == profile


@pytest.mark.parametrize(
    ("name", "state", "detail", "nodes"),
    [
        ("scratch.study", "NODE_FAIL", "its node failed (gpu07)", ("gpu07",)),
        ("scratch.study", "BOOT_FAIL", "its node did not boot (gpu07)", ("gpu07",)),
        ("scratch.study", "FAILED", "its process died", ()),
        ("allocation", "CANCELLED", "its job was cancelled", ()),
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
    assert (status.detail, bad_nodes([status])) == (detail, nodes)
    assert status.word == ("cancelled" if state == "CANCELLED" else "lost")


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
    assert bad_nodes([failed("node", name)]) == ()
