"""Why a run failed: kinds of failure, failure.json, imports."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.provenance import TaskOrigin, code_version
from caltech_exp.training.failures import NodeError, kind_of, record_failure
from tests.conftest import Disk

ORIGIN = TaskOrigin("s", "12_3", "/logs/12_3.out", code_version())


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
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (ImportError("libcudart.so.12: cannot open shared object file: No such file or directory"), "node"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "memory"),
        (OSError("libgomp.so.1: cannot open shared object file: No such file or directory"), "node"),
        (RuntimeError("can't start new thread"), "node"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
    ],
)
def test_kinds_of_failure(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


CUDNN = RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.mark.parametrize(("free", "kind"), [(2 * 2**30, "gpu_memory"), (40 * 2**30, "error")])
def test_cudnn_without_an_engine_is_a_memory_failure_on_a_full_gpu(
    free: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80 * 2**30))
    assert kind_of(CUDNN) == kind
    assert kind_of(RuntimeError("something else")) == "error"


def test_cudnn_without_an_engine_is_an_error_on_a_gpu_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert kind_of(CUDNN) == "error"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert kind_of(CUDNN) == "error"


def test_allocating_more_than_the_machine_has_is_a_memory_failure() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert kind_of(caught.value) == "memory"


def test_failure_on_a_full_disk_is_printed(small_disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    (small_disk.path / "filler").write_bytes(bytes(2**20))
    record_failure(small_disk.path, "0123456789-s0", ValueError("the reason"), ORIGIN)
    assert "failure cannot be recorded" in capsys.readouterr().out
    small_disk.change("size=2m")
    record_failure(small_disk.path, "0123456789-s0", ValueError("the reason"), ORIGIN)
    assert "the reason" in json.loads((small_disk.path / "0123456789-s0" / "failure.json").read_text())["error"]


IMPORTING = """
import sys
from caltech_exp.training.failures import import_libraries, kind_of, error_line as one_line
try:
    import_libraries()
except Exception as error:
    assert "torch" not in sys.modules
    print(kind_of(error))
    print(one_line(error))
"""


def import_in_a_process(folder: Path, before: str = "") -> list[str]:
    """Kind and message of the error of import_libraries in a new process; empty if it raises none."""
    done = subprocess.run(
        [sys.executable, "-c", before + IMPORTING],
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        ("ImportError('libcudart.so.12: no such file')", "node", "ImportError: libcudart.so.12: no such file"),
        ("OSError('libgomp.so.1: invalid ELF header')", "node", "OSError: libgomp.so.1: invalid ELF header"),
        ("OSError(5, 'Input/output error')", "node", "OSError: [Errno 5] Input/output error"),
        ("RuntimeError('version mismatch\\nof libraries')", "node", "RuntimeError: of libraries"),
        (
            "ModuleNotFoundError('No module named numpy._core', name='numpy._core')",
            "node",
            "ModuleNotFoundError: No mod",
        ),
        ("MemoryError()", "memory", "MemoryError"),
        (
            "ImportError('libtorch.so: failed to map segment from shared object')",
            "memory",
            "ImportError: libtorch.so",
        ),
        (
            "ModuleNotFoundError('No module named numpy', name='numpy')",
            "mistake",
            "does not have it: check python and",
        ),
    ],
)
def test_import_error_is_classified_without_torch(raised: str, kind: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text(f"raise {raised}\n")
    found_kind, line = import_in_a_process(tmp_path)
    assert found_kind == kind
    assert line.startswith("numpy cannot be imported on ")
    assert text in line


def test_import_under_an_address_space_limit_is_a_mistake(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
    kind, line = import_in_a_process(tmp_path, limit)
    assert kind == "mistake"
    assert "; the task may use 1.0 GiB of address space (ulimit -v): raise that limit where you submit" in line


def test_installed_libraries_are_imported(tmp_path: Path) -> None:
    assert import_in_a_process(tmp_path) == []
