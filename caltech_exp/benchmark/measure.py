"""Measure an engine: an epoch, its phases beside the hardware's limit, its first losses."""

import contextlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from caltech_exp.benchmark.records import AugmentCosts, EpochCosts, FirstLosses, PhaseCosts, Request
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.study.results import Epoch
from caltech_exp.training import reference
from caltech_exp.training.checkpoint import StateDict
from caltech_exp.training.device import input_type, make_deterministic
from caltech_exp.training.engine import Batch, TrainingSetup
from caltech_exp.training.loop import build_setup, peak_memory, set_seed, train, train_step

GEMM_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}  # the best one differs between machines
GEMM_PIXELS = 8  # height and width of the images whose 1 x 1 convolution is the same product
STEPS = 20
ROUNDS = 6
DECODED_IMAGES = 256


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, with everything that it queues on the device."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def fastest(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The shortest of `rounds` times after a warm-up: other load on the machine only adds to it."""
    work()
    return min(timed(work, device) for _ in range(rounds))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the fastest product of two square matrices (2 n^3 operations).

    torch.mm and a 1 x 1 convolution are both tried. torch uses different libraries for them, and which one is
    faster depends on the processor.
    """
    return max(_product_rate(n, device, dtype) for n in GEMM_SIZES[device.type])


def _product_rate(n: int, device: torch.device, dtype: torch.dtype) -> float:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    images = a.view(-1, GEMM_PIXELS, GEMM_PIXELS, n).permute(0, 3, 1, 2)  # channels_last
    weights = b.view(n, n, 1, 1)
    products = (partial(torch.mm, a, b, out=torch.empty_like(a)), partial(torch.conv2d, images, weights))
    return 2 * n**3 / min(fastest(product, device, rounds=2) for product in products)


class Convolution(NamedTuple):
    """A pass of a convolution: what its time depends on.

    kind     forward, data or weights: the outputs, the gradient of the inputs, or that of the weights
    inputs, weights, outputs  their shapes
    options  stride, padding, dilation, transposed, output padding and groups, as in aten::convolution
    """

    kind: str
    inputs: torch.Size
    weights: torch.Size
    outputs: torch.Size
    options: tuple[Any, ...]

    @property
    def flops(self) -> int:
        return 2 * self.outputs.numel() * self.weights[1:].numel()

    def seconds(self, device: torch.device, dtype: torch.dtype) -> float:
        """The time that it takes alone, in channels_last layout."""
        images = (
            # One image for all: random numbers take longer than the convolution.
            torch.randn(1, *shape[1:], device=device).to(dtype).expand(shape)
            for shape in (self.inputs, self.weights, self.outputs)
        )
        inputs, weights, outputs = (image.contiguous(memory_format=torch.channels_last) for image in images)
        mask = [self.kind == "data", self.kind == "weights", False]
        if self.kind == "forward":
            work = partial(torch.convolution, inputs, weights, None, *self.options)
        else:
            backward = torch.ops.aten.convolution_backward
            work = partial(backward, outputs, inputs, weights, None, *self.options, mask)
        return timed(work, device)


def count_flops(work: Callable[[], object]) -> tuple[int, Counter[Convolution]]:
    """The operations of all products that `work` computes, and its convolutions with their numbers."""
    calls: Counter[Convolution] = Counter()

    def count(kinds: Iterable[str], shapes: tuple[Any, Any, Any], options: Iterable[Any]) -> int:
        values = tuple(tuple(value) if isinstance(value, list) else value for value in options)
        convolutions = [Convolution(kind, *shapes, values) for kind in kinds]
        calls.update(convolutions)
        return sum(convolution.flops for convolution in convolutions)

    def forward(inputs: Any, weights: Any, _bias: Any, *options: Any, out_shape: Any) -> int:
        return count(["forward"], (inputs, weights, out_shape), options)

    def backward(gradient: Any, inputs: Any, weights: Any, _bias: Any, *options: Any, out_shape: Any) -> int:  # noqa: ARG001
        kinds = itertools.compress(("data", "weights"), options[-1])
        return count(kinds, (inputs, weights, gradient), options[:-1])

    aten = torch.ops.aten
    formulas = {aten.convolution: forward, aten.convolution_backward: backward}
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        work()
    return int(counter.get_total_flops()), calls


def least_seconds(total_flops: int, calls: Counter[Convolution], rates: Counter[str]) -> float:
    """The time of a network whose every layer runs at the fastest rate of its kind, and that does nothing else.

    total_flops  of convolutions and matrix products together
    rates        operations per second, of a matrix product ("gemm") and of each pass of a convolution
    """
    flops = Counter({"gemm": total_flops})
    for convolution, count in calls.items():
        flops.update({convolution.kind: count * convolution.flops, "gemm": -count * convolution.flops})
    return sum(flops[kind] / rates[kind] for kind in flops)


def prepare(request: Request, device: torch.device) -> tuple[DataSet, TrainingSetup]:
    """The data set, and the setup of a run with seed 0 as `train` builds it."""
    set_seed(0)
    make_deterministic(request.config, device)
    data = read_data_set(Path(request.data), request.split)
    return data, build_setup(request.config, data, device, PackStore(Path(request.packs)))


def first_losses(request: Request, device: torch.device) -> FirstLosses:
    _, setup = prepare(request, device)
    setup.start_training()
    losses = (train_step(setup, batch).item() for batch in itertools.islice(setup.train.forever(), STEPS))
    return FirstLosses(losses=tuple(itertools.takewhile(math.isfinite, losses)), steps=STEPS)


def phase_costs(request: Request, device: torch.device) -> PhaseCosts:
    data, setup = prepare(request, device)
    batch = next(setup.train.epoch())
    images = len(batch[1])
    setup.start_training()
    step_flops, step_calls = count_flops(lambda: train_step(setup, batch))  # also the warm-up
    eval_flops, eval_calls = count_flops(lambda: _evaluate(setup, batch))
    dtype = input_type(request.config)
    rates: Counter[str] = Counter()  # of which | keeps the highest
    steps, evaluations = [], []
    for _ in range(ROUNDS):  # in turns, so that all meet the machine in the same states
        rates |= Counter(gemm=int(gemm_rate(device, dtype)))
        for call in step_calls:
            rates |= Counter({call.kind: int(call.flops / call.seconds(device, dtype))})
        setup.start_training()
        steps.append(timed(lambda: train_step(setup, batch), device))
        evaluations.append(timed(lambda: _evaluate(setup, batch), device))
    return PhaseCosts(
        input_images_per_second=_input_rate(request, data, device, setup),
        step_images_per_second=images / min(steps),
        eval_images_per_second=images / min(evaluations),
        saved_bytes_per_image=_saved_bytes(setup, batch) / images,
        step_flops=step_flops,
        step_flops_per_second=step_flops / min(steps),
        gemm_flops_per_second=rates["gemm"],
        convolution_flops_per_second={kind: rates[kind] for kind in rates if kind != "gemm"},
        step_limit_images_per_second=images / least_seconds(step_flops, step_calls, rates),
        eval_limit_images_per_second=images / least_seconds(eval_flops, eval_calls, rates),
    )


def augment_costs(request: Request, device: torch.device) -> AugmentCosts:
    data, setup = prepare(request, device)
    return AugmentCosts(input_images_per_second=_input_rate(request, data, device, setup))


@torch.no_grad()
def _evaluate(setup: TrainingSetup, batch: Batch) -> None:
    setup.net.eval()
    with setup.autocast():
        setup.net(batch[0])


def _saved_bytes(setup: TrainingSetup, batch: Batch) -> int:
    """Bytes of the activations that a forward pass keeps: the tensors whose first dimension is the batch's."""
    sizes: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() and len(tensor) == len(batch[1]):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    setup.start_training()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), setup.autocast():
        outputs = setup.net(batch[0])  # keeps the saved tensors alive, so that no address is used twice
    del outputs
    return sum(sizes.values())


def _input_rate(request: Request, data: DataSet, device: torch.device, setup: TrainingSetup) -> float:
    """Images per second from packs to inputs on the device, or from files by one core, as one loader worker."""
    config = request.config
    if config.engine == "fast":
        batches = setup.train.forever()
        return config.batch_size / fastest(lambda: next(batches), device, ROUNDS)
    images = min(DECODED_IMAGES, len(data.train))
    loader, _, _ = reference.loaders(config.but(workers=0, batch_size=images, max_images=images), data, device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rate = images / fastest(lambda: next(loader.epoch()), device, rounds=2)
    torch.set_num_threads(threads)
    return rate


class _LastEpochError(Exception):
    """Ends training before the evaluation of the test set, which is no part of an epoch."""


def epoch_costs(request: Request, device: torch.device, started: float) -> EpochCosts:
    """Train config.epochs epochs; `started` is the time at which the process was started."""
    times: list[float] = []
    rates: list[float] = []
    first_step: list[float] = []

    def on_epoch(epochs: Sequence[Epoch], images_per_second: float | None) -> None:
        times.append(time.time())
        if images_per_second is not None:
            rates.append(images_per_second)
        if len(epochs) == request.config.epochs:
            raise _LastEpochError

    def on_step(_state_dict: Callable[[], StateDict]) -> None:
        if not first_step:
            synchronize(device)
            first_step.append(time.time())

    data, packs = read_data_set(Path(request.data), request.split), PackStore(Path(request.packs))
    with contextlib.suppress(_LastEpochError):
        train(request.config, 0, data, device, packs, on_epoch=on_epoch, on_step=on_step)
    return EpochCosts(
        epoch_seconds=min(end - start for start, end in itertools.pairwise(times)),
        images_per_second=rate_after_first(rates),
        start_seconds=first_step[0] - started,
        peak_memory_bytes=peak_memory(device),
        times=tuple(times),
    )


def rate_after_first(rates: Sequence[float]) -> float:
    """Images per second after the first epoch, or of the first if there is no other.

    rates  of the first epoch, of the first two together, and so on; all epochs have the same number of images
    """
    epochs = len(rates)
    return rates[0] if epochs == 1 else (epochs - 1) / (epochs / rates[-1] - 1 / rates[0])
