"""What is asked of a device, and what happens where it cannot be had."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from caltech_exp.config import RunConfig
from caltech_exp.errors import UserError
from caltech_exp.hardware import arithmetic, input_type, require_fp32, send
from tests.conftest import CHECKOUT

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


MATMULS = """
import torch
from caltech_exp.hardware import make_deterministic
print(torch.get_float32_matmul_precision())
make_deterministic(torch.device("cuda"))
print(torch.get_float32_matmul_precision())
print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""


def test_matrix_products_are_never_in_tf32_though_the_environment_asks_for_it() -> None:
    # In a process of its own: torch reads the variable when it is first asked. NVIDIA's containers set it.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MATMULS],
        env={**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["high", "highest", "False", "False"], done.stderr


@pytest.mark.parametrize("config", [FP32, RunConfig(engine="reference")], ids=lambda config: config.engine)
def test_fp32_that_the_driver_would_compute_in_tf32_is_refused(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(UserError, match=r"NVIDIA_TF32_OVERRIDE=1 lets the GPU compute fp32 in TF32.*unset it on"):
        require_fp32(config, GPU)


@pytest.mark.parametrize(
    ("config", "device", "value"), [(FP32, GPU, "0"), (FP32, GPU, ""), (BF16, GPU, "1"), (FP32, CPU, "1")]
)
def test_what_the_override_cannot_change_is_not_refused(
    config: RunConfig, device: torch.device, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    require_fp32(config, device)


def test_what_is_on_the_cpu_already_is_not_copied() -> None:
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor


def test_what_is_sent_to_a_gpu_arrives(cuda: torch.device) -> None:
    assert send(torch.arange(3), cuda).tolist() == [0, 1, 2]
