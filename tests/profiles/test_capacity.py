"""What a profile gives its tasks: which device, how many at a time."""

from pathlib import Path

import pytest

from caltech_exp import machine
from caltech_exp.profiles.profile import load_profile, parse_profile

AUTO = "executor: slurm\ndevice: auto\n"


@pytest.mark.parametrize(
    ("text", "device"),
    [
        (AUTO, "cpu"),
        (AUTO + "gpus_per_node: 1", "cuda"),
        (AUTO + "gres: gpu:a100:1", "cuda"),
        (AUTO + "gres: scratch:10", "cpu"),
        (AUTO + "sbatch: {gpus: 1}", "cuda"),
        (AUTO + "sbatch: {gpus-per-task: 1, ntasks: 1, nice: 10}", "cuda"),
        (AUTO + "sbatch: {tres-per-task: gres/gpu:1}", "cuda"),
        (AUTO + "sbatch: {exclusive: true}", "cuda"),
        (AUTO + "sbatch: {exclusive: false, nice: 10, mail-user: gpu@example.org}", "cpu"),
        (AUTO + "sbatch: {tres-per-task: 'cpu:2', gres-flags: enforce-binding}", "cpu"),
        ("executor: slurm\ndevice: cpu\ngpus_per_node: 1", "cpu"),
        ("executor: slurm\ngpus_per_node: 1", "cuda"),
    ],
)
def test_tasks_on_slurm_run_on_the_gpu_that_the_profile_asks_for(text: str, device: str) -> None:
    assert parse_profile(text, "p").device_type == device


@pytest.mark.parametrize(("visible", "device"), [("0", "cuda"), ("", "cpu"), ("-1", "cpu")])
def test_tasks_here_run_on_the_gpu_that_this_machine_has(
    visible: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0000:17:00.0").mkdir()
    monkeypatch.setattr(machine, "FOLDER", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert load_profile("local").device_type == device


def test_without_a_gpu_tasks_here_run_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FOLDER", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert load_profile("local").device_type == "cpu"
