"""What kind of failure an exception is."""

import errno
import json

import pytest
import torch

from caltech_exp.errors import UserError
from caltech_exp.failures import NodeError, kind_of, record_failure
from caltech_exp.provenance import Origin, code_version
from tests.conftest import Disk

ORIGIN = Origin("s", "12_3", "/logs/12_3.out", code_version())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("damaged image"), "mistake"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "gpu_memory"),
        (RuntimeError("CUDA error: out of memory"), "gpu_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "gpu_memory"),
        (MemoryError(), "memory"),
        (NodeError("the driver is broken"), "node"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "node"),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), "node"),
        (RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."), "node"),
        (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"), "node"),
        (RuntimeError("CUDA error: unknown error\nCUDA kernel errors might be asynchronously reported"), "node"),
        (RuntimeError("CUDA driver version is insufficient for CUDA runtime version"), "error"),
        (OSError(errno.EIO, "Input/output error"), "node"),
        (OSError(errno.ESTALE, "Stale file handle"), "node"),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), "node"),
        (OSError(errno.ENOSPC, "No space left on device"), "error"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
    ],
)
def test_kinds_of_failure(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


CUDNN = RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.mark.parametrize(("free", "kind"), [(2 * 2**30, "gpu_memory"), (40 * 2**30, "error")])
def test_cudnn_without_an_engine_is_short_of_memory_where_the_gpu_is_full(
    free: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80 * 2**30))
    assert kind_of(CUDNN) == kind
    assert kind_of(RuntimeError("something else")) == "error"


def test_cudnn_without_an_engine_on_a_gpu_that_does_not_answer_is_any_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert kind_of(CUDNN) == "error"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert kind_of(CUDNN) == "error"


def test_more_memory_than_the_machine_has_is_told_as_that() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert kind_of(caught.value) == "memory"


def test_a_failure_on_a_full_disk_stands_in_the_log(small_disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk.path / "filler").write_bytes(bytes(2**20))
    record_failure(small_disk.path, "0123456789-s0", ValueError("the reason"), ORIGIN)
    assert "cannot be written down" in capsys.readouterr().out
    small_disk.change("size=2m")
    record_failure(small_disk.path, "0123456789-s0", ValueError("the reason"), ORIGIN)
    assert "the reason" in json.loads((small_disk.path / "0123456789-s0" / "failure.json").read_text())["error"]
