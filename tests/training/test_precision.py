"""The precision and determinism of a device."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torchvision.models import alexnet

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import SIDE
from caltech_exp.training.device import POOL_WARNING, autocast, input_type, require_fp32, to_device_async
from tests.conftest import CHECKOUT

CPU, GPU = torch.device("cpu"), torch.device("cuda")
BF16, FP32 = RunConfig(), RunConfig(precision="fp32")


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU from before bf16, as torch describes it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla P100")


@pytest.mark.parametrize(("config", "dtype"), [(BF16, torch.bfloat16), (FP32, torch.float32)])
def test_autocast_sets_the_precision(config: RunConfig, dtype: torch.dtype) -> None:
    with autocast(config, CPU)():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype
    assert input_type(config) == dtype


@pytest.mark.usefixtures("old_gpu")
def test_gpu_without_bf16_is_refused() -> None:
    with pytest.raises(UserError, match="GPU Tesla P100 does not compute in bf16; submit with precision=fp32"):
        autocast(BF16, GPU)


@pytest.mark.usefixtures("old_gpu")
def test_gpu_without_bf16_computes_in_fp32() -> None:
    with autocast(FP32, GPU)():
        assert not torch.is_autocast_enabled("cuda")


MATMULS = """
import torch
from caltech_exp.config import RunConfig
from caltech_exp.training.device import make_deterministic
print(torch.get_float32_matmul_precision())
make_deterministic(RunConfig(), torch.device("cuda"))
print(torch.get_float32_matmul_precision())
print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""


def test_matrix_products_are_not_in_tf32_if_the_environment_asks_for_it() -> None:
    # In a process of its own: torch reads the variable once. NVIDIA's containers set it.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MATMULS],
        env={**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["high", "highest", "False", "False"], done.stderr


WARNINGS = """
import sys, warnings
import torch
from caltech_exp.config import RunConfig
from caltech_exp.training.device import make_deterministic
for model in sys.argv[1:]:
    make_deterministic(RunConfig(model=model), torch.device("cuda"))
    for name in ("adaptive_avg_pool2d_backward_cuda", "cumsum_cuda_kernel"):
        warnings.warn(f"{name} does not have a deterministic implementation, but you set ... {model}")
"""


def test_pool_warning_is_hidden_for_alexnet_only() -> None:
    # In a process of its own: torch's settings and warnings belong to a process.
    models = ("alexnet", "nets.py:tiny", "alexnet", "resnet18")
    done = subprocess.run(
        [sys.executable, "-c", WARNINGS, *models], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    warnings = [line.split() for line in done.stderr.splitlines() if "does not have a deterministic" in line]
    pool = [words[-1] for words in warnings if "adaptive_avg_pool2d_backward_cuda" in words]
    assert pool == ["nets.py:tiny", "resnet18"]
    assert [words[-1] for words in warnings if "cumsum_cuda_kernel" in words] == list(models)


def test_alexnets_pool_maps_each_input_to_itself() -> None:
    with torch.device("meta"):  # shapes only: fast
        net = alexnet()
        assert net.features(torch.empty(1, 3, SIDE, SIDE)).shape[2:] == net.avgpool.output_size == (6, 6)


POOLED = """
import sys
import torch
from caltech_exp.config import RunConfig
from caltech_exp.training.device import make_deterministic
make_deterministic(RunConfig(model=sys.argv[1]), torch.device("cuda"))
images = torch.ones(1, 8, 6, 6, device="cuda", requires_grad=True)
torch.nn.functional.adaptive_avg_pool2d(images, 6).sum().backward()
"""


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("model", "warns"), [("alexnet", False), ("nets.py:tiny", True)])
def test_gpu_warns_of_another_networks_pool(model: str, warns: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", POOLED, model], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert (POOL_WARNING in done.stderr) == warns


@pytest.mark.parametrize("config", [FP32, RunConfig(engine="reference")], ids=lambda config: config.engine)
def test_fp32_is_refused_under_the_tf32_override(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(UserError, match=r"NVIDIA_TF32_OVERRIDE=1 lets the GPU compute fp32 in TF32.*unset it on"):
        require_fp32(config, GPU)


@pytest.mark.parametrize(
    ("config", "device", "value"), [(FP32, GPU, "0"), (FP32, GPU, ""), (BF16, GPU, "1"), (FP32, CPU, "1")]
)
def test_harmless_tf32_override_is_accepted(
    config: RunConfig, device: torch.device, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    require_fp32(config, device)


def test_to_device_async_does_not_copy_on_a_cpu() -> None:
    tensor = torch.arange(3)
    assert to_device_async(tensor, CPU) is tensor


def test_to_device_async_copies_to_a_gpu(cuda: torch.device) -> None:
    assert to_device_async(torch.arange(3), cuda).tolist() == [0, 1, 2]
