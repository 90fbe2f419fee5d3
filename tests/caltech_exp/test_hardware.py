"""What is asked of a device, and what happens where it cannot be had."""

import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.errors import UserError
from caltech_exp.hardware import arithmetic, compiled, input_type, send

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BF16, FP32 = RunConfig(), RunConfig(precision="fp32")


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU from before bf16, as torch describes it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla P100")


@pytest.mark.parametrize(("config", "dtype"), [(BF16, torch.bfloat16), (FP32, torch.float32)])
def test_layers_compute_in_the_precision_asked_for(config: RunConfig, dtype: torch.dtype) -> None:
    with arithmetic(config, CPU)():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype
    assert input_type(config) == dtype


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_without_bf16_is_refused_with_the_way_out() -> None:
    with pytest.raises(UserError, match="GPU Tesla P100 does not compute in bf16; submit with precision=fp32"):
        arithmetic(BF16, GPU)


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_without_bf16_computes_in_fp32() -> None:
    with arithmetic(FP32, GPU)():
        assert not torch.is_autocast_enabled("cuda")


def test_on_a_cpu_nothing_is_compiled(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    assert compiled(net, CPU, tmp_path) is net
    assert list(tmp_path.iterdir()) == []


def used_as_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The log's line about a network that was not compiled."""
    net = nn.Linear(2, 2)
    assert compiled(net, GPU, place) is net
    return capsys.readouterr().out


def test_without_a_c_compiler_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler on this machine: training without torch.compile" in used_as_it_is(tmp_path, capsys)


def test_without_the_headers_of_python_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    assert f"no {tmp_path / 'Python.h'} on this machine" in used_as_it_is(tmp_path, capsys)


@pytest.mark.usefixtures("old_gpu")
def test_on_a_gpu_too_old_for_triton_the_network_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (6, 0))
    assert "Triton does not know GPUs as old as this Tesla P100" in used_as_it_is(tmp_path, capsys)


def test_compiled_or_not_a_gpu_computes_the_same(
    cuda: torch.device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).to(cuda)
    images = torch.randn(4, 3, 8, 8, device=cuda)
    assert torch.allclose(compiled(net, cuda, tmp_path)(images), net(images), atol=1e-5)


def test_what_is_on_the_cpu_already_is_not_copied() -> None:
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor


def test_what_is_sent_to_a_gpu_arrives(cuda: torch.device) -> None:
    assert send(torch.arange(3), cuda).tolist() == [0, 1, 2]
