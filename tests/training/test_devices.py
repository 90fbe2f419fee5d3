"""Which device a task trains on, and what it says where that cannot be."""

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.training.device import choose_device, describe_device, why_broken
from caltech_exp.training.failures import NodeError

TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver"
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task without a GPU that CUDA could use, and without one from Slurm."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wanted", ["cpu", "auto"])
def test_the_cpu_where_it_may_be(wanted: str) -> None:
    device = choose_device(wanted)
    assert device.type == "cpu"
    assert describe_device(device).name


@pytest.mark.usefixtures("no_gpu")
def test_no_gpu_is_a_mistake_in_the_profile() -> None:
    with pytest.raises(UserError, match="asked for a GPU and finds none; check gpus_per_node or gres"):
        choose_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_was_given_and_is_not_there_is_the_nodes_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(NodeError, match=r"was given a GPU \(CUDA_VISIBLE_DEVICES=0\)"):
        choose_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_a_driver_too_old_for_torch_is_no_nodes_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError(TOO_OLD)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(UserError, match=r"is too old for torch .+; install a torch built for an older CUDA"):
        choose_device("cuda")


@pytest.mark.parametrize(("error", "kind"), [(NO_KERNEL, UserError), ("CUDA error: ECC error", RuntimeError)])
def test_a_gpu_that_torch_has_no_code_for_is_named(
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


def test_a_gpu_that_answers_with_an_error_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def sticky(_device: torch.device) -> None:
        raise RuntimeError(f"{ILLEGAL}\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr(torch.cuda, "synchronize", sticky)
    assert why_broken(torch.device("cuda")) == ILLEGAL
    assert why_broken(torch.device("cpu")) == ""


def test_a_gpu_that_ran_out_of_memory_is_whole(cuda: torch.device) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**50, dtype=torch.uint8, device=cuda)
    assert why_broken(cuda) == ""
