"""Versions that count on a GPU only."""

import pynvml
import pytest
import torch

from caltech_exp.training.device import cuda_versions

GPU = torch.device("cuda")


def test_a_cpu_has_none() -> None:
    assert cuda_versions(torch.device("cpu")) == {}


def test_a_gpu_has_those_of_torchs_build_and_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.0+cu130")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.65.06")
    assert cuda_versions(GPU) == {
        "torch_build": "2.9.0+cu130",
        "cuda": "13.0",
        "cudnn": "91300",
        "nvidia_driver": "580.65.06",
    }


def test_what_cannot_be_asked_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    assert not {"nvidia_driver", "cudnn"} & set(cuda_versions(GPU))
