"""Profiles: what comes with the suite is valid, and mistakes are named."""

from pathlib import Path

import pytest

from caltech_exp.errors import UserError
from jobs.profiles import FOLDER, LocalProfile, SlurmProfile, load_profile, parse_profile, profile_names
from jobs.slurm_queue import sbatch_parameters


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_that_comes_with_the_suite_is_valid(path: Path) -> None:
    assert isinstance(load_profile(str(path)), LocalProfile | SlurmProfile)


def test_profiles_are_found_by_name() -> None:
    assert {"local", "slurm", "testbed", "demo"} <= set(profile_names())
    assert isinstance(load_profile("testbed"), SlurmProfile)


SLURM = "executor: slurm\ngpus_per_node: 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("executor: slrm", "profile p: executor takes slurm or local, not 'slrm'"),
        ("device: cpu", "profile p: executor takes slurm or local, not None"),
        (SLURM + "partion: gpu", "profile p: unknown setting 'partion'; did you mean 'partition'?"),
        (SLURM + "time_minutes: long", "profile p: time_minutes=long: "),
        (SLURM + "gres: gpu:1", "gpus_per_node and gres ask for GPUs twice; keep one"),
        ("executor: slurm", "device cuda needs gpus_per_node: 1 or gres: gpu:1"),
        (SLURM + 'partition: "a\\nrm -rf x"', "profile p: partition=a\nrm -rf x"),
        (SLURM + "sbatch: {'x y': 1}", "profile p: sbatch.x y"),
        (SLURM + "sbatch: {array: 0-1}", "array is set by the suite itself; leave it out"),
        (SLURM + "time_minutes: 2:00:00", "profile p: time_minutes=2:00:00: "),
        ("executor: local\npartition: gpu", "profile p: unknown setting 'partition'"),
        ("executor: [", "profile p is not YAML"),
        ("- a", "profile p is not a list of `setting: value` lines"),
        ("!!python/object/apply:os.system [echo]", "profile p is not YAML"),
        ("", "profile p is not a list of `setting: value` lines"),
    ],
)
def test_a_wrong_profile_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_profile(text, "p")
    assert message in str(caught.value)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"unknown profile 'testbd'; did you mean 'testbed'\?"):
        load_profile("testbd")
    with pytest.raises(UserError, match=r"profile ./mine.yaml: there is no such file; known: "):
        load_profile("./mine.yaml")


def test_a_profile_in_the_terms_of_sbatch() -> None:
    profile = parse_profile(
        SLURM + "mem_gb: 1.5\nqos: high\nsetup: [module load cuda]\nsbatch: {nice: 10}\nmax_parallel: 7", "p"
    )
    assert isinstance(profile, SlurmProfile)
    given = sbatch_parameters("scratch.study", profile)
    assert given["job_name"] == "scratch.study"
    assert (given["mem"], given["qos"], given["array_parallelism"]) == ("1536M", "high", 7)
    assert given["additional_parameters"] == {"nice": 10}
    assert given["setup"][0] == "module load cuda"
    assert given["setup"][1].startswith("export PYTHONPATH=")
    assert "gres" not in given
