"""python jobs/benchmark.py: measure both engines in turns, each measurement in a fresh process.

With profile=NAME of a Slurm profile the benchmark becomes one job there. `--help` lists the options.
"""

import os
import socket
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field
from tabulate import tabulate

from caltech_exp import bootstrap
from caltech_exp.benchmark.process import measure_in_process, measure_side_by_side
from caltech_exp.benchmark.records import (
    AUGMENTATIONS,
    BATCHES,
    MODELS,
    PARTS,
    SHARES,
    SIDE_BY_SIDE,
    Benchmark,
    Costs,
    EpochCosts,
    FirstLosses,
    MeasurementResult,
    Request,
    SideBySideCosts,
    plan,
)
from caltech_exp.cli import Options, UserError, read_options, run_command_line, unknown
from caltech_exp.data.splits import DataSet, SplitSeed, TestShare, evenly, make_split
from caltech_exp.executors.executor import make_executor
from caltech_exp.files import (
    folder_if_it_succeeds,
    make_own_folder,
    usable_cores,
    user_path,
    utc_now,
    write_atomically,
)
from caltech_exp.profiles.paths import packs_folder
from caltech_exp.profiles.profile import LocalProfile, Profile, SlurmProfile, load_profile, take_profile_words
from caltech_exp.provenance import code_version, library_versions
from caltech_exp.records import Corrupt, read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.submission.preflight import find_data
from caltech_exp.submission.snapshot import take_snapshot
from caltech_exp.usage import usage


class BenchmarkOptions(Options):
    models: str = Field(",".join(MODELS), description="networks, comma-separated")
    parts: str = Field(
        "phases,epoch,frozen,growth,augment", description=f"measurements, comma-separated: {', '.join(PARTS)}"
    )
    batch_size: int = Field(256, ge=1, description="images per step")
    epochs: int = Field(2, ge=1, description="epochs per measurement; the fastest counts")
    max_images: int = Field(0, ge=0, description="images used of each split; 0 for all")
    workers: int = Field(4, ge=0, le=64, description="data loading processes of the template loop")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="learning rate, for parts=losses")
    precision: Literal["bf16", "fp32"] = Field("bf16", description="precision of the fast engine")
    data: str = Field("", description="folder of the data set; default: $CALTECH101_ROOT or the profile's")
    split: TestShare = None
    split_seed: SplitSeed = 0
    packs: str = Field("", description="folder of decoded images; default: the profile's, or the user's cache")
    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="where to compute; auto: the profile's")
    threads: int = Field(0, ge=0, description="CPU threads; 0: the profile's cpus_per_task, or torch's choice")
    out: str = Field("", description="JSON file for all figures; those that it has are not measured again")
    profile: str = Field("", description="a Slurm profile: submit this benchmark as one job there")


USAGE = usage(
    "python jobs/benchmark.py [option=value ...]\n\n"
    "Measures the template loop and the fast engine in turns, each measurement in a fresh process.\n\n"
    "  python jobs/benchmark.py models=alexnet parts=epoch",
    BenchmarkOptions,
)


def main(argv: Sequence[str]) -> int:
    profile_words, words = take_profile_words(argv)
    options = read_options(BenchmarkOptions, words)
    if bootstrap.running:  # in a job, which was given all that its profile says
        profile: Profile = LocalProfile(executor="local")
    else:
        profile = load_profile(options.profile or "local", profile_words)
    data = find_data(options.data, profile, split=make_split(options.split, options.split_seed))
    models, parts = _names("model", options.models, MODELS), _names("part", options.parts, PARTS)
    images = _training_images(options, data, parts)
    chosen = options.model_dump(include={"batch_size", "epochs", "max_images", "workers", "precision", "lr"})
    settings = {**chosen, **data.settings}
    measurements = tuple(plan(models, parts, settings, images))
    if isinstance(profile, SlurmProfile):
        return _submit(options, profile, data)
    out = user_path(options.out, "out") if options.out else None
    if out and not out.parent.is_dir():
        raise UserError(f"out={options.out}: there is no folder {out.parent}; make it, or name another file")
    device_type = profile.device_type if options.device == "auto" else options.device
    threads = options.threads or profile.cpus_per_task
    benchmark = Benchmark(
        device="",
        cores=usable_cores(),
        host=socket.gethostname(),
        images=images,
        data=data.fingerprint,
        device_type=device_type,
        words=tuple(argv),
        libraries=library_versions(),
        code=code_version(),
        when=utc_now(),
        measurements=(),
    )
    benchmark = _begun(out, benchmark) if out else benchmark
    for number, measurement in enumerate(measurements, start=1):
        config = measurement.config
        print(f"[{number}/{len(measurements)}] {measurement.name}, engine {config.engine}", flush=True)
        if kept := benchmark.find(measurement, threads):
            print(f"  kept from {out}: {kept.costs}", flush=True)
            continue
        request = Request(
            kind=measurement.kind,
            config=config,
            data=str(data.root),
            split=data.split,
            packs=str(packs_folder(options.packs, profile)),
            device=device_type,
            threads=threads,
        )
        runs = measurement.runs
        outcome = measure_side_by_side(request, runs) if runs else measure_in_process(request)
        print(f"  {outcome.costs}", flush=True)
        result = MeasurementResult(name=measurement.name, config=config, costs=outcome.costs, threads=threads)
        measured = (*benchmark.measurements, result)
        benchmark = benchmark.model_copy(update={"device": outcome.device, "measurements": measured})
        if out:
            write_atomically(out, benchmark.model_dump_json(indent=1) + "\n")
    print(benchmark_tables(benchmark))
    if out:
        print(f"figures in {out}")
    return 0


def _begun(out: Path, benchmark: Benchmark) -> Benchmark:
    """The benchmark whose figures are in a file; the given one if there is no file."""
    begun = read_record(out, Benchmark)
    if begun is None:
        return benchmark
    if isinstance(begun, Corrupt):
        raise UserError(begun.complaint("remove it, or name another file"))
    if differences := begun.differences(benchmark):
        raise UserError(
            f"{out} holds a benchmark with other {', '.join(differences)}; remove it, or name another file"
        )
    return begun


def _names(kind: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return names


def _training_images(options: BenchmarkOptions, data: DataSet, parts: Collection[str]) -> int:
    """The size of the training set. Its smallest share that is measured must hold a batch."""
    images = len(evenly(data.train, options.max_images))
    least, share = (images // max(SHARES), "a quarter of ") if {"growth", "batches"} & set(parts) else (images, "")
    if options.batch_size > least:
        raise UserError(
            f"batch_size={options.batch_size} is too large to measure {share}the {images:,} training images; "
            f"set batch_size={least} or less"
        )
    return images


@dataclass(frozen=True)
class BenchmarkJob:
    """The benchmark as a job: the same command on the node. submitit pickles it."""

    words: tuple[str, ...]

    def __call__(self) -> None:
        command = bootstrap.own_command("caltech_exp.commands.benchmark", self.words)
        subprocess.run(command, stdin=subprocess.DEVNULL, env=os.environ, check=True)  # of this very job


def _submit(options: BenchmarkOptions, profile: SlurmProfile, data: DataSet) -> int:
    """Submit the benchmark as one job, which writes the file of out=."""
    if not options.out:
        raise UserError("a benchmark on Slurm writes its figures to a file; add out=FILE.json")
    # Imported where it is used: measuring here needs no submitit.
    from caltech_exp.executors.sbatch import BatchJob, queue_array

    out = user_path(options.out, "out")
    logs = out.parent / f"{out.stem}-logs"
    make_executor(profile).check(StudyFolder(logs))
    words = {
        **options.model_dump(exclude_defaults=True, exclude={"profile"}),
        "data": data.root.resolve(),
        "packs": packs_folder(options.packs, profile),
        "out": out,
        "device": profile.device_type,
        "threads": options.threads or profile.cpus_per_task or 0,
    }
    job = BenchmarkJob(tuple(f"{name}={value}" for name, value in words.items()))
    with folder_if_it_succeeds(logs):
        make_own_folder(logs)
        snapshot = take_snapshot(logs, code_version())
        (number,) = queue_array(BatchJob("benchmark", "caltech_exp benchmark", [job], logs), profile, snapshot)
    print(f"submitted job {number}: figures will be in {out}, logs in {logs}")
    return 0


@dataclass(frozen=True)
class Figure:
    """A line of a table: a field of a measurement.

    measurement  its name, without the network's
    better       whether a higher or a lower value is faster, for the ratio of the engines; no ratio if empty
    unit         what the field is divided by
    """

    title: str
    measurement: str
    field: str
    better: Literal["higher", "lower", ""] = ""
    unit: float = 1.0
    digits: int = 1


NETWORK_FIGURES = (
    Figure("epoch with validation, s", "epoch", "epoch_seconds", "lower"),
    Figure("  images/s in training", "epoch", "images_per_second", "higher"),
    Figure("  peak memory, GiB", "epoch", "peak_memory_bytes", unit=2**30, digits=2),
    Figure("  process start to first step, s", "epoch", "start_seconds"),
    Figure("epoch, convolutions frozen, s", "frozen epoch", "epoch_seconds", "lower"),
    Figure("  with frozen_batchnorm=eval, s", "frozen epoch, statistics kept", "epoch_seconds", "lower"),
    Figure("inputs, images/s (template: one core)", "phases", "input_images_per_second", "higher"),
    Figure("training step, images/s", "phases", "step_images_per_second", "higher"),
    Figure("  share of the fastest matrix product, %", "phases", "share_of_peak", unit=0.01),
    Figure("  share of what its layers allow, %", "phases", "step_share_of_limit", unit=0.01),
    Figure("  kept for the backward pass, MB per image", "phases", "saved_bytes_per_image", unit=1e6, digits=2),
    Figure("evaluation, images/s", "phases", "eval_images_per_second", "higher"),
    Figure("  share of what its layers allow, %", "phases", "eval_share_of_limit", unit=0.01),
)
AUGMENT_FIGURES = tuple(
    Figure(f"augment={name}", f"augment {name}", "input_images_per_second", "higher") for name in AUGMENTATIONS
)

CostsByEngine = dict[tuple[str, str], Costs]  # by the measurement's name and engine


def benchmark_tables(benchmark: Benchmark) -> str:
    """The machine, the tables of each network, and one of the augmentations."""
    costs: CostsByEngine = {(m.name, m.config.engine): m.costs for m in benchmark.measurements}
    config = benchmark.measurements[0].config
    blocks = [
        f"{benchmark.device}, {benchmark.cores} cores; batch {config.batch_size}, template with {config.workers} "
        f"workers; torch {benchmark.libraries['torch']}; {benchmark.when}"
    ]
    for model in MODELS:
        blocks += [
            _comparison(model, NETWORK_FIGURES, f"{model} ", costs),
            _growth(model, benchmark, costs),
            _losses(model, costs),
        ]
    inputs = "training inputs, images/s (template: one core)"
    blocks.append(_comparison(inputs, AUGMENT_FIGURES, "", costs))
    return "\n\n".join(block for block in blocks if block)


def _comparison(title: str, figures: Sequence[Figure], prefix: str, costs: CostsByEngine) -> str:
    """The figures that were measured; empty without any."""
    rows = []
    for figure in figures:
        template, fast = (
            getattr(costs.get((prefix + figure.measurement, engine)), figure.field, None)
            for engine in ("reference", "fast")
        )
        if template is None and fast is None:
            continue
        cells = [
            "" if value is None else f"{value / figure.unit:,.{figure.digits}f}" for value in (template, fast)
        ]
        rows.append((figure.title, *cells, ratio(figure, template, fast)))
    return _table(rows, (title, "template", "fast", "times as fast")) if rows else ""


def ratio(figure: Figure, template: float | None, fast: float | None) -> str:
    """How many times as fast the fast engine is; empty for a figure that says nothing of speed."""
    if not figure.better or not template or not fast:
        return ""
    return f"{fast / template if figure.better == 'higher' else template / fast:.1f}"


def _growth(model: str, benchmark: Benchmark, costs: CostsByEngine) -> str:
    """Epochs of the fast engine against the number of images, the batch size, and the runs side by side."""
    images, quarter = benchmark.images, f"{benchmark.images // 4:,} images"
    cells = {
        **{f"epoch of 1/{share}": f"{images // share:,} images" for share in SHARES},
        **{f"batch {size}": f"{quarter} in batches of {size}" for size in BATCHES},
        **{f"side by side {runs}": f"{images // 8:,} images, runs side by side: {runs}" for runs in SIDE_BY_SIDE},
    }
    rows = []
    for name, title in cells.items():
        cost = costs.get((f"{model} {name}", "fast"))
        if isinstance(cost, EpochCosts | SideBySideCosts):
            memory = f"{cost.peak_memory_bytes / 2**30:.2f}"
            rows.append((title, f"{cost.epoch_seconds:.1f}", memory))
    return _table(rows, (f"{model}, fast", "epoch, s", "peak memory, GiB")) if rows else ""


def _losses(model: str, costs: CostsByEngine) -> str:
    """How much the losses of the first steps differ between the engines, at most."""
    template, fast = (costs.get((f"{model} losses", engine)) for engine in ("reference", "fast"))
    if not isinstance(template, FirstLosses) or not isinstance(fast, FirstLosses):
        return ""
    pairs = list(zip(template.losses, fast.losses, strict=False))
    if not pairs:
        return f"{model} in fp32: the loss of the first step is not finite"
    difference = max(abs(fast_loss / loss - 1) for loss, fast_loss in pairs)
    text = (
        f"{model} in fp32: the losses of the first {len(pairs)} steps ({pairs[0][0]:.4f} to {pairs[-1][0]:.4f}) "
        f"differ by at most {difference:.1e} of their value"
    )
    for engine, losses in (("the template", template), ("fast", fast)):
        if len(losses.losses) < losses.steps:
            text += f"; {engine} diverges at step {len(losses.losses) + 1}"
    return text


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers=headers, disable_numparse=True, preserve_whitespace=True, colalign=align)


if __name__ == "__main__":
    run_command_line(main, USAGE)
