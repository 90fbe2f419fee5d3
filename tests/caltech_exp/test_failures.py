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
