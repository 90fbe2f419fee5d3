"""Settings of a profile on the command line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caltech_exp.cli import UserError
from caltech_exp.profiles.profile import (
    LocalProfile,
    SlurmProfile,
    parse_profile,
    take_profile_words,
)
from caltech_exp.profiles.resources import CpuJobs
from caltech_exp.submission.request import parse_request
from tests.conftest import Command

SLURM = """
executor: slurm
gpus_per_node: 1
partition: gpu
sbatch: {mail-type: FAIL, nice: 5}
cpu_jobs: {partition: cpu, mem_gb: 2}
"""


def changed(*argv: str) -> SlurmProfile:
    words, others = take_profile_words(argv)
    assert not others
    profile = parse_profile(SLURM, "p", words)
    assert isinstance(profile, SlurmProfile)
    return profile


def test_what_is_named_changes_and_nothing_else() -> None:
    before, after = changed(), changed("profile.partition=short", "profile.time_minutes=30")
    assert (after.partition, after.time_minutes) == ("short", 30)
    assert after == before.model_copy(update={"partition": "short", "time_minutes": 30})


def test_of_a_mapping_one_name_changes() -> None:
    after = changed("profile.sbatch.nice=100", "profile.sbatch.mem_per_gpu=16G", "profile.cpu_jobs.partition=tiny")
    assert after.sbatch == {"mail-type": "FAIL", "nice": 100, "mem-per-gpu": "16G"}
    assert (after.cpu_jobs.partition, after.cpu_jobs.mem_gb) == ("tiny", 2)
    assert changed("profile.sbatch={nice: 7}").sbatch == {"mail-type": "FAIL", "nice": 7}
    assert changed("profile.images_per_second.alexnet=4000").images_per_second == {"alexnet": 4000.0}


def test_null_leaves_a_setting_out() -> None:
    after = changed("profile.gpus_per_node=null", "profile.gres=gpu:a100:1", "profile.sbatch.nice=null")
    assert (after.gpus_per_node, after.gres, after.sbatch) == (None, "gpu:a100:1", {"mail-type": "FAIL"})
    assert changed("profile.qos=null") == changed()


def test_null_is_a_value_where_a_setting_has_a_default_and_may_be_none() -> None:
    after = changed("profile.cpu_jobs.mem_gb=null", "profile.cpu_jobs.cpus_per_task=null")
    assert (after.cpu_jobs.mem_gb, after.cpu_jobs.cpus_per_task, after.cpu_jobs.partition) == (None, None, "cpu")
    assert changed("profile.cpu_jobs={mem_gb: null, partition: null}").cpu_jobs == CpuJobs(mem_gb=None)


def test_values_are_those_of_a_file() -> None:
    after = changed("profile.setup=[module load cuda/12.4, ulimit -n 4096]", "profile.account=007")
    assert after.setup == ["module load cuda/12.4", "ulimit -n 4096"]
    assert after.account == "007"


def test_other_words_stay_in_their_order() -> None:
    words, others = take_profile_words(["section=all", "profile.partition=short", "profile=mine.yaml", "lr=1"])
    assert others == ["section=all", "profile=mine.yaml", "lr=1"]
    assert str(words) == " with profile.partition=short"
    assert str(take_profile_words(["profile=mine.yaml"])[0]) == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["profile.partion=x"], "p with profile.partion=x: unknown setting 'partion'; did you mean 'partition'?"),
        (["profile.time=60"], "unknown setting 'time'; write profile.time_minutes=60"),
        (["profile.mail_type=ALL"], "if it is an option of sbatch, write profile.sbatch.mail-type=ALL"),
        (["profile.time_minutes=soon"], "profile p with profile.time_minutes=soon: time_minutes=soon: "),
        (["profile.partition.name=x"], "partition={'name': 'x'}: "),
        (["profile.sbatch=fast"], "sbatch=fast: "),
        (["profile.sbatch.array=1-2"], "array is set by the suite itself; leave it out"),
        (["profile.partition"], "'profile.partition' has no value; write profile.partition=VALUE, or =null to"),
        (["profile.partition="], "profile.partition= has no value"),
        (["profile.=x"], "profile.= names no setting of a profile; write it as in profile.partition=short"),
        (["profile.sbatch..nice=1"], "profile.sbatch..nice= names no setting of a profile"),
        (["profile.setup=["], "profile.setup=[ is not YAML: "),
        (["profile.qos=a", "profile.qos=b"], "profile.qos is given twice, 'a' and 'b'; keep one"),
        (["profile.executor=slrm"], "executor takes slurm or local, not 'slrm'"),
        (["profile.executor=local"], "is for slurm and cannot be changed to local; use profile=local"),
    ],
)  # fmt: skip
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        changed(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=3))
def test_any_words_are_understood_or_refused(pairs: list[tuple[str, str]]) -> None:
    argv = [f"profile.{name}={value}" for name, value in pairs]
    try:
        words, others = take_profile_words(argv)
        profile = parse_profile(SLURM, "p", words)
    except UserError:
        return
    assert others == []
    assert isinstance(profile, SlurmProfile | LocalProfile)


def test_they_are_part_of_a_request() -> None:
    request = parse_request(["section=scratch", "profile=local", "profile.max_parallel=2", "lr=0.1"])
    assert request.settings.overrides == {"lr": 0.1}
    assert request.profile.max_parallel == 2
    assert request.profile_name == "profile local with profile.max_parallel=2"


def test_submit_says_what_it_changes(
    submit: Command, prepare: Command, small: tuple[str, ...], untouched: Path, stand_in: Path
) -> None:
    words = (*small, "seeds=1", "profile=demo", f"runs={untouched}", "dry_run=true")
    done = submit(*words, "profile.max_parallel=3")
    assert done.returncode == 0, done.stderr
    assert "profile demo with profile.max_parallel=3" in done.stdout
    wrong = submit(*words, "profile.max_paralel=3")
    assert wrong.returncode == 2
    assert "unknown setting 'max_paralel'; did you mean 'max_parallel'?" in wrong.stderr
    packs = prepare(f"data={stand_in}", "weights=none", "dry_run=true", "profile=demo", "profile.packs=/a/place")
    assert "/a/place" in packs.stdout
