"""python jobs/benchmark.py: measure both engines in turns, each measurement in a fresh process.

With profile=NAME it becomes one job on that cluster. `--help` lists the options.
"""

import os
import socket
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from tabulate import tabulate

from caltech_exp import bootstrap
from caltech_exp.benchmark.records import (
    AUGMENTATIONS,
    MODELS,
    PARTS,
    SHARES,
    Benchmark,
    Costs,
    EpochCosts,
    FirstLosses,
    Measured,
    Measurement,
    Outcome,
    Planned,
    plan,
)
from caltech_exp.cli import UserError, read_options, run_command_line, unknown, usage
from caltech_exp.data.splits import DataSet, evenly
from caltech_exp.executors.executor import make_executor
from caltech_exp.files import folder_if_it_succeeds, make_own_folder, user_path, utc_now, write_atomically
from caltech_exp.profiles.paths import packs_folder
from caltech_exp.profiles.profile import (
    LocalProfile,
    Profile,
    SlurmProfile,
    load_profile,
    take_profile_words,
)
from caltech_exp.provenance import code_version, library_versions
from caltech_exp.study.folder import StudyFolder
from caltech_exp.submission.preflight import find_data
from caltech_exp.submission.snapshot import take_snapshot


@dataclass(frozen=True)
class Figure:
    """A line of a table: which field of which measurement, in which unit, and whether more of it is faster.

    measurement  its name, after the network's where it has one
    unit         what the field is divided by
    faster       `more` or `less`, for the ratio; none where empty
    """

    title: str
    measurement: str
    field: str
    faster: str = ""
    unit: float = 1.0
    digits: int = 1


NETWORK_FIGURES = (
    Figure("epoch with validation, s", "epoch", "epoch_seconds", "less"),
    Figure("  images/s in training", "epoch", "images_per_second", "more"),
    Figure("  peak memory, GiB", "epoch", "peak_memory_bytes", unit=2**30, digits=2),
    Figure("  process start to first step, s", "epoch", "start_seconds"),
    Figure("epoch, convolutions frozen, s", "frozen epoch", "epoch_seconds", "less"),
    Figure("  process start to first step, s", "frozen epoch", "start_seconds"),
    Figure("decode once, images/s", "phases", "pack_images_per_second"),
    Figure("inputs, images/s (template: a core)", "phases", "input_images_per_second", "more"),
    Figure("training step, images/s", "phases", "step_images_per_second", "more"),
    Figure("  GFLOP/s", "phases", "step_flops_per_second", "more", unit=1e9),
    Figure("  fastest matrix product, GFLOP/s", "phases", "gemm_flops_per_second", "more", unit=1e9),
    Figure("  share of it, %", "phases", "share_of_peak", unit=0.01),
    Figure("  kept for the backward pass, MB per image", "phases", "saved_bytes_per_image", unit=1e6, digits=2),
    Figure("evaluation, images/s", "phases", "eval_images_per_second", "more"),
)
AUGMENT_FIGURES = tuple(
    Figure(f"augment={name}", f"augment {name}", "input_images_per_second", "more") for name in AUGMENTATIONS
)

Cells = Sequence[Sequence[str]]
Measurements = dict[tuple[str, str], Costs]
"""By name and engine."""


def benchmark_table(benchmark: Benchmark) -> str:
    """What machine it was, a table per network and one of its growth, and the augmentations."""
    costs: Measurements = {(m.name, m.config.engine): m.costs for m in benchmark.measurements}
    config = benchmark.measurements[0].config
    blocks = [
        f"{benchmark.device}, {benchmark.cores} cores; batch {config.batch_size}, template with {config.workers} "
        f"workers; torch {benchmark.libraries['torch']}; {benchmark.when}"
    ]
    for model in MODELS:
        blocks += [
            _compared(model, NETWORK_FIGURES, f"{model} ", costs),
            _growth(model, benchmark, costs),
            _losses(model, costs),
        ]
    inputs = "training inputs, images/s (template: a core)"
    return "\n\n".join(block for block in (*blocks, _compared(inputs, AUGMENT_FIGURES, "", costs)) if block)


def _compared(title: str, figures: Sequence[Figure], prefix: str, costs: Measurements) -> str:
    """The figures that were measured; nothing if none was."""
    rows = []
    for figure in figures:
        pair = [costs.get((prefix + figure.measurement, engine)) for engine in ("reference", "fast")]
        if pair == [None, None]:
            continue
        values = [getattr(cost, figure.field, None) for cost in pair]
        shown = ["" if value is None else f"{value / figure.unit:,.{figure.digits}f}" for value in values]
        rows.append((figure.title, *shown, _ratio(figure, *values)))
    return _table(rows, (title, "template", "fast", "times as fast")) if rows else ""


def _ratio(figure: Figure, template: float | None, fast: float | None) -> str:
    if not figure.faster or not template or not fast:
        return ""
    return f"{fast / template if figure.faster == 'more' else template / fast:.1f}"


def _growth(model: str, benchmark: Benchmark, costs: Measurements) -> str:
    """Seconds of an epoch of the fast engine against the number of images."""
    rows = []
    batch_size = benchmark.measurements[0].config.batch_size  # the last incomplete batch is not trained on
    for share in (1, *SHARES):
        cost = costs.get((f"{model} epoch of 1/{share}", "fast"))
        if isinstance(cost, EpochCosts):
            images = benchmark.images // share
            trained = images - images % batch_size
            per_image = 1000 * cost.epoch_seconds / (trained + images)
            rows.append((f"{images:,}", f"{trained:,}", f"{cost.epoch_seconds:.1f}", f"{per_image:.2f}"))
    headers = (f"{model}, fast: images of each split", "trained", "epoch, s", "ms per image trained or validated")
    return _table(rows, headers) if rows else ""


def _losses(model: str, costs: Measurements) -> str:
    """How far the losses of the first steps are apart, at most."""
    template, fast = (costs.get((f"{model} losses", engine)) for engine in ("reference", "fast"))
    if not isinstance(template, FirstLosses) or not isinstance(fast, FirstLosses):
        return ""
    pairs = list(zip(template.losses, fast.losses, strict=False))
    if not pairs:
        return f"{model} in fp32: the loss of the first step is not finite"
    apart = max(abs(ours - theirs) / theirs for theirs, ours in pairs)
    first, last = pairs[0][0], pairs[-1][0]
    diverged = [
        f"; {name} diverges at step {len(one.losses) + 1}"
        for name, one in (("the template", template), ("fast", fast))
        if len(one.losses) < one.steps
    ]
    return (
        f"{model} in fp32, losses of the first {len(pairs)} steps ({first:.4f} to {last:.4f}): within {apart:.1e}"
        f"{''.join(diverged)}"
    )


def _table(rows: Cells, headers: Sequence[str]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers=headers, disable_numparse=True, preserve_whitespace=True, colalign=align)


class BenchmarkOptions(BaseModel):
    """What `jobs/benchmark.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: str = Field(",".join(MODELS), description="networks, with commas")
    parts: str = Field(
        "phases,epoch,frozen,growth,augment", description=f"what is measured, with commas, of {', '.join(PARTS)}"
    )
    batch_size: int = Field(256, ge=1, description="images per step")
    epochs: int = Field(2, ge=1, description="epochs per measurement; the fastest counts")
    max_images: int = Field(0, ge=0, description="images used of each split; 0 for all")
    workers: int = Field(4, ge=0, le=64, description="data loading processes of the template loop")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="learning rate, for parts=losses")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="arithmetic of the fast engine")
    data: str = Field("", description="the Caltech-101 folder; left out: $CALTECH101_ROOT or the profile's")
    packs: str = Field("", description="folder of decoded images; left out: the profile's, or the user's cache")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="where to compute; a profile has its own")
    threads: int = Field(0, ge=0, description="CPU threads; 0: torch decides, or the profile's cpus_per_task")
    out: str = Field("", description="JSON file for all figures")
    profile: str = Field("", description="a Slurm profile: queue this benchmark as one job there")


USAGE = usage(
    "python jobs/benchmark.py [option=value ...]\n\n"
    "Measures the template loop and the fast engine in turns, each measurement in a fresh process.",
    BenchmarkOptions,
)


@dataclass(frozen=True)
class BenchmarkJob:
    """The benchmark as a job: the same command on the node. Pickled by submitit."""

    words: tuple[str, ...]

    def __call__(self) -> None:
        command = bootstrap.own_command("caltech_exp.commands.benchmark", self.words)
        subprocess.run(command, stdin=subprocess.DEVNULL, env=os.environ, check=True)  # of this very job


def main(argv: Sequence[str]) -> int:
    """Measure here, or queue the same as a job. Raises UserError for anything the user can mend."""
    profile_words, words = take_profile_words(argv)
    options = read_options(BenchmarkOptions, words)
    if bootstrap.running:  # as a job, which has no profiles beside it and was given all that its profile says
        profile: Profile = LocalProfile(executor="local")
    else:
        profile = load_profile(options.profile or "local", profile_words)
    data = find_data(options.data, profile)
    models, parts = _chosen("model", options.models, MODELS), _chosen("part", options.parts, PARTS)
    images = _images(options, data, parts)
    steps = tuple(plan(models, parts, _settings(options), images))
    if isinstance(profile, SlurmProfile):
        return _queue(options, profile, data)
    out = user_path(options.out, "out") if options.out else None
    if out and not out.parent.is_dir():
        raise UserError(f"out={options.out}: there is no folder {out.parent}; make it, or name another file")
    template = Measurement(
        kind="epochs",
        config=steps[0].config,
        data=str(data.root),
        packs=str(packs_folder(options.packs, profile)),
        device=profile.device_type if options.device == "auto" else options.device,
        threads=options.threads or profile.cpus_per_task,
        started=0.0,
    )
    benchmark = _measure(steps, template, images)
    print(benchmark_table(benchmark))
    if out:
        write_atomically(out, benchmark.model_dump_json(indent=1) + "\n")
        print(f"figures in {out}")
    return 0


def _chosen(kind: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in given.split(","))
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return names


def _settings(options: BenchmarkOptions) -> dict[str, int | float | str]:
    return options.model_dump(include={"batch_size", "epochs", "max_images", "workers", "precision", "lr"})


def _images(options: BenchmarkOptions, data: DataSet, parts: Collection[str]) -> int:
    """The size of the training set. Raises UserError if it, or its smallest share, holds no batch."""
    images = len(evenly(data.train, options.max_images))
    least, what = (images // max(SHARES), "a quarter of ") if "growth" in parts else (images, "")
    if options.batch_size > least:
        raise UserError(
            f"batch_size={options.batch_size}: {what}the {images:,} training images, which is measured, holds no "
            f"such batch; set batch_size={least} or less"
        )
    return images


def _given(options: BenchmarkOptions) -> dict[str, str]:
    """What is not at its default; the job has its profile already."""
    defaults = BenchmarkOptions()
    return {name: str(value) for name, value in options if value != getattr(defaults, name) and name != "profile"}


def _queue(options: BenchmarkOptions, profile: SlurmProfile, data: DataSet) -> int:
    """Queue the benchmark as one job that writes `out`."""
    if not options.out:
        raise UserError("a job brings its figures back in a file; add out=FILE.json")
    from caltech_exp.executors.sbatch import BatchJob, queue_array  # submitit is not needed to measure here

    out = user_path(options.out, "out")
    logs = out.parent / f"{out.stem}-logs"
    make_executor(profile).check(StudyFolder(logs))
    given = {
        **_given(options),
        "data": str(data.root.resolve()),
        "packs": str(packs_folder(options.packs, profile)),
        "out": str(out),
        "device": profile.device_type,
        "threads": str(options.threads or profile.cpus_per_task or 0),
    }
    job = BenchmarkJob(tuple(f"{name}={value}" for name, value in given.items()))
    with folder_if_it_succeeds(logs):
        make_own_folder(logs)
        snapshot = take_snapshot(logs, code_version())
        (number,) = queue_array(BatchJob("benchmark", "caltech_exp benchmark", [job], logs), profile, snapshot)
    print(f"queued job {number}: figures in {out}, logs in {logs}")
    return 0


def _measure(steps: Sequence[Planned], template: Measurement, images: int) -> Benchmark:
    """Every planned measurement, each in a process of its own."""
    measured = []
    device = ""
    for number, step in enumerate(steps, start=1):
        print(f"[{number}/{len(steps)}] {step.name}, engine {step.config.engine}", flush=True)
        outcome = _one(template.model_copy(update={"kind": step.kind, "config": step.config}))
        print(f"  {outcome.costs}", flush=True)
        device = outcome.device
        measured.append(Measured(name=step.name, config=step.config, costs=outcome.costs))
    return Benchmark(
        device=device,
        cores=len(os.sched_getaffinity(0)),
        host=socket.gethostname(),
        images=images,
        libraries=library_versions(),
        code=code_version(),
        when=utc_now(),
        measurements=tuple(measured),
    )


def _one(measurement: Measurement) -> Outcome:
    """One measurement by caltech_exp.benchmark. Raises UserError with its last line if it fails."""
    started = measurement.model_copy(update={"started": time.time()})
    done = subprocess.run(
        bootstrap.own_command("caltech_exp.benchmark", (started.model_dump_json(),)),
        stdin=subprocess.DEVNULL,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UserError(f"a measurement failed: {reason}")
    return Outcome.model_validate_json(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    run_command_line(main, USAGE)
