"""The parts of an epoch, each measured alone: input, training step, evaluation, and the hardware's limit."""

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from caltech_exp import reference
from caltech_exp.benchmark.clocks import fastest, seconds
from caltech_exp.benchmark.gemm import gemm_rate
from caltech_exp.benchmark.records import AugmentCosts, Measurement, PhaseCosts
from caltech_exp.config import RunConfig
from caltech_exp.engines import prepare
from caltech_exp.hardware import input_type, make_deterministic
from caltech_exp.pack_index import split_contents
from caltech_exp.packing import write_pack
from caltech_exp.packs import PackPlace
from caltech_exp.parts import Batch, Parts
from caltech_exp.splits import DataSet, read_data_set
from caltech_exp.train import set_seed, train_step

ROUNDS = 6
SOME_IMAGES = 256
"""Images that are decoded to time decoding."""


def phase_costs(measurement: Measurement, device: torch.device) -> PhaseCosts:
    """Each part of an epoch of `config`. Raises UserError as preparing the engine does."""
    config = measurement.config
    data, parts = prepared(measurement, device)
    batch = next(parts.train.draw(0))
    parts.net.train()
    step_flops = _count_flops(parts, batch)  # a first step, which does not count
    steps, peaks = [], []
    for _ in range(ROUNDS):  # in turns, so that both sides see the machine in the same states
        peaks.append(gemm_rate(device, input_type(config)))
        steps.append(seconds(lambda: train_step(parts, batch), device))
    step = min(steps)
    return PhaseCosts(
        input_images_per_second=_input_rate(config, data, device, parts),
        pack_images_per_second=_pack_rate(data) if config.engine == "fast" else None,
        step_images_per_second=len(batch[1]) / step,
        eval_images_per_second=len(batch[1]) / fastest(lambda: _evaluate(parts, batch), device, ROUNDS),
        saved_bytes_per_image=_saved_bytes(parts, batch) / len(batch[1]),
        step_flops=step_flops,
        step_flops_per_second=step_flops / step,
        gemm_flops_per_second=max(peaks),
    )


def augment_costs(measurement: Measurement, device: torch.device) -> AugmentCosts:
    """Training inputs of `config`, with its random transforms."""
    data, parts = prepared(measurement, device)
    return AugmentCosts(input_images_per_second=_input_rate(measurement.config, data, device, parts))


def prepared(measurement: Measurement, device: torch.device) -> tuple[DataSet, Parts]:
    """The data set, and the parts of `config` with seed 0 as `train` prepares them."""
    set_seed(0)
    make_deterministic(measurement.config, device)
    data = read_data_set(Path(measurement.data))
    return data, prepare(measurement.config, data, device, PackPlace(Path(measurement.packs)))


@torch.no_grad()
def _evaluate(parts: Parts, batch: Batch) -> None:
    parts.net.eval()
    with parts.arithmetic():
        parts.net(batch[0])


def _count_flops(parts: Parts, batch: Batch) -> int:
    with FlopCounterMode(display=False) as counter:
        train_step(parts, batch)
    return int(counter.get_total_flops())


def _saved_bytes(parts: Parts, batch: Batch) -> int:
    """Bytes of the activations that a forward pass keeps: those whose first dimension is the batch's."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() and len(tensor) == len(batch[1]):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parts.net.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), parts.arithmetic():
        outputs = parts.net(batch[0])  # holds what was saved, so that no address comes twice
    del outputs
    return sum(kept.values())


def _input_rate(config: RunConfig, data: DataSet, device: torch.device, parts: Parts) -> float:
    """Images per second from packs to inputs on the device, or from files by one core, as one loader worker."""
    if config.engine == "fast":
        batches = parts.train.forever()
        return config.batch_size / fastest(lambda: next(batches), device, ROUNDS)
    images = min(SOME_IMAGES, len(data.train))
    loader, _, _ = reference.loaders(config.but(workers=0, batch_size=images, max_images=images), data, device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rate = images / fastest(lambda: next(loader.draw(0)), device, rounds=2)
    torch.set_num_threads(threads)
    return rate


def _pack_rate(data: DataSet) -> float:
    """Images decoded, resized and written per second, by all cores."""
    contents = split_contents(data, "train", SOME_IMAGES, "center")
    with tempfile.TemporaryDirectory() as folder:
        work = partial(write_pack, Path(folder), contents.name, contents)
        return len(contents.samples) / fastest(work, torch.device("cpu"), rounds=2)
