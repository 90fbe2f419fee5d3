"""What other programs are given of the environment: no variable changes what the suite asks them for."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from caltech_exp import provenance
from caltech_exp.child_environment import WHERE_SLURM_IS, python_environment
from caltech_exp.executors.sbatch import BatchJob, queue_array
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.provenance import CodeVersion, Snapshot, code_version
from caltech_exp.submission.signal_handler import _is_preempted
from tests.tools.testbed import path_with

ROOT = Path(__file__).resolve().parents[1]
OF_SLURM = {
    "SACCT_FORMAT": "User", "SACCT_FEDERATION": "1", "SCANCEL_INTERACTIVE": "true", "SCANCEL_STATE": "RUNNING",
    "SCONTROL_ALL": "1", "SINFO_FORMAT": "%n", "SLURM_JOB_ID": "3", "SLURM_ARRAY_JOB_ID": "3",
    "SLURM_MEM_PER_CPU": "1", "SLURM_TIME_FORMAT": "relative", "SLURM_EXIT_ERROR": "0", "SQUEUE_STATES": "RUNNING",
    "SQUEUE_FORMAT": "%i", "SRUN_EXPORT_ENV": "NONE",
}  # fmt: skip
OF_GIT = {
    "GIT_DIR": "/nowhere", "GIT_WORK_TREE": "/nowhere", "GIT_INDEX_FILE": "/nowhere", "GIT_PAGER": "less",
    "GIT_CONFIG_COUNT": "x", "GIT_TRACE": "1",
}  # fmt: skip
KEPT = {"SLURM_CONF": "/slurm.conf", "SLURM_CLUSTERS": "here", "SLURM_JWT": "token"}
RECORD = 'env >"$0.env"; cat >"$0.input"; exit 1'
"""A program that keeps its environment and its input beside itself."""


def queue() -> None:
    folder, code = Path("logs").resolve(), CodeVersion(version="0", commit=None, dirty=None)
    profile = SlurmProfile(executor="slurm", device="cpu")
    snapshot = Snapshot(folder, code, digest="0", new=False)
    queue_array(BatchJob("n", "c", [partial(print)], folder), profile, snapshot)


CALLS: dict[str, tuple[str, Callable[[], object]]] = {
    "sbatch": ("sbatch", queue),
    "squeue": ("squeue", lambda: Slurm(5).queued_jobs({"n"}, {os.geteuid()})),
    "scancel": ("scancel", lambda: Slurm(5).cancel(["5"])),
    "scontrol release": ("scontrol", lambda: Slurm(5).release(["5"])),
    "scontrol show config": ("scontrol", lambda: Slurm(5).max_tasks()),
    "scontrol of a task": ("scontrol", _is_preempted),
    "sacct": ("sacct", lambda: Slurm(5).ended_jobs({"5"})),
    "git": ("git", code_version),
}
"""Each command of another program that the packages call, and what calls it."""


@pytest.mark.parametrize("call", CALLS)
def test_no_variable_changes_what_a_command_is_asked(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, ask = CALLS[call]
    for unasked in ("srun", "squeue"):  # a real squeue looks for the cluster of KEPT for a minute
        path_with(tmp_path, unasked, "exit 1")
    monkeypatch.setenv("PATH", path_with(tmp_path, command, RECORD))
    for name, value in {**OF_SLURM, **OF_GIT, **KEPT, "SUBMITIT_EXECUTOR": "slurm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    given, kept = os.pipe()  # an input that never ends
    before, own_input = dict(os.environ), os.dup(0)
    os.dup2(given, 0)
    try:
        ask()
    except Exception:  # the program failed, as each does here
        pass
    finally:
        os.dup2(own_input, 0)
        for descriptor in (own_input, given, kept):
            os.close(descriptor)
    lines = (tmp_path / "bin" / f"{command}.env").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    is_tool = command == "git"
    assert not OF_SLURM.keys() & seen.keys()
    assert not (is_tool and OF_GIT.keys() & seen.keys())
    expected = {} if is_tool else KEPT
    assert {name: seen[name] for name in WHERE_SLURM_IS if name in seen} == expected
    assert seen["PATH"] == os.environ["PATH"]
    assert (tmp_path / "bin" / f"{command}.input").read_bytes() == b""
    assert dict(os.environ) == before


def test_every_call_of_another_program_says_what_it_is_given() -> None:
    calls = []
    for package in ("caltech_exp", "jobs", "reports"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    called = ast.unparse(node.func)
                    assert not called.startswith(("os.exec", "os.spawn", "os.popen", "os.system")), path
                    if called.startswith("subprocess.") and not called.endswith("Error"):
                        calls.append((path, node))
    assert len(calls) >= 6
    for path, node in calls:
        named = {keyword.arg for keyword in node.keywords}
        assert {"stdin", "env"} <= named, f"{path}:{node.lineno}"


def test_another_python_gets_the_users_environment_without_an_enclosing_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**OF_SLURM, **KEPT, "MINE": "1"}.items():
        monkeypatch.setenv(name, value)
    found = python_environment()
    assert found["MINE"] == "1"
    assert found.items() >= KEPT.items()
    assert not [name for name in found if name.startswith(("SLURM_", "SRUN_")) and name not in KEPT]


def git(folder: Path, *words: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    names = ("-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main")
    command = ["git", "-C", str(folder), *names, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, as the running code's."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init")
    (folder / "code.py").write_text("1\n")
    git(folder, "add", "code.py")
    git(folder, "commit", "-m", "first")
    monkeypatch.setattr(provenance, "CHECKOUT", folder)
    return folder


def test_a_submission_from_a_hook_of_another_repository_names_the_commit_of_its_own_code(
    repository: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom caltech_exp import provenance\n"
        "provenance.CHECKOUT = Path(sys.argv[2])\n"
        "code = provenance.code_version(); print(code.commit, code.dirty)\n"
    )
    (tmp_path / "ask.py").write_text(script)
    hook = other / ".git" / "hooks" / "post-commit"
    hook.parent.mkdir(exist_ok=True)
    told = tmp_path / "told"
    hook.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{tmp_path}/ask.py' '{ROOT}' '{repository}' >'{told}'\n")
    hook.chmod(0o755)
    (other / "new").write_text("2\n")
    git(other, "add", "new")
    git(other, "commit", "-m", "other")
    assert told.read_text() == f"{git(repository, 'rev-parse', 'HEAD')} False\n"


def test_uncommitted_changes_are_seen_and_a_repository_around_the_checkout_is_not(repository: Path) -> None:
    (repository / "code.py").write_text("2\n")
    assert code_version().dirty is True
    inside = repository / "inside"
    (inside / ".git").mkdir(parents=True)  # not a repository
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "CHECKOUT", inside)
        assert (code_version().commit, code_version().dirty) == (None, None)
