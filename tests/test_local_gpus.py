"""Which GPUs of this machine are found, by the driver's folder or without it."""

from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from caltech_exp import machine as module
from caltech_exp.machine import local_gpus


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
    visible: str, found: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: asked.append(True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_gpus() == found
    assert not asked


@pytest.mark.usefixtures("folder")
def test_without_the_drivers_folder_nvml_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: asked.append(True))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    assert local_gpus() == local_gpus() == ("0", "1")
    assert asked == [True]


@pytest.mark.usefixtures("folder")
def test_without_an_answer_of_nvml_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_gpus() == ()
    module._nvml_count.cache_clear()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", refuse)
    assert local_gpus() == ()
