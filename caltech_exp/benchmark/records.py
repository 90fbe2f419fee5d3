"""What a benchmark measures, and in which order."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from caltech_exp.config import RunConfig, choices
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import StrictRecord

Kind = Literal["epochs", "phases", "augment", "losses"]


class Measurement(StrictRecord):
    """One measurement, made by a process of its own.

    kind     epochs: whole epochs with validation, config.epochs of them; phases: their parts; augment: inputs
             with random transforms; losses: the first steps' losses
    started  when the process was started, seconds since 1970
    threads  CPU threads of torch, None for its own choice
    """

    kind: Kind
    config: RunConfig
    data: str
    packs: str
    device: str
    threads: int | None
    started: float


class EpochCosts(StrictRecord):
    """Whole epochs through the training loop itself.

    epoch_seconds      the fastest epoch, validation included
    images_per_second  trained images over the seconds of training alone; without the first epoch if there are more
    start_seconds      from the start of the process to the end of the first step
    peak_memory_bytes  resident memory of this process (loader workers not counted), or the GPU's allocation
    """

    epoch_seconds: float
    images_per_second: float
    start_seconds: float
    peak_memory_bytes: int


class PhaseCosts(StrictRecord):
    """The parts of an epoch, each alone; the fastest of several rounds.

    input_images_per_second  from packs, or from files by one core, to network inputs
    pack_images_per_second   decoding into a pack, once for all runs, by all cores; engine=fast only
    step_images_per_second   forward, backward and optimizer step on inputs at hand
    eval_images_per_second   forward pass on inputs at hand
    step_flops               floating-point operations of a step, counted by torch's FlopCounterMode
    saved_bytes_per_image    what the forward pass keeps for the backward one, inputs included, per image
    gemm_flops_per_second    the fastest matrix product of the same precision, measured in turns with the steps
    """

    input_images_per_second: float
    pack_images_per_second: float | None
    step_images_per_second: float
    eval_images_per_second: float
    step_flops: int
    step_flops_per_second: float
    saved_bytes_per_image: float
    gemm_flops_per_second: float

    @property
    def share_of_peak(self) -> float:
        """Achieved over possible operations per second, 0 to 1."""
        return self.step_flops_per_second / self.gemm_flops_per_second


class AugmentCosts(StrictRecord):
    """Network inputs with random transforms: images per second, of engine=reference by one core."""

    input_images_per_second: float


class FirstLosses(StrictRecord):
    """No cost, but what it is weighed against: the losses of the first steps, in fp32 in both engines.

    Those before the first that is not finite, of `steps` in all.
    """

    losses: tuple[float, ...]
    steps: int


Costs = EpochCosts | PhaseCosts | AugmentCosts | FirstLosses


class Outcome(StrictRecord):
    """What the process of a measurement prints; `device` is the model name of the processor or GPU."""

    device: str
    costs: Costs


class Measured(StrictRecord):
    """A measurement's name and settings, and what it gave."""

    name: str
    config: RunConfig
    costs: Costs


class Benchmark(StrictRecord):
    """All measurements of one run of the benchmark, on one machine."""

    schema_version: Literal[1] = 1
    device: str
    cores: int
    host: str
    images: int  # of the training set, after max_images
    libraries: dict[str, str]
    code: CodeVersion
    when: str
    measurements: tuple[Measured, ...]


MODELS = choices("model")
PARTS = ("phases", "epoch", "frozen", "growth", "augment", "losses")
AUGMENTATIONS = tuple(name for name in choices("augment") if name != "none")
SHARES = (2, 4)
"""Growth is measured at a half and a quarter of the images, beside all of them."""


@dataclass(frozen=True)
class Planned:
    """One measurement; the two engines' of the same name are compared."""

    name: str
    kind: Kind
    config: RunConfig


def plan(
    models: Collection[str], parts: Collection[str], settings: Mapping[str, int | float | str], images: int
) -> Iterator[Planned]:
    """The measurements of the chosen parts, in order.

    settings  run settings that hold for all
    images    the size of the training set, for the growth
    """
    for model in models:
        fast = RunConfig().but(model=model, **settings)
        if "phases" in parts:
            yield from _both(f"{model} phases", "phases", fast)
        if "epoch" in parts:
            yield from _both(f"{model} epoch", "epochs", fast)
        if "frozen" in parts:
            yield from _both(f"{model} frozen epoch", "epochs", fast.but(freeze="conv"))
        if "losses" in parts:
            yield from _both(f"{model} losses", "losses", fast.but(precision="fp32"))
        if "growth" in parts:
            for share in (1, *SHARES):
                yield Planned(f"{model} epoch of 1/{share}", "epochs", fast.but(max_images=images // share))
    if "augment" in parts:
        for augment in AUGMENTATIONS:
            yield from _both(f"augment {augment}", "augment", RunConfig().but(augment=augment, **settings))


def _both(name: str, kind: Kind, fast: RunConfig) -> Iterator[Planned]:
    for config in (fast.but(engine="reference"), fast):
        yield Planned(name, kind, config)
