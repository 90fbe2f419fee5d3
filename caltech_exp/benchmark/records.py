"""What is measured, and what comes of it. Times are in seconds, sizes in bytes, rates per second."""

from typing import Literal

from caltech_exp.config import RunConfig
from caltech_exp.provenance import CodeVersion
from caltech_exp.record import StrictRecord

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
    start_seconds      from the start of the process to the end of the first step, compilation included
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
