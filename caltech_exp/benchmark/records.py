"""What the benchmark measures, in which order, and the records of it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from caltech_exp.config import RunConfig, choices
from caltech_exp.data.splits import Split
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import StrictRecord

MODELS = choices("model")
PARTS = ("phases", "epoch", "frozen", "growth", "batches", "side_by_side", "augment", "losses")
AUGMENTATIONS = tuple(name for name in choices("augment") if name != "none")
SHARES = (1, 2, 4)
"""Growth is measured on all images, a half and a quarter of them."""
BATCHES = (32, 64, 128, 256, 512)
"""Batch sizes that are measured on a quarter of the images, where they hold such a batch."""
SIDE_BY_SIDE = (1, 2, 4)
"""Runs that are measured side by side, on an eighth of the images with a small batch."""
SMALL_BATCH = 64

Kind = Literal["epochs", "phases", "augment", "losses"]


@dataclass(frozen=True)
class Measurement:
    """One measurement; those of the two engines have the same name and are compared.

    kind  epochs: config.epochs whole epochs with validation; phases: their parts; augment: inputs with random
          transforms; losses: the losses of the first steps
    runs  how many processes measure it side by side, on the same cores or GPU; 0: one, by itself
    """

    name: str
    kind: Kind
    config: RunConfig
    runs: int = 0


def plan(
    models: Collection[str], parts: Collection[str], settings: Mapping[str, int | float | str], images: int
) -> Iterator[Measurement]:
    """The measurements of the chosen parts, in order, on a training set of `images` images."""
    for model in models:
        fast = RunConfig().but(model=model, **settings)
        if "phases" in parts:
            yield from _both_engines(f"{model} phases", "phases", fast)
        if "epoch" in parts:
            yield from _both_engines(f"{model} epoch", "epochs", fast)
        if "frozen" in parts:
            frozen = fast.but(freeze="conv")
            yield from _both_engines(f"{model} frozen epoch", "epochs", frozen)
            if "frozen_batchnorm" not in frozen.unused:
                kept = frozen.but(frozen_batchnorm="eval")
                yield from _both_engines(f"{model} frozen epoch, statistics kept", "epochs", kept)
        if "losses" in parts:
            yield from _both_engines(f"{model} losses", "losses", fast.but(precision="fp32"))
        if "growth" in parts:
            for share in SHARES:
                yield Measurement(f"{model} epoch of 1/{share}", "epochs", fast.but(max_images=images // share))
        if "batches" in parts:
            for size in (size for size in BATCHES if size <= images // 4):
                config = fast.but(max_images=images // 4, batch_size=size)
                yield Measurement(f"{model} batch {size}", "epochs", config)
        if "side_by_side" in parts:
            config = fast.but(max_images=images // 8, batch_size=max(1, min(SMALL_BATCH, images // 8)))
            for runs in SIDE_BY_SIDE:
                yield Measurement(f"{model} side by side {runs}", "epochs", config, runs)
    if "augment" in parts:
        for augment in AUGMENTATIONS:
            config = RunConfig().but(augment=augment, **settings)
            yield from _both_engines(f"augment {augment}", "augment", config)


def _both_engines(name: str, kind: Kind, fast: RunConfig) -> Iterator[Measurement]:
    for config in (fast.but(engine="reference"), fast):
        yield Measurement(name, kind, config)


class Request(StrictRecord):
    """What the process of a measurement is given; `threads` are torch's CPU threads, None for its own choice."""

    kind: Kind
    config: RunConfig
    data: str
    packs: str
    device: str
    threads: int | None
    split: Split | None = None


class EpochCosts(StrictRecord):
    """Whole epochs through the training loop itself.

    epoch_seconds      the fastest epoch, with validation
    images_per_second  in training alone, without the first epoch if there are more
    start_seconds      from the start of the process to the end of the first step
    peak_memory_bytes  resident in this process (loader workers not counted), or allocated on the GPU
    times              when the first epoch began and when each epoch ended, in seconds since 1970
    """

    epoch_seconds: float
    images_per_second: float
    start_seconds: float
    peak_memory_bytes: int
    times: tuple[float, ...] = ()

    @property
    def each_epoch(self) -> tuple[float, ...]:
        """Seconds of every epoch."""
        return tuple(end - start for start, end in pairwise(self.times))


class SideBySideCosts(StrictRecord):
    """The same epochs by several processes at a time; their starts are not counted."""

    runs: tuple[EpochCosts, ...]

    @property
    def epoch_seconds(self) -> float:
        """From the first process's first epoch to the last one's end, for an epoch of every process."""
        times = [run.times for run in self.runs]
        return (max(ends[-1] for ends in times) - min(ends[0] for ends in times)) / (len(times[0]) - 1)

    @property
    def peak_memory_bytes(self) -> int:
        return sum(run.peak_memory_bytes for run in self.runs)


class PhaseCosts(StrictRecord):
    """The parts of an epoch, each alone; the fastest of several rounds.

    input_images_per_second  from packs, or from files by one core, to network inputs
    step_images_per_second   forward, backward and optimizer step on inputs that are ready
    eval_images_per_second   forward pass on inputs that are ready
    step_flops               operations of a step, counted by torch's FlopCounterMode
    saved_bytes_per_image    what the forward pass keeps for the backward pass, inputs included
    gemm_flops_per_second    the fastest matrix product in the same precision, measured in turns with the steps
    convolution_flops_per_second  of the network's convolutions, each pass alone, the fastest of each kind:
                             forward, and the gradients of data and weights
    step_limit_images_per_second  of a step whose layers all run at the fastest rate of their kind, with nothing
                             between them; eval_limit_images_per_second likewise
    """

    input_images_per_second: float
    step_images_per_second: float
    eval_images_per_second: float
    step_flops: int
    step_flops_per_second: float
    saved_bytes_per_image: float
    gemm_flops_per_second: float
    convolution_flops_per_second: dict[str, float]
    step_limit_images_per_second: float
    eval_limit_images_per_second: float

    @property
    def share_of_peak(self) -> float:
        return self.step_flops_per_second / self.gemm_flops_per_second

    @property
    def step_share_of_limit(self) -> float:
        return self.step_images_per_second / self.step_limit_images_per_second

    @property
    def eval_share_of_limit(self) -> float:
        return self.eval_images_per_second / self.eval_limit_images_per_second


class AugmentCosts(StrictRecord):
    """Network inputs with random transforms; of engine=reference by one core."""

    input_images_per_second: float


class FirstLosses(StrictRecord):
    """The losses of the first `steps` steps in fp32, up to the first that is not finite."""

    losses: tuple[float, ...]
    steps: int


Costs = EpochCosts | SideBySideCosts | PhaseCosts | AugmentCosts | FirstLosses


class Outcome(StrictRecord):
    """What the process of a measurement prints; `device` is the model name of the processor or GPU."""

    device: str
    costs: Costs


class MeasurementResult(StrictRecord):
    """`threads` are torch's CPU threads of each process, None if torch chose them."""

    name: str
    config: RunConfig
    costs: Costs
    threads: int | None = None


class Benchmark(StrictRecord):
    """All measurements of one benchmark on one machine.

    images  the size of the training set
    data    the fingerprint of the data set
    device_type  as it was asked for: cuda or cpu
    words   of the command line that began it
    """

    schema_version: Literal[1] = 1
    device: str
    cores: int
    host: str
    images: int
    data: str = ""
    device_type: str = ""
    words: tuple[str, ...] = ()
    libraries: dict[str, str]
    code: CodeVersion
    when: str
    measurements: tuple[MeasurementResult, ...]

    def find(self, measurement: Measurement, threads: int | None) -> MeasurementResult | None:
        """The result of a measurement, if it is there."""
        wanted = (measurement.name, measurement.config, threads)
        results = (
            result for result in self.measurements if (result.name, result.config, result.threads) == wanted
        )
        return next(results, None)

    def differences(self, other: "Benchmark") -> list[str]:
        """What keeps the figures of two benchmarks from one table."""
        names = ("host", "cores", "images", "data", "device_type", "libraries", "code")
        return [name for name in names if getattr(self, name) != getattr(other, name)]
