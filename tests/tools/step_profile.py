"""Where the time of a training step goes, and what changes of it would save: `python -m tests.tools.step_profile`.

    python -m tests.tools.step_profile data=DIR model=alexnet device=cuda out=FILE

It prints the share of each kind of operation in the step, and the share of the fastest matrix product that it
reaches. Then it times the step as it is and in variants (VARIANTS), in turns, and says by how much their first
losses differ. A variant that fails is named with its error. Training itself uses none of them.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from tabulate import tabulate
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from caltech_exp.benchmark.measure import gemm_rate, prepare, synchronize, timed
from caltech_exp.benchmark.records import Request
from caltech_exp.cli import Options, UserError, one_line, read_options, run_command_line
from caltech_exp.config import RunConfig
from caltech_exp.data.splits import evenly, read_data_set
from caltech_exp.files import user_path, write_atomically
from caltech_exp.profiles.paths import data_folder
from caltech_exp.profiles.profile import LocalProfile
from caltech_exp.provenance import library_versions
from caltech_exp.records import StrictRecord
from caltech_exp.training.device import choose_device, describe_device, input_type
from caltech_exp.training.engine import Batch, TrainingSetup
from caltech_exp.training.loop import train_step
from caltech_exp.usage import usage

KINDS = {
    "convolutions, backward": ("convolution_backward",),
    "convolutions, forward": ("convolution", "conv2d"),
    "matrix products": ("mm", "mkldnn_linear", "linear_backward"),
    "batch normalization": ("batch_norm",),
    "pooling": ("pool",),
    "ReLU and dropout": ("relu", "threshold", "dropout", "bernoulli", "mul", "clamp"),
    "optimizer": ("sgd", "adam", "foreach"),
    "copies, casts, layouts": ("copy", "contiguous", "clone", "_to", "cat"),
}
"""Kind of operation -> what the names of its operators contain; the first that fits counts."""
PRODUCTS = ("convolutions, backward", "convolutions, forward", "matrix products")
STEPS = 10
WARM_UP = 3


class ProfileOptions(Options):
    data: str = Field("", description="the Caltech-101 folder; default: $CALTECH101_ROOT")
    packs: str = Field("build/step-profile/packs", description="folder of decoded images")
    model: Literal["alexnet", "resnet18"] = Field("alexnet", description="the network")
    batch_size: int = Field(256, ge=1, description="images of a step")
    max_images: int = Field(0, ge=0, description="images used of each split; 0 for all")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="arithmetic")
    device: Literal["cuda", "cpu"] = Field("cpu", description="where to compute")
    rounds: int = Field(3, ge=1, description="how often each variant is timed")
    out: str = Field("", description="JSON file for the figures")


USAGE = usage(__doc__.partition("\n\n")[2].strip(), ProfileOptions)


class StepPart(StrictRecord):
    """A kind of operation in a step; `flops` are those that torch counts, 0 for others than products."""

    seconds: float
    flops: int


class StepProfile(StrictRecord):
    """The figures of one network.

    variants    seconds of a step in each round
    failures    of variants, in a line
    difference  of a variant's first loss from the step's as it is, relative
    evaluation  images per second of a forward pass, by the size of its batch
    """

    model: str
    device: str
    batch_size: int
    precision: str
    libraries: dict[str, str]
    flops_per_second: float
    parts: dict[str, StepPart]
    variants: dict[str, tuple[float, ...]]
    failures: dict[str, str]
    difference: dict[str, float]
    evaluation: dict[int, float]


Step = Callable[[], torch.Tensor]


def as_it_is(setup: TrainingSetup, batch: Batch) -> Step:
    return lambda: train_step(setup, batch)


def padded(channels: int) -> Callable[[TrainingSetup, Batch], Step]:
    """The first convolution and its inputs padded with zeros to so many channels."""

    def build(setup: TrainingSetup, batch: Batch) -> Step:
        first = next(module for module in setup.net.modules() if isinstance(module, nn.Conv2d))
        missing = channels - first.in_channels
        first.weight.data = _pad(first.weight.data, missing)
        first.in_channels = channels
        inputs = _pad(batch[0], missing)
        return lambda: train_step(setup, (inputs, batch[1]))

    return build


def _pad(tensor: torch.Tensor, channels: int) -> torch.Tensor:
    wider = nn.functional.pad(tensor, (0, 0, 0, 0, 0, channels))
    return wider.contiguous(memory_format=torch.channels_last)


def as_graph(setup: TrainingSetup, batch: Batch) -> Step:
    """The whole step as one CUDA graph."""
    if batch[0].device.type != "cuda":
        raise UserError("CUDA graphs need a GPU")
    for _ in range(WARM_UP):  # outside the graph: cuDNN chooses, the optimizer makes its state
        train_step(setup, batch)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = train_step(setup, batch)

    def replay() -> torch.Tensor:
        graph.replay()
        return loss

    return replay


VARIANTS: dict[str, Callable[[TrainingSetup, Batch], Step]] = {
    "as it is": as_it_is,
    "first convolution with 4 channels": padded(4),
    "first convolution with 8 channels": padded(8),
    "one CUDA graph": as_graph,
}


def kind_of(operator: str) -> str:
    return next((kind for kind, names in KINDS.items() if any(name in operator for name in names)), "others")


def profile_step(setup: TrainingSetup, batch: Batch, device: torch.device) -> dict[str, StepPart]:
    """The kinds of operations of a step, the longest first."""
    with FlopCounterMode(display=False) as counter:
        train_step(setup, batch)
    flops: Counter[str] = Counter()
    for operator, count in counter.get_flop_counts()["Global"].items():
        flops[kind_of(str(operator))] += int(count)
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as record:
        for _ in range(STEPS):
            train_step(setup, batch)
        synchronize(device)
    seconds: Counter[str] = Counter()
    for event in record.key_averages():
        if event.key.startswith("aten::"):
            taken = event.self_device_time_total if is_gpu else event.self_cpu_time_total
            seconds[kind_of(event.key)] += taken / 1e6 / STEPS
    return {kind: StepPart(seconds=taken, flops=flops[kind]) for kind, taken in seconds.most_common() if taken}


def measure(request: Request, device: torch.device, rounds: int) -> StepProfile:
    """Profile the step and time its variants, each on a setup of its own with the same weights and images."""
    steps: dict[str, Step] = {}
    failures: dict[str, str] = {}
    losses: dict[str, float] = {}
    for name, build in VARIANTS.items():
        setup, batch = fresh_setup(request, device)
        try:
            steps[name] = build(setup, batch)
            losses[name] = steps[name]().item()
        except (RuntimeError, UserError) as error:
            steps.pop(name, None)
            failures[name] = one_line(str(error))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):  # in turns, so that all meet the machine in the same states
        for name, step in steps.items():
            times[name].append(timed(lambda step=step: [step() for _ in range(STEPS)], device) / STEPS)  # type: ignore[misc]
    setup, batch = fresh_setup(request, device)
    config = request.config
    return StepProfile(
        model=config.model,
        device=describe_device(device).name,
        batch_size=config.batch_size,
        precision=config.precision,
        libraries=library_versions(),
        flops_per_second=gemm_rate(device, input_type(config)),
        parts=profile_step(setup, batch, device),
        variants={name: tuple(each) for name, each in times.items()},
        failures=failures,
        # a graph's first replay is a later step
        difference={
            name: abs(loss / losses["as it is"] - 1) for name, loss in losses.items() if name != "one CUDA graph"
        },
        evaluation=evaluation_rates(setup, batch, device),
    )


def fresh_setup(request: Request, device: torch.device) -> tuple[TrainingSetup, Batch]:
    _, setup = prepare(request, device)
    setup.start_training()
    batch = next(setup.train.epoch())
    torch.manual_seed(1)  # of dropout
    return setup, batch


@torch.no_grad()
def evaluation_rates(setup: TrainingSetup, batch: Batch, device: torch.device) -> dict[int, float]:
    """Images per second of a forward pass, for batches of once to eight times a training batch."""
    setup.net.eval()
    rates = {}
    for factor in (1, 2, 4, 8):
        inputs = torch.cat([batch[0]] * factor).contiguous(memory_format=torch.channels_last)

        def forward(inputs: torch.Tensor = inputs) -> Any:
            with setup.autocast():
                return setup.net(inputs)

        forward()
        rates[len(inputs)] = len(inputs) / min(timed(forward, device) for _ in range(3))
    return rates


def tables(figures: StepProfile) -> str:
    """The parts, the variants and the evaluation as Markdown."""
    whole = sum(part.seconds for part in figures.parts.values())
    parts = []
    for kind, part in figures.parts.items():
        share = 100 * part.flops / part.seconds / figures.flops_per_second
        product = f"{share:.0f}" if kind in PRODUCTS else ""
        parts.append((kind, f"{1e3 * part.seconds:.2f}", f"{100 * part.seconds / whole:.0f}", product))
    flops = sum(part.flops for part in figures.parts.values())
    variants = [
        (
            name,
            f"{1e3 * min(times):.2f} to {1e3 * max(times):.2f}",
            f"{figures.batch_size / min(times):,.0f}",
            f"{100 * flops / min(times) / figures.flops_per_second:.0f}",
            f"{figures.difference[name]:.0e}" if name in figures.difference else "",
        )
        for name, times in figures.variants.items()
    ]
    variants += [(name, reason, "", "", "") for name, reason in figures.failures.items()]
    rates = [(f"{size:,}", f"{rate:,.0f}") for size, rate in figures.evaluation.items()]
    share_title = "share of the fastest matrix product, %"
    blocks = (
        _table(parts, (f"{figures.model}: a step of {figures.batch_size} images", "ms", "%", share_title)),
        _table(variants, ("the step", "ms", "images/s", share_title, "first loss differs by")),
        _table(rates, ("evaluation: images of a batch", "images/s")),
    )
    return "\n\n".join(blocks)


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    sides = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=sides)


def main(argv: Sequence[str]) -> int:
    options = read_options(ProfileOptions, argv)
    root = data_folder(options.data, LocalProfile(executor="local"))
    images = len(evenly(read_data_set(root).train, options.max_images))
    if options.batch_size > images:
        raise UserError(f"batch_size={options.batch_size} is more than the {images:,} training images; set less")
    settings = options.model_dump(include={"model", "batch_size", "precision", "max_images"})
    config = RunConfig().but(**settings)
    packs = str(user_path(options.packs, "packs"))
    device = choose_device(options.device)
    request = Request(
        kind="phases", config=config, data=str(root), packs=packs, device=options.device, threads=None
    )
    figures = measure(request, device, options.rounds)
    print(tables(figures))
    if options.out:
        write_atomically(Path(options.out), figures.model_dump_json(indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command_line(main, USAGE))
