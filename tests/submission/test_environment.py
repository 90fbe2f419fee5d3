"""What is kept of the environment a study was submitted in, and what is not."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from caltech_exp.records import read_record
from caltech_exp.submission.snapshot import ENVIRONMENT, Environment, describe_environment, write_environment
from tests.tools.testbed import path_with


def test_versions_modules_and_chosen_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOADEDMODULES", "gcc/13.2:cuda/12.4")
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "caltech")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("WANDB_API_KEY", "a secret")
    monkeypatch.setenv("PATH", path_with(tmp_path, "nvidia-smi", "echo 550.54.15; echo 550.54.15"))
    write_environment(tmp_path)
    found = read_record(tmp_path / ENVIRONMENT, Environment)
    assert isinstance(found, Environment)
    assert found.packages["pydantic"] == version("pydantic")
    assert [name.lower() for name in found.packages] == sorted(name.lower() for name in found.packages)
    assert found.modules == ("gcc/13.2", "cuda/12.4")
    assert found.conda == "caltech"
    assert found.cuda_driver == "550.54.15"
    assert found.variables["OMP_NUM_THREADS"] == "4"
    assert "a secret" not in (tmp_path / ENVIRONMENT).read_text()


@pytest.mark.parametrize("nvidia_smi", ["exit 9", "echo no devices; exit 6", "kill -9 $$"])
def test_a_machine_without_a_driver_or_modules(
    nvidia_smi: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LOADEDMODULES", raising=False)
    monkeypatch.delenv("CONDA_DEFAULT_ENV", raising=False)
    monkeypatch.setenv("PATH", path_with(tmp_path, "nvidia-smi", nvidia_smi))
    monkeypatch.setitem(os.environ, "CUDA_HOME", "not \udcff text")
    found = describe_environment()
    assert (found.modules, found.conda, found.cuda_driver) == ((), None, None)
    assert found.variables["CUDA_HOME"] == "not \\udcff text"
