"""Engine `fast`: what the reference computes, from images decoded once, close to the hardware's limit.

Seed for seed it draws the same initial weights, batches and, on a CPU, dropout masks as the reference engine: in
fp32 the two then differ by rounding alone. Random augmentations have the same distribution, drawn otherwise.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import optim
from torch.utils.data import DataLoader, Sampler

from caltech_exp.allocator import keep_freed_memory
from caltech_exp.compiling import compiled
from caltech_exp.config import RunConfig
from caltech_exp.frozen import features_are_fixed, freeze_all_but, trunk_and_classifier
from caltech_exp.hardware import arithmetic, input_type, send
from caltech_exp.models import build_with_weights, trained_parameters
from caltech_exp.pack_index import split_contents
from caltech_exp.packs import PackPlace
from caltech_exp.parts import Batch, Batches, Parts
from caltech_exp.pixels import normalization
from caltech_exp.resident import Images, resident_images, training_layout
from caltech_exp.sampling import training_indices, training_sampler
from caltech_exp.splits import DataSet
from caltech_exp.transforms import statistics

EVAL_BATCH = {"cpu": 256, "cuda": 1024}
"""Images per step of evaluation, by device; on a GPU at most TIMES those of a training step."""
TIMES = 4
"""Evaluation holds two neighbouring layers' outputs, not all: what just fits in training about fits then."""

Inputs = Callable[[torch.Tensor], torch.Tensor]
"""From the indices of images (int64 [n], on the CPU) to network inputs on the device."""


def prepare(config: RunConfig, data: DataSet, device: torch.device, place: PackPlace) -> Parts:
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
    trunk, classifier = trunk_and_classifier(net, config)
    if not features_are_fixed(trunk, config):
        forward = compiled(net, config, data, device, place.shared)
        train_inputs, val_inputs, test_inputs = inputs(train, config.augment), inputs(val), inputs(test)
    else:
        net = forward = classifier
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
        forward,
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
