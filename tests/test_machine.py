"""This machine: its GPUs, its processor, and freed memory that is kept."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
import torch

from caltech_exp import machine as module
from caltech_exp.machine import computes_bf16, local_gpus
from tests.conftest import CHECKOUT


def refuse() -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of the driver's folder, which does not exist yet; NVML finds no driver."""
    path = tmp_path / "gpus"
    monkeypatch.setattr(module, "FOLDER", path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    module._nvml_count.cache_clear()
    yield path
    module._nvml_count.cache_clear()


@pytest.mark.parametrize("visible", [None, "0,1"])
def test_local_gpus_without_a_gpu_are_none(
    visible: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == ()


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ("0", "1", "2")),
        ("2,0", ("2", "0")),
        ("MIG-5c0d-2, GPU-8a1b", ("MIG-5c0d-2", "GPU-8a1b")),
        ("1,-1,0", ("1",)),
        ("", ()),
        ("NoDevFiles", ()),
    ],
)
def test_local_gpus_are_the_visible_ones(
    visible: str | None, found: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0000:17:00.0", "0000:65:00.0", "0000:ca:00.0"):
        (folder / name).mkdir(parents=True)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == found


@pytest.mark.parametrize(("visible", "found"), [("1, GPU-8a1b", ("1", "GPU-8a1b")), ("-1", ()), ("", ())])
@pytest.mark.usefixtures("folder")
def test_local_gpus_without_the_drivers_folder_trust_the_variable(
    visible: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: asked.append(True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == found
    assert not asked


@pytest.mark.usefixtures("folder")
def test_local_gpus_without_the_drivers_folder_ask_nvml_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: asked.append(True))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    assert local_gpus() == local_gpus() == ("0", "1")
    assert asked == [True]


@pytest.mark.usefixtures("folder")
def test_local_gpus_without_an_answer_of_nvml_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_gpus() == ()
    module._nvml_count.cache_clear()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", refuse)
    assert local_gpus() == ()


def test_bf16_of_the_processor_is_what_torch_finds() -> None:
    assert computes_bf16() == torch.ops.mkldnn._is_mkldnn_bf16_supported()


FAULTS = """
import resource
{first}
import torch
{then}
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)  # 64 MB, as the activations of a layer
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
KEEP = "from caltech_exp.machine import keep_freed_memory; keep_freed_memory()"


def faults(first: str = "", then: str = "") -> int:
    """Page faults of a new process that allocates the same memory again and again."""
    code = FAULTS.format(first=first, then=then)
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def are_fewer(first: str = "", then: str = "") -> bool:
    """Whether there are less than half as many as by default.

    Asked up to three times: beside others, a kernel short of memory takes some back now and then.
    """
    default = faults()
    assert default > 20 * 2**26 / 2**21  # a fault for each page, large ones at the most
    return any(faults(first, then) < default / 2 for _ in range(3))


def test_freed_memory_is_used_again_without_page_faults() -> None:
    assert are_fewer(first=KEEP)


def test_keeping_memory_twice_and_after_torch_does_no_harm() -> None:
    assert are_fewer(then=f"{KEEP}; keep_freed_memory()")
