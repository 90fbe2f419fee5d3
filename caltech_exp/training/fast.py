"""Engine `fast`: images on the device, bf16, cached features; the same numbers close to the hardware.

Seed for seed it draws the same initial weights, batches and, on a CPU, dropout masks as the reference engine: in
fp32 the two then differ by rounding alone. Random augmentations have the same distribution, drawn otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import optim
from torch.utils.data import DataLoader, Sampler

from caltech_exp.config import RunConfig
from caltech_exp.data.dataset import SIDE, Statistics, statistics
from caltech_exp.data.pack_format import Layout, PackContents, split_contents
from caltech_exp.data.packs import Pack, PackStore, open_pack
from caltech_exp.data.splits import DataSet, Sample
from caltech_exp.machine import keep_freed_memory
from caltech_exp.models.networks import (
    build_with_weights,
    can_cache_features,
    freeze_all_but,
    split_backbone,
    trained_parameters,
)
from caltech_exp.training.augment.ops import PixelBuffer
from caltech_exp.training.augment.pipeline import crops_at_random, distort, random_crop
from caltech_exp.training.device import arithmetic, input_type, send
from caltech_exp.training.engine import Batch, Batches, Parts
from caltech_exp.training.sampling import training_indices, training_sampler


@dataclass(frozen=True, eq=False)
class Images:
    """A split's images and labels.

    samples which they are
    packed  their pixels on the device, sizes on the CPU; on a CPU the pixels are the mapped file itself
    labels  int64 [images] on the device
    """

    pack: Pack
    samples: tuple[Sample, ...]
    packed: PixelBuffer
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: torch.Tensor, augment: str = "none") -> torch.Tensor:
        """The chosen images (int64 [n], on the CPU), augmented, as uint8 [n, 224, 224, 3] on the device."""
        # The pages of the batch before: they are read again from the page cache when they are needed.
        self.pack.release()
        crops = random_crop(self.packed, index) if crops_at_random(augment) else self._centers(index)
        return distort(augment, crops)

    def labels_of(self, index: torch.Tensor) -> torch.Tensor:
        """The labels of the chosen images (int64 [n], on the CPU), on the device."""
        return self.labels[send(index, self.labels.device)]

    def _centers(self, index: torch.Tensor) -> torch.Tensor:
        images = self.packed.pixels.view(len(self), SIDE * SIDE * 3)
        return images.index_select(0, send(index, images.device)).view(-1, SIDE, SIDE, 3)


def training_layout(augment: str) -> Layout:
    """Random crops need more than the middle of an image."""
    return "resized" if crops_at_random(augment) else "center"


@lru_cache(maxsize=8)
def resident_images(place: PackStore, contents: PackContents, device: torch.device) -> Images:
    """A split's images, verified and brought to the device once per process.

    Raises UserError if the pack cannot be made.
    """
    pack, samples = open_pack(place, contents), contents.samples
    labels = torch.tensor([sample.label for sample in samples])
    packed = PixelBuffer(pack.pixels.to(device), pack.offsets, pack.heights, pack.widths)
    if device.type != "cpu":
        pack.release()
    return Images(pack, samples, packed, send(labels, device))


CHUNK = {"cpu": 16, "cuda": 128}
"""Images converted at a time: on a CPU their float32 form (10 MB) stays in its cache; on a GPU it is 77 MB of its
memory, where that of a whole evaluation batch would be the largest thing there."""


def normalization(
    statistics: Statistics, device: torch.device, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    """ToTensor and Normalize of the reference engine for whole batches.

    The function returned takes uint8 [n, h, w, 3] to [n, 3, h, w] of `dtype` in channels_last layout. In bfloat16
    the values are those of float32, rounded as autocast would round them.
    """
    # Tensors, not plain numbers: CUDA divides by a number as it multiplies by its reciprocal, off in the last bit.
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


EVAL_BATCH = {"cpu": 256, "cuda": 1024}
"""Images per step of evaluation, by device; on a GPU at most TIMES those of a training step."""
TIMES = 4
"""Evaluation holds two neighbouring layers' outputs, not all: what just fits in training about fits then."""

Inputs = Callable[[torch.Tensor], torch.Tensor]
"""From the indices of images (int64 [n], on the CPU) to network inputs on the device."""


def prepare(config: RunConfig, data: DataSet, device: torch.device, place: PackStore) -> Parts:
    """Packed images on the device, the network in channels_last layout, a fused optimizer.

    Raises UserError if packs cannot be made, for damaged images or weights, or for a GPU without the precision.
    """
    keep_freed_memory()
    context = arithmetic(config, device)
    train, val, test = (
        resident_images(place, split_contents(data, split, config.max_images, layout, config.resize), device)
        for split, layout in (("train", training_layout(config.augment)), ("val", "center"), ("test", "center"))
    )
    net, initial = build_with_weights(config)
    net = net.to(device).to(memory_format=torch.channels_last)
    trained = list(trained_parameters(net, config))
    freeze_all_but(net, trained)
    optimizer = optim.SGD(
        trained, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
    normalize = normalization(statistics(config), device, input_type(config))

    def inputs(images: Images, augment: str = "none") -> Inputs:
        return lambda index: normalize(images.batch(index, augment))

    most = evaluation_batch(config, device)
    trunk, classifier = split_backbone(net, config)
    if not can_cache_features(trunk, config):
        train_inputs, val_inputs, test_inputs = inputs(train, config.augment), inputs(val), inputs(test)
    else:
        net = classifier
        trunk.eval()

        def features(images: Images) -> Inputs:
            pixels = inputs(images)
            return lambda index: trunk(pixels(index))

        with torch.no_grad(), context():
            train_inputs, val_inputs = (
                kept(features(images), len(images), most, device) for images in (train, val)
            )
        test_inputs = features(test)  # asked for once

    chosen = training_indices(train.samples, config)
    sampler = training_sampler([train.samples[index].label for index in chosen], config)
    return Parts(
        config.model,
        net,
        optimizer,
        context,
        train=batches(
            train, train_inputs, order(chosen, config.batch_size, sampler, drop_last=config.last_batch == "drop")
        ),
        val=batches(val, val_inputs, order(range(len(val)), most)),
        test=batches(test, test_inputs, order(range(len(test)), most)),
        initial=initial,
    )


def evaluation_batch(config: RunConfig, device: torch.device) -> int:
    """Images per step of evaluation."""
    most = EVAL_BATCH[device.type]
    return min(most, TIMES * config.batch_size) if device.type == "cuda" else most


def order(
    chosen: Sequence[int], batch_size: int, sampler: Sampler[int] | None = None, *, drop_last: bool = False
) -> DataLoader[int]:
    """The indices of every batch, of those chosen, in the sampler's order; the last incomplete one if not dropped.

    A DataLoader over numbers, because it draws from torch's generator what the reference engine's loaders draw.
    """
    return DataLoader(chosen, batch_size, sampler=sampler, drop_last=drop_last)  # type: ignore[arg-type]


def batches(images: Images, inputs: Inputs, indices: DataLoader[int]) -> Batches:
    """Inputs and labels, batch after batch, of the images that `indices` goes over."""

    def draw(skip: int) -> Iterator[Batch]:
        rest = iter(indices)
        for _ in range(skip):
            next(rest)
        return ((inputs(index), images.labels_of(index)) for index in rest)

    return Batches(len(indices.dataset), draw)  # type: ignore[arg-type]


def kept(inputs: Inputs, images: int, most: int, device: torch.device) -> Inputs:
    """The same inputs for all `images` images, computed here once, `most` at a time, and kept on the device."""
    steps = torch.split(torch.arange(images), most)
    everything = torch.cat([inputs(index) for index in steps])
    return lambda index: everything[send(index, device)]
