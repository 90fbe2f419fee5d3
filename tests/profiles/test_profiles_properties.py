"""Profiles: whatever the YAML, it is understood or refused in one line; what is understood can be submitted."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.executors.sbatch import sbatch_parameters
from caltech_exp.profiles.profile import FOLDER, Profile, SlurmProfile, load_profile, parse_profile
from tests.tools.bad_inputs import NESTED, Reader, damaged_text, damaged_value, generated

SOUND = sorted(FOLDER.rglob("*.yaml"))
FULL: dict[str, Any] = {
    "executor": "slurm", "device": "cuda", "cpus_per_task": 8, "data": "~/data", "data_on_node": "$TMPDIR",
    "packs": "/packs", "packs_on_node": "$TMPDIR", "torch_home": "~/.cache/torch", "max_parallel": 8,
    "time_minutes": 60, "gpus_per_node": 1, "mem_gb": 16.5, "partition": "gpu", "account": "me", "qos": "high",
    "constraint": "a100", "exclude": "n1", "sbatch": {"nice": 10, "reservation": "r", "exclusive": True},
    "setup": ["module load cuda"], "python": "python", "srun_args": ["--mpi=none"], "signal_delay_seconds": 90,
    "poll_seconds": 30, "command_timeout_seconds": 60,
}  # fmt: skip
KINDS = (
    "!!python/object/apply:os.system [x]",
    "!!binary a",
    "!!set {a}",
    "!!timestamp x",
    "2024-13-45",
    ".inf",
    "089",
)


def as_yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, allow_unicode=True)
    return text.replace(f"'{NESTED}'", "[" * 2000 + "]" * 2000)


def submittable(profile: Profile) -> bool:
    """Whether a profile in the terms of sbatch is text that a batch script can hold."""
    if isinstance(profile, SlurmProfile):
        for value in sbatch_parameters("scratch.study", profile).values():
            assert "\n" not in str(value)
            assert str(value).encode()
    return True


def test_a_profile_is_understood_or_refused(tmp_path: Path) -> None:
    """800 profiles: values replaced in a full one, and the text of the suite's own damaged."""
    reader = Reader(tmp_path)
    texts = st.sampled_from([path.read_text() for path in SOUND])
    kinds = st.sampled_from(KINDS).map(lambda kind: f"executor: slurm\ngpus_per_node: 1\nqos: {kind}")

    @generated(800)
    @given(damaged_value(FULL).map(as_yaml) | damaged_text(texts) | damaged_text(kinds) | st.text())
    @example("executor: slurm\ndevice: cpu\nmem_gb: inf")
    @example('executor: slurm\ndevice: cpu\nqos: "\\ud800"')
    @example('executor: slurm\ndevice: cpu\n"\\ud800": 1')
    @example("executor: slurm\ndevice: cpu\nsbatch: {? [a] : 1}")
    @example("? [a]\n: 1")
    @example("0: !!timestamp")
    @example("executor: slurm\ndevice: cpu\nqos: !!bool perhaps")
    @example("executor: slurm\ndevice: cpu\nqos: 0001-01-01 00:00:00 +23:59")
    def parse(text: str) -> None:
        profile = reader.read(lambda: parse_profile(text, "p"))
        assert profile is None or submittable(profile)

    parse()
    assert reader.refused >= 500


def test_a_profile_is_found_or_refused(tmp_path: Path) -> None:
    """200 names and paths of profiles."""
    reader = Reader(tmp_path)

    @generated(200)
    @given(damaged_text(st.sampled_from(["local", "testbed", str(SOUND[0]), "/dev/zero", "./mine.yaml"])))
    @example("a\0b")
    @example("a\0.yaml")
    @example("~nobody_x/p.yaml")
    @example("x" * 5000)
    @example("x" * 5000 + ".yaml")
    @example("\ud800")
    def load(name: str) -> None:
        reader.read(lambda: load_profile(name))

    load()
    assert reader.refused >= 150
