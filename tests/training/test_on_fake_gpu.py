"""Where a batch is made, checked without a GPU: torch's fake tensors have a device and no numbers.

An operation between a tensor on the GPU and one on the CPU is an error here as it is there.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import SIDE, statistics
from caltech_exp.models.networks import build
from caltech_exp.training.augment import geometry, ops
from caltech_exp.training.augment.geometry import rotate
from caltech_exp.training.augment.ops import (
    CUDA_IMAGES,
    PixelBuffer,
    crop,
    flip_horizontally,
    flip_vertically,
    grayscale,
)
from caltech_exp.training.device import input_type, to_device_async
from caltech_exp.training.fast import CHUNK, FeatureSource, cached_features, normalization

GPU = torch.device("cuda")
COUNT = CUDA_IMAGES + 8
"""More than a chunk."""

FakeGpu = Callable[[], AbstractContextManager[object]]


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A context in which tensors can be made on the GPU; CPU tensors made before it keep their numbers."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)  # the one operation that fake tensors lack
    return lambda: FakeTensorMode(allow_non_fake_inputs=True)


def pixels() -> Tensor:
    """A batch on the GPU; call it within the context."""
    return torch.empty(COUNT, SIDE, SIDE, 3, dtype=torch.uint8, device=GPU)


def test_fake_tensors_notice_the_wrong_device(fake_gpu: FakeGpu) -> None:
    with fake_gpu(), pytest.raises(RuntimeError, match="same device"):
        pixels().index_select(0, torch.arange(3))


def test_crop_is_on_the_gpu(fake_gpu: FakeGpu) -> None:
    heights, widths = torch.randint(200, 300, (2, COUNT)).unbind()
    ends = (heights * widths).cumsum(0)
    sizes, pixels_of_all = (ends - heights * widths, heights, widths), int(ends[-1])
    corners, samples = ops.draw_crop_corners(heights, widths), torch.arange(COUNT)
    with fake_gpu():
        store = PixelBuffer(torch.empty(pixels_of_all, 3, dtype=torch.uint8, device=GPU), *sizes)
        crops = crop(store, samples, *corners)
    assert crops.device.type == "cuda"
    assert crops.shape == (COUNT, SIDE, SIDE, 3)


def flipped(images: Tensor, chosen: Tensor) -> Tensor:
    """Both ways."""
    return flip_vertically(flip_horizontally(images, chosen), chosen)


@pytest.mark.parametrize("change", [flipped, grayscale])
def test_flip_and_grayscale_are_on_the_gpu(change: Callable[[Tensor, Tensor], Tensor], fake_gpu: FakeGpu) -> None:
    chosen = torch.arange(0, COUNT, 2)
    with fake_gpu():
        images = pixels()
        assert change(images, chosen) is images


def test_perspective_and_rotation_are_on_the_gpu(fake_gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, corners, angles = torch.arange(COUNT), ops.draw_perspective_corners(COUNT), ops.draw_angles(COUNT)
    solved = geometry.coefficients(corners)  # on the CPU: the fake solver does not know the shape of its result
    monkeypatch.setattr(geometry, "coefficients", lambda _corners: solved)
    with fake_gpu():
        images = pixels()
        assert rotate(geometry.distort_perspective(images, chosen, corners), angles) is images


@pytest.mark.parametrize("config", [RunConfig(), RunConfig(precision="fp32")], ids=lambda config: config.precision)
def test_inputs_are_on_the_gpu_in_layout_and_type(config: RunConfig, fake_gpu: FakeGpu) -> None:
    with fake_gpu():
        inputs = normalization(statistics(config), GPU, input_type(config))(pixels())
    assert inputs.device.type == "cuda"
    assert inputs.dtype == input_type(config)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the size of the largest float32 tensor."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dtype == torch.float32:
            self.numbers = max(self.numbers, out.numel())
        return out


def test_large_batch_is_never_in_float32_as_a_whole(fake_gpu: FakeGpu) -> None:
    with fake_gpu():
        images = torch.empty(1024, SIDE, SIDE, 3, dtype=torch.uint8, device=GPU)
        normalize = normalization(statistics(RunConfig()), GPU, torch.bfloat16)
        with Largest() as largest:  # type: ignore[no-untyped-call]
            assert normalize(images).shape == (1024, 3, SIDE, SIDE)
    assert largest.numbers == CHUNK["cuda"] * SIDE * SIDE * 3


@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_loss_is_on_the_gpu(model: str, fake_gpu: FakeGpu) -> None:
    config = RunConfig(model=model, precision="fp32")
    with fake_gpu():
        with GPU:
            net = build(config)
        outputs = net(normalization(statistics(config), GPU, input_type(config))(pixels()))
        loss = torch.nn.functional.cross_entropy(outputs, to_device_async(torch.arange(COUNT), GPU))
    assert loss.device.type == "cuda"


def test_cached_features_are_on_the_gpu(fake_gpu: FakeGpu) -> None:
    def ones(index: Tensor) -> Tensor:
        return to_device_async(index, GPU)[:, None] * torch.ones(7, device=GPU)

    images: Any = range(COUNT)
    with fake_gpu():
        features = cached_features.__wrapped__(FeatureSource(images, 5, (), ones))  # fakes are not to be kept
        batch = features(torch.arange(5))
    assert batch.device.type == "cuda"
    assert batch.shape == (5, 7)
