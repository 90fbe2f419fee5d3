"""The device of a task: its choice, errors, versions and energy counter."""

import pynvml
import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.training.device import choose_device, cuda_versions, describe_device, energy_joules, why_broken
from caltech_exp.training.failures import NodeError

GPU = torch.device("cuda")
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver"
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task without a GPU that CUDA could use, and without one from Slurm."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wanted", ["cpu", "auto"])
def test_auto_without_a_gpu_is_the_cpu(wanted: str) -> None:
    device = choose_device(wanted)
    assert device.type == "cpu"
    assert describe_device(device).name


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_gpu_is_a_user_error() -> None:
    with pytest.raises(UserError, match="asked for a GPU and finds none; check gpus_per_node or gres"):
        choose_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_unusable_gpu_that_slurm_gave_is_a_node_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(NodeError, match=r"was given a GPU \(CUDA_VISIBLE_DEVICES=0\)"):
        choose_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_old_driver_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError(TOO_OLD)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(UserError, match=r"is too old for torch .+; install a torch built for an older CUDA"):
        choose_device("cuda")


@pytest.mark.parametrize(("error", "kind"), [(NO_KERNEL, UserError), ("CUDA error: ECC error", RuntimeError)])
def test_gpu_without_code_in_torch_is_named(
    error: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def zeros(_count: int, device: torch.device) -> torch.Tensor:
        assert device.type == "cuda"
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla P100")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(kind) as caught:
        choose_device("auto")
    if kind is UserError:
        assert "has no code for the Tesla P100 of" in str(caught.value)
        assert "only for sm_75, sm_90" in str(caught.value)


ILLEGAL = "CUDA error: an illegal memory access was encountered"


def test_gpu_that_answers_with_an_error_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def sticky(_device: torch.device) -> None:
        raise RuntimeError(f"{ILLEGAL}\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr(torch.cuda, "synchronize", sticky)
    assert why_broken(torch.device("cuda")) == ILLEGAL
    assert why_broken(torch.device("cpu")) == ""


def test_gpu_that_ran_out_of_memory_is_not_broken(cuda: torch.device) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**50, dtype=torch.uint8, device=cuda)
    assert why_broken(cuda) == ""


def test_cpu_has_no_cuda_versions() -> None:
    assert cuda_versions(torch.device("cpu")) == {}


def test_gpu_has_versions_of_torchs_build_and_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_unknown_versions_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    assert not {"nvidia_driver", "cudnn"} & set(cuda_versions(GPU))


def test_cpu_has_no_energy_counter() -> None:
    assert energy_joules(torch.device("cpu")) is None


def test_gpu_energy_counter_increases(cuda: torch.device) -> None:
    before = energy_joules(cuda)
    square = torch.rand(4096, 4096, device=cuda)
    for _ in range(100):
        square = square @ square / 4096
    torch.cuda.synchronize()
    after = energy_joules(cuda)
    assert before is not None
    assert after is not None
    assert after > before
