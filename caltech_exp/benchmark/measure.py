"""Measure an engine: an epoch, its phases, its losses, and the fastest matrix product."""

import contextlib
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from caltech_exp.benchmark.records import AugmentCosts, EpochCosts, FirstLosses, Measurement, PhaseCosts
from caltech_exp.config import RunConfig
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import PackStore, write_pack
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.study.results import Epoch
from caltech_exp.training import reference
from caltech_exp.training.device import input_type, make_deterministic
from caltech_exp.training.engine import Batch, TrainingSetup
from caltech_exp.training.loop import build_setup, peak_memory, set_seed, train, train_step


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, everything it queued on the device included."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def fastest(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The shortest of `rounds` times, after one that does not count: other load on the machine only adds."""
    work()
    return min(seconds(work, device) for _ in range(rounds))


def wait(device: torch.device) -> None:
    """Until the device has done all that was queued on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
"""Rows and columns; the best size differs from machine to machine."""
POSITIONS = 8
"""Height and width of the images whose 1 x 1 convolution is the same product."""


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of the fastest product of two square matrices (2 n^3 operations).

    As torch.mm and as a 1 x 1 convolution: torch hands the two to different libraries, and which is faster depends
    on the processor.
    """
    return max(_rate(n, device, dtype) for n in SIZES[device.type])


def _rate(n: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    images = a.view(-1, POSITIONS, POSITIONS, n).permute(0, 3, 1, 2)  # channels_last
    weights = b.view(n, n, 1, 1)
    products = (partial(torch.mm, a, b, out=torch.empty_like(a)), partial(torch.conv2d, images, weights))
    return 2 * n**3 / min(fastest(product, device, rounds=2) for product in products)


STEPS = 20


def first_losses(measurement: Measurement, device: torch.device) -> FirstLosses:
    """Train the first STEPS steps of `config` with seed 0. Raises UserError as preparing the engine does."""
    _, setup = prepared(measurement, device)
    setup.net.train()
    losses = (train_step(setup, batch).item() for batch in islice(setup.train.forever(), STEPS))
    return FirstLosses(losses=tuple(takewhile(math.isfinite, losses)), steps=STEPS)


ROUNDS = 6
SOME_IMAGES = 256
"""Images that are decoded to time decoding."""


def phase_costs(measurement: Measurement, device: torch.device) -> PhaseCosts:
    """Each part of an epoch of `config`. Raises UserError as preparing the engine does."""
    config = measurement.config
    data, setup = prepared(measurement, device)
    batch = next(setup.train.epoch(0))
    setup.net.train()
    step_flops = _count_flops(setup, batch)  # a first step, which does not count
    steps, peaks = [], []
    for _ in range(ROUNDS):  # in turns, so that both sides see the machine in the same states
        peaks.append(gemm_rate(device, input_type(config)))
        steps.append(seconds(lambda: train_step(setup, batch), device))
    step = min(steps)
    return PhaseCosts(
        input_images_per_second=_input_rate(config, data, device, setup),
        pack_images_per_second=_pack_rate(data) if config.engine == "fast" else None,
        step_images_per_second=len(batch[1]) / step,
        eval_images_per_second=len(batch[1]) / fastest(lambda: _evaluate(setup, batch), device, ROUNDS),
        saved_bytes_per_image=_saved_bytes(setup, batch) / len(batch[1]),
        step_flops=step_flops,
        step_flops_per_second=step_flops / step,
        gemm_flops_per_second=max(peaks),
    )


def augment_costs(measurement: Measurement, device: torch.device) -> AugmentCosts:
    """Training inputs of `config`, with its random transforms."""
    data, setup = prepared(measurement, device)
    return AugmentCosts(input_images_per_second=_input_rate(measurement.config, data, device, setup))


def prepared(measurement: Measurement, device: torch.device) -> tuple[DataSet, TrainingSetup]:
    """The data set, and the setup of `config` with seed 0 as `train` prepares them."""
    set_seed(0)
    make_deterministic(measurement.config, device)
    data = read_data_set(Path(measurement.data))
    return data, build_setup(measurement.config, data, device, PackStore(Path(measurement.packs)))


@torch.no_grad()
def _evaluate(setup: TrainingSetup, batch: Batch) -> None:
    setup.net.eval()
    with setup.autocast():
        setup.net(batch[0])


def _count_flops(setup: TrainingSetup, batch: Batch) -> int:
    with FlopCounterMode(display=False) as counter:
        train_step(setup, batch)
    return int(counter.get_total_flops())


def _saved_bytes(setup: TrainingSetup, batch: Batch) -> int:
    """Bytes of the activations that a forward pass keeps: those whose first dimension is the batch's."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() and len(tensor) == len(batch[1]):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    setup.net.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), setup.autocast():
        outputs = setup.net(batch[0])  # holds what was saved, so that no address comes twice
    del outputs
    return sum(kept.values())


def _input_rate(config: RunConfig, data: DataSet, device: torch.device, setup: TrainingSetup) -> float:
    """Images per second from packs to inputs on the device, or from files by one core, as one loader worker."""
    if config.engine == "fast":
        batches = setup.train.forever()
        return config.batch_size / fastest(lambda: next(batches), device, ROUNDS)
    images = min(SOME_IMAGES, len(data.train))
    loader, _, _ = reference.loaders(config.but(workers=0, batch_size=images, max_images=images), data, device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rate = images / fastest(lambda: next(loader.epoch(0)), device, rounds=2)
    torch.set_num_threads(threads)
    return rate


def _pack_rate(data: DataSet) -> float:
    """Images decoded, resized and written per second, by all cores."""
    contents = split_contents(data, "train", SOME_IMAGES, "center")
    with tempfile.TemporaryDirectory() as folder:
        work = partial(write_pack, Path(folder), contents.name, contents)
        return len(contents.samples) / fastest(work, torch.device("cpu"), rounds=2)


class _Enough(Exception):  # noqa: N818 - no error: the test set at the end is not part of an epoch
    pass


def epoch_costs(measurement: Measurement, device: torch.device) -> EpochCosts:
    """Train `config.epochs` epochs and stop. Raises UserError as `train` does."""
    times: list[float] = []
    rates: list[float] = []
    first_step: list[float] = []

    def note(epochs: Sequence[Epoch], rate: float | None) -> None:
        times.append(time.time())
        if rate is not None:
            rates.append(rate)
        if len(epochs) == measurement.config.epochs:
            raise _Enough

    def on_step(_state_dict: Callable[[], dict[str, Any]]) -> None:
        if not first_step:
            wait(device)
            first_step.append(time.time())

    data = read_data_set(Path(measurement.data))
    with contextlib.suppress(_Enough):
        train(
            measurement.config, 0, data, device, PackStore(Path(measurement.packs)), on_epoch=note, on_step=on_step
        )
    return EpochCosts(
        epoch_seconds=min(end - start for start, end in itertools.pairwise(times)),
        images_per_second=rate_after_first(rates),
        start_seconds=first_step[0] - measurement.started,
        peak_memory_bytes=peak_memory(device),
    )


def rate_after_first(rates: Sequence[float]) -> float:
    """Images per second of the epochs after the first; of the first where there is no other.

    rates  of the first epoch, of the first two together, and so on
    """
    if len(rates) == 1:
        return rates[0]
    epochs = len(rates)
    return (epochs - 1) / (epochs / rates[-1] - 1 / rates[0])  # all epochs have as many images
