"""The batch script that submitit writes: no value of a profile is read by a shell but those that are shell."""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.executors.executor import make_executor
from caltech_exp.executors.sbatch import BatchJob, queue_array
from caltech_exp.profiles.profile import SlurmProfile
from caltech_exp.profiles.sbatch_options import TRAINING_ONLY, cpu_profile, variables_line
from caltech_exp.provenance import Snapshot
from caltech_exp.study.folder import StudyFolder
from tests.tools.bad_inputs import TEXTS, generated

SBATCH = """#!/bin/bash
cp -- "$1" "$KEPT/script.sh"
env >"$KEPT/environment"
echo Submitted batch job 1
"""
"""Keeps the script in place of queueing it."""
SRUN = """#!/bin/bash
printf '%s\\0' "$@" >"$KEPT/arguments"
printf '%s' "$PYTHONPATH" >"$KEPT/python_path"
printf '%s' "$SLURM_EXPORT_ENV" >"$KEPT/export"
printf '%s' "$SRUN_CPUS_PER_TASK" >"$KEPT/cores"
"""
"""Keeps its arguments in place of running them."""
NAMES = ("gres", "partition", "account", "qos", "constraint", "exclude")
MADE = (
    "$(touch made)",
    "`touch made`",
    "a;touch made",
    "a\\",
    "a'b",
    'a"b',
    "a b",
    "a#b",
    "#",
    "${PATH}",
    "*",
    "!!",
    "ü",
)


def is_a_line(text: str) -> bool:
    """Whether a profile takes the text as a value."""
    return bool(text) and text != "\udcff" and not set("\n\r\0") & set(text)


ANY = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
LINES = (st.sampled_from(MADE + TEXTS) | ANY).filter(is_a_line)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where a stand-in of sbatch and srun, first on the PATH, leave what they were given."""
    programs, kept = tmp_path / "bin", tmp_path / "kept"
    for name, text in (("sbatch", SBATCH), ("srun", SRUN)):
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    kept.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(kept))
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    return kept


def options(script: str) -> dict[str, str]:
    """The #SBATCH options of a script, each of which must be one word."""
    found = {}
    for line in script.split("\n"):
        if line.startswith("#SBATCH "):
            (word,) = words(line.removeprefix("#SBATCH "))
            name, _, value = word.partition("=")
            found[name.removeprefix("--")] = value
    return found


def words(line: str) -> list[str]:
    """A line split as sbatch does: by spaces; quotes group, `#` ends it, a backslash escapes in quotes too."""
    found: list[str] = []
    word, quote, escaped = "", "", False
    for char in line + " ":
        if escaped:
            word, escaped = word + char, False
        elif char == "\\":
            escaped = True
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char in " \t#":
            found += [word] if word else []
            word = ""
            if char == "#":
                break
        else:
            word += char
    assert not quote, f"a quote is left open in {line}"
    return found


def read_by_bash(script: Path, folder: Path) -> None:
    """Run the script in an empty folder, which must be empty afterwards."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["bash", str(script)], cwd=folder, check=True, capture_output=True, timeout=60)
    assert not list(folder.iterdir())


def test_values_reach_sbatch_and_srun_as_they_stand(slurm: Path, tmp_path: Path, code_snapshot: Snapshot) -> None:
    """100 profiles with text of any kind in every field that is no shell."""
    task: Callable[[], None] = partial(print)

    @generated(100)
    @given(st.fixed_dictionaries(dict.fromkeys(NAMES, LINES)), LINES, st.lists(LINES, max_size=3))
    @example(dict.fromkeys(NAMES, "a\\"), "a\\b' \\'c", ["a\\"])
    @example(dict.fromkeys(NAMES, "$(touch made)"), "'; touch made; '", ["$(touch made)", "; touch made"])
    def submit(values: dict[str, str], reservation: str, srun_args: list[str]) -> None:
        profile = SlurmProfile.model_validate(
            {"executor": "slurm", **values, "sbatch": {"reservation": reservation}, "srun_args": srun_args}
        )
        batch = BatchJob("scratch.study", "comment x/0", [task], tmp_path / "logs")
        assert queue_array(batch, profile, code_snapshot) == ["1"]
        script = slurm / "script.sh"
        read_by_bash(script, tmp_path / "empty")
        given = options(script.read_text())
        assert {name: given[name] for name in (*NAMES, "reservation")} == {**values, "reservation": reservation}
        arguments = (slurm / "arguments").read_text().split("\0")
        assert arguments[5 : 5 + len(srun_args)] == srun_args

    submit()


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "$(touch made)", "`touch made`", "a;touch made", "#a", "日本"]
)
def test_folders_reach_sbatch_and_srun_as_they_are_called(
    name: str, slurm: Path, tmp_path: Path, code_snapshot: Snapshot
) -> None:
    folder = tmp_path / name
    profile = SlurmProfile(executor="slurm", device="cpu")
    make_executor(profile).check(StudyFolder(folder))
    queue_array(BatchJob("scratch.study", "comment", [partial(print)], folder), profile, code_snapshot)
    read_by_bash(slurm / "script.sh", tmp_path / "empty")
    assert options((slurm / "script.sh").read_text())["output"] == f"{folder}/%j_0_log.out"
    assert f"{folder}/%j_%t_log.out" in (slurm / "arguments").read_text().split("\0")
    # The user's own, and the snapshot is named in the command.
    assert (slurm / "python_path").read_text() == "/of/the/user"
    assert str(code_snapshot.folder) in (slurm / "arguments").read_text().split("\0")


@pytest.mark.slurm
@pytest.mark.parametrize("account", ["a\\", "a'b", 'a" b', "a\\' --no-such-option \\'", "#", "$(touch made)"])
def test_a_real_sbatch_reads_what_is_written(
    account: str, slurm: Path, tmp_path: Path, code_snapshot: Snapshot
) -> None:
    """`--test-only` reads the whole script and queues nothing; whether a node is free for it is not asked here."""
    profile = SlurmProfile(executor="slurm", device="cpu", account=account)
    queue_array(BatchJob("scratch.study", "comment", [partial(print)], tmp_path / "logs"), profile, code_snapshot)
    real = next(
        found for folder in os.environ["PATH"].split(os.pathsep)[1:] if (found := Path(folder) / "sbatch").exists()
    )
    command = [str(real), "--test-only", str(slurm / "script.sh")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "script.sh" not in done.stderr, done.stderr  # `script.sh: line 4: Unmatched quote`
    assert "option" not in done.stderr, done.stderr
    assert done.returncode == 0 or "allocation failure" in done.stderr, done.stderr


def test_setup_and_python_are_shell(slurm: Path, tmp_path: Path, code_snapshot: Snapshot) -> None:
    profile = SlurmProfile(
        executor="slurm", device="cpu", setup=["export WORD='a b'"], python='env "WORD=$WORD" python'
    )
    queue_array(BatchJob("scratch.study", "comment", [partial(print)], tmp_path / "logs"), profile, code_snapshot)
    read_by_bash(slurm / "script.sh", tmp_path / "empty")
    assert (slurm / "arguments").read_text().split("\0")[5:8] == ["env", "WORD=a b", "python"]


def test_a_tasks_variables_reach_it_although_the_site_exports_none(
    slurm: Path, tmp_path: Path, code_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = SlurmProfile(executor="slurm", device="cpu", sbatch={"export": "NONE"})
    queue_array(BatchJob("scratch.study", "comment", [partial(print)], tmp_path / "logs"), profile, code_snapshot)
    monkeypatch.setenv("SLURM_EXPORT_ENV", "NONE")  # as sbatch sets it for the script
    read_by_bash(slurm / "script.sh", tmp_path / "empty")
    assert (slurm / "export").read_text() == "ALL"


@pytest.mark.parametrize("cores", ["3", None])
def test_srun_is_told_how_many_cores_the_task_has(
    cores: str | None, slurm: Path, tmp_path: Path, code_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = SlurmProfile(executor="slurm", device="cpu", setup=["set -eu"])
    queue_array(BatchJob("scratch.study", "comment", [partial(print)], tmp_path / "logs"), profile, code_snapshot)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setenv("SRUN_CPUS_PER_TASK", "64")  # of a job that submitted this one
    if cores:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", cores)
    read_by_bash(slurm / "script.sh", tmp_path / "empty")
    assert (slurm / "cores").read_text() == (cores or "")


OF_A_JOB = ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_GPUS_PER_NODE", "SLURM_CPU_BIND")


@pytest.mark.parametrize("inside", [True, False])
def test_a_job_submits_others_without_its_own_variables(
    inside: bool, slurm: Path, tmp_path: Path, code_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", "/where/it/is")
    monkeypatch.setenv("SBATCH_JOB_NAME", "another")
    monkeypatch.setenv("SBATCH_DEBUG", "1")
    monkeypatch.setenv("SRUN_EXPORT_ENV", "NONE")
    for name in OF_A_JOB:
        monkeypatch.setenv(name, "1")
    if not inside:
        monkeypatch.delenv("SLURM_JOB_ID")
    batch = BatchJob("scratch.study", "comment", [partial(print)], tmp_path / "logs")
    queue_array(batch, SlurmProfile(executor="slurm", device="cpu"), code_snapshot)
    seen = (slurm / "environment").read_text()
    assert "SLURM_CONF=/where/it/is" in seen
    assert not {"SBATCH_JOB_NAME", "SBATCH_DEBUG"} & {line.partition("=")[0] for line in seen.splitlines()}
    assert not [name for name in (*OF_A_JOB, "SRUN_EXPORT_ENV") if name in seen]
    assert os.environ["SLURM_MEM_PER_CPU"] == "1"


def seen_by_sbatch(
    profile: SlurmProfile, slurm: Path, tmp_path: Path, code_snapshot: Snapshot, unset: tuple[str, ...] = ()
) -> set[str]:
    """Names of the variables in sbatch's environment that it takes options from."""
    batch = BatchJob("scratch.study", "comment", [partial(print)], tmp_path / "logs", unset=unset)
    queue_array(batch, profile, code_snapshot)
    lines = (slurm / "environment").read_text().splitlines()
    return {line.partition("=")[0] for line in lines if line.startswith("SBATCH_")}


NEITHER_SET_NOR_KEPT = {
    "SBATCH_TIMELIMIT",
    "SBATCH_REQUEUE",
    "SBATCH_NO_REQUEUE",
    "SBATCH_ARRAY_INX",
    "SBATCH_WAIT",
}
OF_SIZE = {"SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_GPUS", "SBATCH_GRES", "SBATCH_GPUS_PER_NODE"}
OF_PLACE = {"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_CONSTRAINT", "SBATCH_WCKEY"}


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({}, set()),
        ({"partition": "gpu", "account": "mine"}, {"SBATCH_PARTITION", "SBATCH_ACCOUNT"}),
        ({"mem_gb": 4}, {"SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU"}),
        ({"gpus_per_node": 1}, {"SBATCH_GPUS", "SBATCH_GRES", "SBATCH_GPUS_PER_NODE"}),
        ({"sbatch": {"wckey": "x"}}, {"SBATCH_WCKEY"}),
        ({"sbatch": {"wckey": False}}, {"SBATCH_WCKEY"}),
    ],
)
def test_the_users_variables_for_sbatch_do_not_beat_the_profile(
    settings: dict[str, object],
    gone: set[str],
    slurm: Path,
    tmp_path: Path,
    code_snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*NEITHER_SET_NOR_KEPT, *OF_SIZE, *OF_PLACE):
        monkeypatch.setenv(name, "1")
    profile = SlurmProfile.model_validate({"executor": "slurm", "device": "cpu", **settings})
    counting = (OF_SIZE | OF_PLACE) - gone
    assert seen_by_sbatch(profile, slurm, tmp_path, code_snapshot) == counting
    told = ", ".join(f"{name}=1" for name in sorted(counting))
    assert variables_line(profile) == f"sbatch also takes options from the environment: {told}"
    assert os.environ["SBATCH_TIMELIMIT"] == "1"


def test_jobs_without_a_gpu_get_none_from_the_environment(
    slurm: Path, tmp_path: Path, code_snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*OF_SIZE, *OF_PLACE):
        monkeypatch.setenv(name, "1")
    profile = cpu_profile(SlurmProfile(executor="slurm", gpus_per_node=1))
    assert seen_by_sbatch(profile, slurm, tmp_path, code_snapshot, TRAINING_ONLY) == OF_PLACE - {
        "SBATCH_CONSTRAINT"
    }
