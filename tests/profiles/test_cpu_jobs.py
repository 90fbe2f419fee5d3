"""What the jobs that train nothing ask sbatch for."""

import pytest

from caltech_exp.executors.sbatch import sbatch_parameters
from caltech_exp.profiles.profile import SlurmProfile, parse_profile
from caltech_exp.profiles.sbatch_options import cpu_profile

FULL = """
executor: slurm
partition: gpu
account: mine
gres: gpu:a100:1
constraint: a100
cpus_per_task: 8
sbatch: {nice: 10, gpus-per-task: 1, ntasks: 1, tres-per-node: gpu, mem-per-gpu: 1}
srun_args: ["--mpi=none", "--gpus-per-task=1"]
setup: [module load cuda]
"""


def given(text: str) -> dict[str, object]:
    profile = parse_profile(text, "p")
    assert isinstance(profile, SlurmProfile)
    return sbatch_parameters("prepare.study", cpu_profile(profile), after=["1", "2"])


def test_nothing_that_asks_for_a_gpu_is_left_and_all_else_stays() -> None:
    asked = given(FULL)
    assert not {"gres", "gpus_per_node", "constraint"} & asked.keys()
    assert asked["additional_parameters"] == {"nice": 10, "ntasks": 1, "requeue": True}
    assert asked["srun_args"] == ["--mpi=none"]
    assert (asked["partition"], asked["account"]) == ("gpu", "mine")
    assert (asked["time"], asked["cpus_per_task"], asked["mem"]) == (30, 2, "4096M")
    assert asked["dependency"] == "afterany:1:2"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--cpus-per-task=8", "--label"], ["--label"]),
        (["--gpus-per-task=1", "--constraint=a100", "--mem=0"], []),
        (["--container-image", "/c", "--cpu-bind=cores"], ["--container-image", "/c", "--cpu-bind=cores"]),
    ],
)
def test_cpu_profile_drops_srun_arguments_for_training(words: list[str], kept: list[str]) -> None:
    profile = SlurmProfile(executor="slurm", gpus_per_node=1, srun_args=words)
    assert cpu_profile(profile).srun_args == kept


def test_a_partition_account_and_time_of_their_own() -> None:
    asked = given(FULL + "cpu_jobs: {partition: cpu, account: free, qos: short, time_minutes: 1, mem_gb: 1}")
    assert (asked["partition"], asked["account"], asked["qos"]) == ("cpu", "free", "short")
    assert (asked["time"], asked["mem"], asked["signal_delay_s"]) == (1, "1024M", 30)


CORES = """
executor: slurm
gpus_per_node: 1
sbatch: {mem-per-cpu: 4G, time-min: 600, exclusive: true, reservation: gpus, nice: 1}
"""


def test_memory_by_cores_stays_where_the_site_has_it_so() -> None:
    asked = given(CORES)
    assert "mem" not in asked
    assert asked["additional_parameters"] == {"mem-per-cpu": "4G", "nice": 1, "requeue": True}


def test_memory_of_their_own_takes_its_place() -> None:
    asked = given(CORES + "cpu_jobs: {mem_gb: 2}")
    assert asked["mem"] == "2048M"
    assert asked["additional_parameters"] == {"nice": 1, "requeue": True}


@pytest.mark.parametrize("more", ["", "sbatch: {mem-per-cpu: 4G}\n"])
def test_where_the_site_refuses_memory_none_is_asked_for(more: str) -> None:
    nothing = "executor: slurm\ngpus_per_node: 1\ncpu_jobs: {mem_gb: null, cpus_per_task: null}\n"
    asked = given(nothing + more)
    assert not {"mem", "cpus_per_task"} & asked.keys()
    assert asked["additional_parameters"] == {**({"mem-per-cpu": "4G"} if more else {}), "requeue": True}


def test_one_of_the_two_that_contradict_each_other_is_left() -> None:
    asked = given(CORES.replace("nice: 1", "no-requeue: true") + "cpu_jobs: {sbatch: {requeue: true}}")
    assert asked["additional_parameters"] == {"mem-per-cpu": "4G", "requeue": True}


def test_options_of_their_own_beside_those_of_the_profile() -> None:
    asked = given(CORES + "cpu_jobs: {sbatch: {reservation: cpus, nice: false}}")
    assert asked["additional_parameters"] == {"mem-per-cpu": "4G", "reservation": "cpus", "requeue": True}
