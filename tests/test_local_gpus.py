"""Which GPUs of this machine are found, by the driver's folder or without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp import machine as module
from caltech_exp.machine import local_gpus
from tests.tools.testbed import path_with

LISTED = """
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-8a1b)
  MIG 1g.5gb Device 0: (UUID: MIG-5c0d-2)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-9c2d)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the driver has an entry per GPU, not there yet; nobody has asked nvidia-smi before, or after."""
    path = tmp_path / "gpus"
    monkeypatch.setattr(module, "FOLDER", path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", path_with(tmp_path, "nvidia-smi", "exit 9"))
    module._count_of_nvidia_smi.cache_clear()
    yield path
    module._count_of_nvidia_smi.cache_clear()


@pytest.mark.parametrize("visible", [None, "0,1"])
def test_no_gpu_is_no_gpu(visible: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_visible_gpus_are_kept(
    visible: str | None, found: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0000:17:00.0", "0000:65:00.0", "0000:ca:00.0"):
        (folder / name).mkdir(parents=True)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == found


@pytest.mark.parametrize(("visible", "found"), [("1, GPU-8a1b", ("1", "GPU-8a1b")), ("-1", ()), ("", ())])
@pytest.mark.usefixtures("folder")
def test_without_the_drivers_folder_what_is_visible_is_trusted(
    visible: str, found: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    path_with(tmp_path, "nvidia-smi", f"touch '{asked}'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == found
    assert not asked.exists()


@pytest.mark.usefixtures("folder")
def test_without_the_drivers_folder_nvidia_smi_is_asked_once(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    path_with(tmp_path, "nvidia-smi", f"echo \"$@\" >>'{asked}'\ncat <<'END'{LISTED}END")
    assert local_gpus() == local_gpus() == ("0", "1")
    assert asked.read_text() == "-L\n"


@pytest.mark.parametrize(
    "nvidia_smi", ["echo 'GPU 0: broken'; exit 9", "echo No devices found", "exec sleep 60", "kill -9 $$", None]
)
@pytest.mark.usefixtures("folder")
def test_without_an_answer_of_nvidia_smi_there_is_no_gpu(
    nvidia_smi: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NVIDIA_SMI_SECONDS", 0.5)
    if nvidia_smi is None:
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        path_with(tmp_path, "nvidia-smi", nvidia_smi)
    assert local_gpus() == ()
