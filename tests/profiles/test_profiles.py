"""Profiles: what comes with the suite is valid, and mistakes are named."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from caltech_exp.cli import UserError
from caltech_exp.executors.sbatch import sbatch_parameters
from caltech_exp.profiles.paths import expand_path
from caltech_exp.profiles.profile import (
    FOLDER,
    LocalProfile,
    SlurmProfile,
    load_profile,
    parse_profile,
    profile_files,
    recorded_profile,
    take_profile_words,
)
from caltech_exp.profiles.sbatch_options import in_unit
from tests.conftest import CHECKOUT


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_that_comes_with_the_suite_is_valid(path: Path) -> None:
    assert isinstance(load_profile(str(path)), LocalProfile | SlurmProfile)


def test_profiles_are_found_by_name() -> None:
    assert {"local", "slurm", "testbed", "demo"} <= profile_files().keys()
    assert isinstance(load_profile("testbed"), SlurmProfile)


def test_examples_are_found_by_name_too() -> None:
    assert load_profile("gres") == load_profile("examples/gres") == load_profile(f"{FOLDER}/examples/gres.yaml")
    with pytest.raises(UserError, match=r"unknown profile 'gress'; did you mean 'gres'\?"):
        load_profile("gress")


def test_own_profiles_come_before_those_of_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    places = {"config": tmp_path / "config/caltech_exp/profiles", "current": tmp_path / "slurm/profiles"}
    for threads, folder in enumerate(places.values(), 5):
        folder.mkdir(parents=True)
        (folder / "slurm.yaml").write_text(f"{{executor: slurm, device: cpu, cpus_per_task: {threads}}}")
    (places["config"] / "home.yaml").write_text("{executor: local, device: cpu}")

    assert load_profile("slurm").cpus_per_task == 6
    (places["current"] / "slurm.yaml").unlink()
    assert load_profile("slurm").cpus_per_task == 5
    with pytest.raises(UserError, match=r"did you mean 'home'\?"):
        load_profile("hom")
    monkeypatch.chdir(CHECKOUT)  # whose slurm/profiles are the suite's
    assert load_profile("slurm").cpus_per_task == 5
    (places["config"] / "slurm.yaml").unlink()
    assert load_profile("slurm") == load_profile(f"{FOLDER}/slurm.yaml")


SLURM = "executor: slurm\ngpus_per_node: 1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("'#SBATCH --mem=32G'", "there; mem has a setting of its own; write mem_gb: 32 instead"),
        (
            "' #SBATCH --nice=5'",
            "setup: sbatch does not read ' #SBATCH --nice=5' there; write sbatch: {nice: VALUE}",
        ),
        ("'#SBATCH -p gpu'", "there; write sbatch: {OPTION: VALUE}"),
        ("'#SBATCH'", "there; write sbatch: {OPTION: VALUE}"),
        (
            "#SBATCH --nice=5",
            "profile p: setup has an empty line; remove it, or quote the line if it begins with #",
        ),
    ],
)
def test_options_of_sbatch_in_setup_are_refused(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_profile(f"{SLURM}setup:\n  - module load cuda\n  - {line}\n", "p")
    assert message in str(caught.value)
    recorded, _ = recorded_profile({"executor": "slurm", "gpus_per_node": 1, "setup": ["#SBATCH --nice=5"]})
    assert recorded  # of an earlier submission


LAUGHS = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}' if n else 'ha'] * 9)}]\n" for n in range(30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("executor: slrm", "profile p: executor takes slurm or local, not 'slrm'"),
        ("device: cpu", "profile p: executor takes slurm or local, not None"),
        (SLURM + "partion: gpu", "profile p: unknown setting 'partion'; did you mean 'partition'?"),
        (SLURM + "time_minutes: long", "profile p: time_minutes=long: "),
        (SLURM + "gres: gpu:1", "gpus_per_node and gres ask for GPUs twice; keep one"),
        ("executor: slurm", "device cuda needs gpus_per_node: 1 or gres: gpu:1"),
        (SLURM + 'partition: "a\\nrm -rf x"', "profile p: partition=a\\nrm -rf x"),
        (SLURM + "sbatch: {'x y': 1}", "profile p: sbatch.x y"),
        (SLURM + "sbatch: {array: 0-1}", "array is set by the suite itself; leave it out"),
        (SLURM + "time_minutes: 2:00:00", "profile p: time_minutes=2:00:00: "),
        (
            "executor: local\npartition: gpu",
            "profile p: partition is a setting of Slurm profiles only; leave",
        ),
        ("executor: [", "profile p is not YAML"),
        ("- a", "profile p is not a list of `setting: value` lines"),
        ("!!python/object/apply:os.system [echo]", "tags are not supported; write the value alone"),
        (SLURM + "qos: !!timestamp x", "tags are not supported; write the value alone"),
        ("", "profile p is not a list of `setting: value` lines"),
        (SLURM + "account: &a x\nqos: *a", "aliases are not supported; write the value out"),
        (LAUGHS, "aliases are not supported; write the value out"),
        (SLURM + "qos: high\nqos: low", "a name appears twice; keep one"),
        (SLURM + "sbatch: {nice: 1, nice: 2}", "a name appears twice; keep one"),
        (
            SLURM + "sbatch: {cpus-per-task: 4}",
            "sbatch.cpus-per-task: cpus-per-task has a setting of its own; write",
        ),
        (
            SLURM + "sbatch: {gpus_per_node: 1}",
            "gpus-per-node has a setting of its own; write gpus_per_node: 1 instead",
        ),
        (SLURM + "sbatch: {gres: gpu:1}", "gres has a setting of its own; write gres: gpu:1 instead"),
        (SLURM + "sbatch: {time: 10}", "time has a setting of its own; write time_minutes: 10 instead"),
        (SLURM + "sbatch: {mem: 10G}", "mem has a setting of its own; write mem_gb: 10 instead"),
        (
            SLURM + "sbatch: {parsable: true}",
            "parsable keeps sbatch from queueing a job and printing its id; leave it out",
        ),
        (SLURM + "sbatch: {partition: gpu}", "partition has a setting of its own; write partition: gpu instead"),
        (SLURM + "sbatch: {signal: USR1}", "signal is set by the suite itself; write signal_delay_seconds: 90"),
        (SLURM + "sbatch: {test-only: true}", "test-only keeps sbatch from queueing a job and printing its id"),
        (SLURM + "sbatch: {gpus-per-task: 1}", "gpus-per-task needs ntasks; add ntasks: 1"),
        (
            SLURM + "mem_gb: 8\nsbatch: {mem-per-cpu: 4G}",
            "mem-per-cpu needs mem_gb: null, as sbatch takes only one of them",
        ),
        (SLURM + "sbatch: {time: soon}", "time has a setting of its own; write time_minutes: 240 instead"),
        (
            SLURM + "mem_gb: 512M",
            "mem_gb=512M: input should be a number (memory of a task, GB: 32, not 32G; 0 for",
        ),
        (SLURM + "time_minutes: 90s", "; write time_minutes: 2"),
        (
            SLURM + "cpu_jobs: {sbatch: {time: 10}}",
            "time has a setting of its own; write cpu_jobs.time_minutes: 10",
        ),
        (
            SLURM + "sbatch: {requeue: true, no-requeue: true}",
            "requeue and no-requeue contradict each other; keep one",
        ),
        ("executor: slurm\ngpus_per_node: a100", "write a number of GPUs, 1 or more, or a type and a number"),
        ("executor: slurm\ngpus_per_node: a100:0", "gpus_per_node=a100:0: write a number of GPUs, 1 or more"),
        ("executor: slurm\ngpus_per_node: true", "gpus_per_node=True: write a number of GPUs, 1 or more"),
        ("executor: slurm\ngpus_per_node: [1]", "gpus_per_node=[1]: write a number of GPUs, 1 or more"),
        ("executor: slurm\ngpus_per_node: 0", "gpus_per_node=0: write a number of GPUs, 1 or more"),
        (SLURM + "sbatch: {clusters: a}", "clusters reaches sbatch alone; export SLURM_CLUSTERS"),
        (
            SLURM + "mail_type: FAIL",
            "unknown setting 'mail_type'; if it is an option of sbatch, write sbatch: {mail-type: FAIL}",
        ),
        (SLURM + "time: 1-00:00:00", "unknown setting 'time'; write time_minutes: 1440"),
        ("executor: slurm\nsbatch: {mail-type: FAIL}", "device cuda needs gpus_per_node: 1 or gres: gpu:1"),
        ("executor: slurm\nsbatch: {exclusive: false}", "device cuda needs gpus_per_node: 1 or gres: gpu:1"),
        (SLURM + "mem_gb: inf", "profile p: mem_gb=inf: "),
        (SLURM + "mem_gb: 1e400", "profile p: mem_gb=inf: "),
        (SLURM + "mem_gb: 0.0001", "mem_gb=0.0001: write gigabytes: 32, or 0 for all of a node's memory"),
        (SLURM + "poll_seconds: inf", "profile p: poll_seconds=inf: "),
        (SLURM + "poll_seconds: nan", "profile p: poll_seconds=nan: "),
        (SLURM + "command_timeout_seconds: 1e300", "profile p: command_timeout_seconds=1e+300: "),
        (SLURM + "sbatch: {x: 1e999}", "profile p: sbatch.x"),
        (SLURM + f"max_parallel: {'9' * 5000}", "profile p is not YAML: Exceeds the limit"),
        (SLURM + "[" * 1000, "profile p is not YAML"),
        ("executor: " + "[" * 50 + "]" * 50, "profile p: executor takes slurm or local, not [["),
        ("#" * 200_000, "profile p is longer than 100,000 characters"),
    ],
)
def test_a_wrong_profile_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_profile(text, "p")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text", ["gpus: 1", "gpus-per-task: 1, ntasks: 1", "tres_per_task: gres/gpu:1", "exclusive: true"]
)
def test_other_ways_to_ask_for_a_gpu(text: str) -> None:
    profile = parse_profile(f"executor: slurm\nsbatch: {{{text}, mail_type: FAIL}}", "p")
    assert isinstance(profile, SlurmProfile)
    assert profile.sbatch["mail-type"] == "FAIL"


def test_an_account_may_be_a_number() -> None:
    profile = parse_profile(SLURM + "account: 12345\ncpu_jobs: {account: 678}", "p")
    assert isinstance(profile, SlurmProfile)
    assert (profile.account, profile.cpu_jobs.account) == ("12345", "678")


@pytest.mark.parametrize("text", ["$NOT_SET/packs", "${NOT_SET}/packs", "/a/$NOT_SET"])
def test_a_variable_that_is_not_set_is_no_folder(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(UserError, match=rf"packs={re.escape(text)}: NOT_SET is not set on .+; export it"):
        expand_path(text, "packs")
    monkeypatch.setenv("NOT_SET", "/b")
    assert "/b" in str(expand_path(text, "packs"))


def test_numbers_are_decimal() -> None:
    profile = parse_profile(SLURM + "time_minutes: 010\nsbatch: {nice: 010}", "p")
    assert isinstance(profile, SlurmProfile)
    assert (profile.time_minutes, profile.sbatch) == (10, {"nice": "010"})


def test_a_device_and_a_pipe_are_no_profiles(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("/dev/zero", str(tmp_path / "pipe.yaml")):
        with pytest.raises(
            UserError, match=r"cannot be read \(it is a pipe or a device, not a file\); give a YAML"
        ):
            load_profile(name)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"unknown profile 'testbd'; did you mean 'testbed'\?"):
        load_profile("testbd")
    with pytest.raises(UserError, match=r"./mine.yaml: there is no such file; give a YAML file, or one of "):
        load_profile("./mine.yaml")


def test_a_profile_in_the_terms_of_sbatch() -> None:
    profile = parse_profile(
        SLURM + "mem_gb: 1.5\nqos: high\nsetup: [module load cuda]\nsbatch: {nice: 10}\nmax_parallel: 7", "p"
    )
    assert isinstance(profile, SlurmProfile)
    given = sbatch_parameters("scratch.study", profile)
    assert given["job_name"] == "scratch.study"
    assert (given["mem"], given["qos"], given["array_parallelism"]) == ("1536M", "high", 7)
    assert given["additional_parameters"] == {"nice": 10, "requeue": True}
    assert "module load cuda" in given["setup"]
    assert "PYTHONPATH" not in "".join(given["setup"])
    assert "gres" not in given


@pytest.mark.parametrize(("text", "asked"), [("mem_gb: 0.001", "1M"), ("mem_gb: 0", "0M"), ("", None)])
def test_no_memory_is_named_or_all_that_a_node_has(text: str, asked: object) -> None:
    assert parameters(SLURM + text).get("mem") == asked


def parameters(text: str) -> dict[str, Any]:
    profile = parse_profile(text, "p")
    assert isinstance(profile, SlurmProfile)
    return sbatch_parameters("scratch.study", profile)


@pytest.mark.parametrize(
    ("text", "gpus", "count"),
    [
        ("2", 2, 2),
        ("a100:3", "a100:3", 3),
        ("'1'", 1, 1),
        ("3090:1", "3090:1", 1),
        ("1g.10gb:2", "1g.10gb:2", 2),
        ("'a100:2,v100:1'", "a100:2,v100:1", 3),
    ],
)
def test_gpus_by_number_or_by_type_and_number(text: str, gpus: object, count: int) -> None:
    profile = parse_profile(f"executor: slurm\ngpus_per_node: {text}", "p")
    assert isinstance(profile, SlurmProfile)
    assert (profile.gpus_per_node, profile.gpus) == (gpus, count)
    assert sbatch_parameters("scratch.study", profile)["gpus_per_node"] == gpus
    assert SlurmProfile.model_validate(profile.model_dump(mode="json")) == profile  # as a manifest keeps it


def test_gpus_by_number_beside_another_generic_resource() -> None:
    asked = parameters(SLURM + "gres: lscratch:100")
    assert (asked["gpus_per_node"], asked["gres"]) == (1, "lscratch:100")


def test_the_jobs_that_need_no_gpu_may_have_a_constraint_of_their_own() -> None:
    assert parse_profile(SLURM + "cpu_jobs: {sbatch: {constraint: cpu}}", "p")


@pytest.mark.parametrize(
    ("text", "further"),
    [
        ("{requeue: false}", {}),
        ("{no-requeue: true}", {"no-requeue": True}),
        ("{no-requeue: false}", {"requeue": True}),
        ("{requeue: true, no-requeue: false}", {"requeue": True}),
    ],
)
def test_one_of_requeue_and_no_requeue_is_written(text: str, further: dict[str, object]) -> None:
    assert parameters(f"{SLURM}sbatch: {text}")["additional_parameters"] == further


def test_false_leaves_out_what_submitit_would_add() -> None:
    assert "wckey" not in parameters(SLURM)
    assert parameters(SLURM + "sbatch: {wckey: false}")["wckey"] is None


def test_recorded_profile_ignores_settings_that_no_longer_exist() -> None:
    profile = parse_profile(SLURM + "cpu_jobs: {mem_gb: 2}", "p")
    recorded = profile.model_dump(mode="json")
    assert recorded_profile(recorded) == (profile, [])
    former = {**recorded, "compile": True, "cpu_jobs": {**recorded["cpu_jobs"], "nice": 5}}
    assert recorded_profile(former) == (profile, ["compile", "cpu_jobs.nice"])


def test_recorded_profile_of_invalid_values_or_another_executor_is_none() -> None:
    assert recorded_profile({"executor": "slurm", "device": "cpu", "time_minutes": "long"}) == (None, [])
    assert recorded_profile({"executor": "pbs"}) == (None, [])
    assert recorded_profile({}) == (None, [])


@pytest.mark.parametrize(
    ("setting", "value", "number"),
    [
        ("time_minutes", "60", "60"), ("time_minutes", "90:30", "91"), ("time_minutes", "2:00:00", "120"),
        ("time_minutes", "1-12", "2160"), ("time_minutes", "1-00:30", "1470"), ("time_minutes", "1-0:0:1", "1441"),
        ("time_minutes", "1.5h", "90"), ("time_minutes", "2 days", "2880"), ("time_minutes", "1.2.3h", ""),
        ("time_minutes", "soon", ""), ("mem_gb", "64G", "64"), ("mem_gb", "512M", "0.5"), ("mem_gb", "1T", "1024"),
        ("mem_gb", "64000", "62.5"), ("mem_gb", "16", "16"), ("mem_gb", "much", ""), ("qos", "long", "long"),
    ],
)  # fmt: skip
def test_values_of_sbatch_become_minutes_and_gigabytes(setting: str, value: str, number: str) -> None:
    assert in_unit(setting, value) == number


def test_a_section_has_resources_of_its_own() -> None:
    text = SLURM + "time_minutes: 30\nsections: {resnet: {time_minutes: 60, mem_gb: 48, gres: gpu:a100:2}}"
    profile = parse_profile(text, "p")
    assert isinstance(profile, SlurmProfile)
    own = profile.for_section("resnet")
    assert (own.time_minutes, own.mem_gb, own.gres, own.gpus_per_node, own.gpus) == (60, 48, "gpu:a100:2", None, 2)
    assert profile.for_section("scratch") == profile
    words, _ = take_profile_words(["profile.sections.resnet.time_minutes=90"])
    changed = parse_profile(text, "p", words)
    assert isinstance(changed, SlurmProfile)
    assert changed.for_section("resnet").time_minutes == 90


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("{resnet: {time_minutes: 1}}", "sections.resnet: signal_delay_seconds is not below the time limit"),
        (
            "{resnet: {gpus_per_node: 1, gres: gpu:1}}",
            "sections.resnet: gpus_per_node and gres ask for GPUs twice",
        ),
        ("{resnet: {time_minutes: 0}}", "sections.resnet.time_minutes=0: "),
        ("{resnet: {account: mine}}", "unknown setting 'sections.resnet.account'"),
        ("{Res Net: {time_minutes: 9}}", "sections.Res Net"),
    ],
)
def test_a_wrong_section_of_a_profile_is_named(sections: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        parse_profile(f"{SLURM}sections: {sections}", "p")
