"""What is kept of the environment a study was submitted in, and what is not."""

import os
from importlib.metadata import version
from pathlib import Path

import pynvml
import pytest

from caltech_exp.records import read_record
from caltech_exp.submission.snapshot import ENVIRONMENT, Environment, describe_environment, write_environment


def test_versions_modules_and_chosen_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOADEDMODULES", "gcc/13.2:cuda/12.4")
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "caltech")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("WANDB_API_KEY", "a secret")
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "550.54.15")
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


def test_a_machine_without_a_driver_or_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.delenv("LOADEDMODULES", raising=False)
    monkeypatch.delenv("CONDA_DEFAULT_ENV", raising=False)
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    monkeypatch.setitem(os.environ, "CUDA_HOME", "not \udcff text")
    found = describe_environment()
    assert (found.modules, found.conda, found.cuda_driver) == ((), None, None)
    assert found.variables["CUDA_HOME"] == "not \\udcff text"
