"""python jobs/benchmark.py: the template loop against the fast engine, on the same images and the same machine.

With profile=NAME it becomes one job on that cluster. `--help` lists the options.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

if __name__ == "__main__" and not __package__:  # as a script: this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp import bootstrap
from caltech_exp.arguments import read_options, run_command_line, usage
from caltech_exp.benchmark.plan import MODELS, PARTS, SHARES, Planned, plan
from caltech_exp.benchmark.records import Benchmark, Measured, Measurement, Outcome
from caltech_exp.clock import utc_now
from caltech_exp.errors import UserError, unknown
from caltech_exp.files import folder_if_it_succeeds, make_own_folder, user_path, write_atomically
from caltech_exp.provenance import code_version, library_versions
from caltech_exp.splits import DataSet, evenly
from jobs.benchmark_table import benchmark_table
from jobs.capacity import device_type
from jobs.preflight import find_data
from jobs.profile_paths import packs_folder
from jobs.profile_words import take_profile_words
from jobs.profiles import LocalProfile, Profile, SlurmProfile, load_profile
from jobs.snapshot import take_snapshot


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
        command = bootstrap.own_command("jobs.benchmark", self.words)
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
        device=device_type(profile) if options.device == "auto" else options.device,
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
    from jobs.slurm_queue import check_log_folder, queue_array  # submitit is not needed to measure here

    out = user_path(options.out, "out")
    logs = out.parent / f"{out.stem}-logs"
    check_log_folder(logs)
    given = {
        **_given(options),
        "data": str(data.root.resolve()),
        "packs": str(packs_folder(options.packs, profile)),
        "out": str(out),
        "device": device_type(profile),
        "threads": str(options.threads or profile.cpus_per_task or 0),
    }
    job = BenchmarkJob(tuple(f"{name}={value}" for name, value in given.items()))
    with folder_if_it_succeeds(logs):
        make_own_folder(logs)
        snapshot = take_snapshot(logs, code_version())
        (number,) = queue_array("benchmark", "caltech_exp benchmark", [job], logs, profile, snapshot)
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
