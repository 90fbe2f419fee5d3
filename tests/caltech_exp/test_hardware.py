"""What is asked of a device, and what happens where it cannot be had."""

import pytest
import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.errors import UserError
from caltech_exp.hardware import arithmetic, input_type, send

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


def test_what_is_on_the_cpu_already_is_not_copied() -> None:
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor


def test_what_is_sent_to_a_gpu_arrives(cuda: torch.device) -> None:
    assert send(torch.arange(3), cuda).tolist() == [0, 1, 2]
