"""The fast engine: images on the device, bf16, cached features.

Seed for seed it draws the same initial weights, batches and, on a CPU, dropout masks as the reference engine: in
fp32 the two differ only by rounding. Random augmentations have the same distribution but are drawn differently.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import SIDE, Statistics, statistics
from caltech_exp.data.pack_format import Layout, PackContents, split_contents
from caltech_exp.data.packs import Pack, PackStore, open_pack
from caltech_exp.data.splits import DataSet, Sample
from caltech_exp.machine import keep_freed_memory
from caltech_exp.models.networks import (
    NETWORKS,
    build_with_weights,
    can_cache_features,
    fixed_batchnorms,
    freeze_all_but,
    split_backbone,
    trained_parameters,
)
from caltech_exp.training.augment.ops import PixelBuffer
from caltech_exp.training.augment.pipeline import crops_at_random, distort, random_crop
from caltech_exp.training.device import autocast, input_type, to_device_async
from caltech_exp.training.engine import Batches, TrainingSetup, make_optimizer, training_indices, training_sampler

CHUNK = {"cpu": 16, "cuda": 128}
"""Images normalized at a time. Their float32 form fits a CPU's cache (10 MB). On a GPU it takes 77 MB, where that
of a whole evaluation batch would be the largest tensor."""
EVAL_BATCH = {"cpu": 256, "cuda": 1024}
EVAL_TO_TRAIN = 4
"""The most images of an evaluation batch on a GPU, in training batches. Evaluation holds the outputs of two
neighbouring layers, not of all: what just fits in training about fits here."""

Inputs = Callable[[torch.Tensor], torch.Tensor]
"""From image indices (int64 [n], on the CPU) to network inputs on the device."""


def build_setup(config: RunConfig, data: DataSet, device: torch.device, packs: PackStore) -> TrainingSetup:
    """Prepare packed images on the device, the network in channels_last layout and a fused optimizer."""
    keep_freed_memory()
    precision = autocast(config, device)
    train, val, test = (
        device_images(packs, split_contents(data, split, config.max_images, layout, config.resize), device)
        for split, layout in (("train", training_layout(config.augment)), ("val", "center"), ("test", "center"))
    )
    net, initial = build_with_weights(config)
    if device.type == "cpu" and config.model in NETWORKS:
        pool_before_relu(net)
    net = net.to(device).to(memory_format=torch.channels_last)
    trained = list(trained_parameters(net, config))
    freeze_all_but(net, trained)
    optimizer = make_optimizer(trained, config, fused=True)
    normalize = normalization(statistics(config, data), device, input_type(config))

    def inputs(images: DeviceImages, augment: str = "none") -> Inputs:
        return lambda index: normalize(images.batch(index, augment))

    eval_batch = evaluation_batch(config, device)
    whole_net, (backbone, classifier) = net, split_backbone(net, config)
    train_inputs, val_inputs, test_inputs = inputs(train, config.augment), inputs(val), inputs(test)
    if can_cache_features(backbone, config):
        net = classifier
        backbone.eval()
        # All that the features depend on, besides the images: the next run of the task may share them.
        layers = (state_hash(backbone), config.precision, statistics(config, data), torch.get_num_threads())
        with torch.no_grad(), precision():
            train_inputs, val_inputs = (
                cached_features(
                    FeatureSource(images, eval_batch, layers, backbone_features(backbone, inputs(images)))
                )
                for images in (train, val)
            )
        test_inputs = backbone_features(backbone, inputs(test))  # used once

    indices = training_indices(train.samples, config)
    sampler = training_sampler([train.samples[index].label for index in indices], config)
    order = index_loader(indices, config.batch_size, sampler, drop_last=config.last_batch == "drop")
    return TrainingSetup(
        config,
        net,
        optimizer,
        precision,
        train=make_batches(train, train_inputs, order),
        val=make_batches(val, val_inputs, index_loader(range(len(val)), eval_batch)),
        test=make_batches(test, test_inputs, index_loader(range(len(test)), eval_batch)),
        initial=initial,
        whole_net=whole_net,
        fixed=fixed_batchnorms(whole_net, config),
    )


def pool_before_relu(net: nn.Module) -> None:
    """Put each max pool before the ReLU that it follows: the same numbers, and the ReLU has a quarter of the work.

    The net is one of NETWORKS, which apply their children in order.
    """
    for parent in list(net.modules()):
        for (relu, first), (pool, second) in pairwise(list(parent.named_children())):
            if isinstance(first, nn.ReLU) and isinstance(second, nn.MaxPool2d):
                setattr(parent, relu, second)
                setattr(parent, pool, first)


@dataclass(frozen=True, eq=False)
class DeviceImages:
    """The images and labels of a split, on the device; on a CPU the pixels are the mapped file itself.

    labels  int64 [images]
    """

    pack: Pack
    samples: tuple[Sample, ...]
    buffer: PixelBuffer
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: torch.Tensor, augment: str = "none") -> torch.Tensor:
        """The images at `index` (int64 [n], on the CPU), augmented: uint8 [n, 224, 224, 3] on the device."""
        self.pack.release()  # the page cache still has what the batch before read
        crops = random_crop(self.buffer, index) if crops_at_random(augment) else self._centers(index)
        return distort(augment, crops)

    def labels_of(self, index: torch.Tensor) -> torch.Tensor:
        return self.labels[to_device_async(index, self.labels.device)]

    def _centers(self, index: torch.Tensor) -> torch.Tensor:
        images = self.buffer.pixels.view(len(self), SIDE * SIDE * 3)
        return images.index_select(0, to_device_async(index, images.device)).view(-1, SIDE, SIDE, 3)


def training_layout(augment: str) -> Layout:
    """Random crops need the whole resized image, not only its center."""
    return "resized" if crops_at_random(augment) else "center"


@lru_cache(maxsize=8)
def device_images(packs: PackStore, contents: PackContents, device: torch.device) -> DeviceImages:
    """Open the pack of a split and copy it to the device, once per process."""
    pack, samples = open_pack(packs, contents), contents.samples
    labels = torch.tensor([sample.label for sample in samples])
    buffer = PixelBuffer(pack.pixels.to(device), pack.offsets, pack.heights, pack.widths)
    if device.type != "cpu":
        pack.release()
    return DeviceImages(pack, samples, buffer, to_device_async(labels, device))


def normalization(
    statistics: Statistics, device: torch.device, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """ToTensor and Normalize of the reference engine for whole batches.

    The function that is returned maps uint8 [n, h, w, 3] to [n, 3, h, w] of `dtype` in channels_last layout.
    bfloat16 values are the float32 values, rounded as autocast would.
    """
    # Tensors, not numbers: CUDA divides by a number by multiplying with its reciprocal, off in the last bit.
    scale = torch.tensor(255.0, device=device)
    mean, std = (torch.tensor(values, device=device) for values in statistics)

    def normalize(images: torch.Tensor) -> torch.Tensor:
        n, height, width, channels = images.shape
        rows = images.reshape(n, height, width * channels)
        out = torch.empty(rows.shape, dtype=dtype, device=device)
        row_mean, row_std = mean.repeat(width), std.repeat(width)
        chunk = CHUNK[device.type]
        for start in range(0, n, chunk):
            part = slice(start, start + chunk)
            out[part] = rows[part].to(torch.float32).div_(scale).sub_(row_mean).div_(row_std)
        return out.view(images.shape).permute(0, 3, 1, 2)

    return normalize


def backbone_features(backbone: nn.Module, inputs: Inputs) -> Inputs:
    return lambda index: backbone(inputs(index))


def state_hash(net: nn.Module) -> str:
    """SHA-256 of all parameters and buffers."""
    digest = hashlib.sha256()
    for tensor in net.state_dict().values():
        digest.update(tensor.cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class FeatureSource:
    """Images and the frozen layers that they go through, in batches; `layers` says what `inputs` depends on."""

    images: DeviceImages
    batch_size: int
    layers: tuple[object, ...]
    inputs: Inputs = field(compare=False)


@lru_cache(maxsize=2)
def cached_features(source: FeatureSource) -> Inputs:
    """Compute the inputs of all images once and keep them on the device, also for the task's next run."""
    indices = torch.split(torch.arange(len(source.images)), source.batch_size)
    cached = torch.cat([source.inputs(index) for index in indices])
    return lambda index: cached[to_device_async(index, cached.device)]


def evaluation_batch(config: RunConfig, device: torch.device) -> int:
    """Images per evaluation step."""
    most = EVAL_BATCH[device.type]
    return min(most, EVAL_TO_TRAIN * config.batch_size) if device.type == "cuda" else most


def index_loader(
    indices: Sequence[int], batch_size: int, sampler: Sampler[int] | None = None, *, drop_last: bool = False
) -> DataLoader[int]:
    """Load indices in batches: a DataLoader draws the same random numbers as that of the reference engine."""
    return DataLoader(indices, batch_size, sampler=sampler, drop_last=drop_last)  # type: ignore[arg-type]


def make_batches(images: DeviceImages, inputs: Inputs, indices: DataLoader[int]) -> Batches:
    return Batches(indices, lambda index: (inputs(index), images.labels_of(index)))
