"""Everything that docs/performance.md says of a GPU, in eight minutes.

    python -m tests.tools.gpu_benchmark data=DIR

Profiles the training step of both networks and times variants of it, measures epochs and runs side by side, and
trains all 40 configurations of the report with one seed, several runs at once and one at a time. Every figure is
kept in folder=, and a second call measures what the first had no time for. When all is there, the tables go into
docs/performance.md. ImageNet's weights are stand-ins, which cost the same. device=cpu small=true tries all of it
on a few images and prints the tables.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from caltech_exp.catalog import THE_REPORT
from caltech_exp.cli import Options, UserError, read_options, run_command_line
from caltech_exp.config import NETWORK_NAMES
from caltech_exp.files import user_path, write_atomically
from caltech_exp.profiles.paths import data_folder
from caltech_exp.profiles.profile import LocalProfile
from caltech_exp.provenance import CHECKOUT
from caltech_exp.standin import write_stand_in_weights
from caltech_exp.usage import usage
from tests.tools import at_once, benchmark_page
from tests.tools.page import write_part

FEW = {"max_images": 16, "batch_size": 4, "precision": "fp32"}
SHORT = {**FEW, "epochs": 1, "last_batch": "keep"}
"""Settings of small=true: of a measurement, and of the report's runs."""


class GpuOptions(Options):
    data: str = Field("", description="the Caltech-101 folder; default: $CALTECH101_ROOT")
    folder: str = Field("build/gpu", description="where to keep the figures")
    device: Literal["cuda", "cpu"] = Field("cuda", description="where to compute")
    minutes: float = Field(8, gt=0, description="time of this call")
    small: bool = Field(False, description="a few images, to try it")


USAGE = usage(__doc__.partition("\n\n")[2].strip(), GpuOptions)


@dataclass(frozen=True)
class Stage:
    """A command that keeps its figures in a file and goes on where it was; whole when it has ended once."""

    name: str
    words: tuple[str, ...]


def count_configurations(*, small: bool) -> int:
    """The different configurations of the report; some become the same where runs are short."""
    rows = (row for _, table in THE_REPORT.tables for row in table.rows)
    return len({row.config.but(**(SHORT if small else {})).id for row in rows})


def stages(options: GpuOptions, data: Path, folder: Path) -> list[Stage]:
    packs = f"packs={folder / 'packs'}"
    few, short = (_words(settings if options.small else {}) for settings in (FEW, SHORT))
    tries = 1 if options.small else 3
    profiles = [
        Stage(
            f"step of {model}",
            (
                "-m", "tests.tools.step_profile", f"data={data}", packs, f"model={model}",
                f"device={options.device}", f"rounds={tries}",
                f"out={folder / f'step-{model}.json'}", *few,
            ),
        )
        for model in NETWORK_NAMES
    ]  # fmt: skip
    training = (
        "jobs/benchmark.py", f"data={data}", packs, "parts=growth,side_by_side", f"epochs={tries}",
        f"device={options.device}", f"out={folder / 'training.json'}", *few,
    )  # fmt: skip
    report = (
        "-m", "tests.tools.at_once", str(data), "section=all", "seeds=1", "counts=1,4",
        f"runs={count_configurations(small=options.small)}",
        f"imagenet_weights={folder / 'weights'}", f"profile.device={options.device}",
        f"out={folder / 'report.json'}", *short,
    )  # fmt: skip
    return [*profiles, Stage("training", training), Stage("report", report)]


def _words(settings: Mapping[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def main(argv: Sequence[str]) -> int:
    """Measure what is missing; 1 if something is left. Raises UserError if a stage fails."""
    options = read_options(GpuOptions, argv)
    data = data_folder(options.data, LocalProfile(executor="local"))
    folder = user_path(options.folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_stand_in_weights(folder / "weights")
    end = time.monotonic() + 60 * options.minutes
    for stage in stages(options, data, folder):
        done = folder / f"{stage.name}.txt"
        if done.exists():
            continue
        print(f"{stage.name} ...", flush=True)
        begun = time.monotonic()
        printed = run(stage, end)
        if printed is None:
            print(f"{stage.name}: no time is left; give the same command again", flush=True)
            return 1
        write_atomically(done, printed)
        print(f"{printed}\n{stage.name}: {time.monotonic() - begun:.0f} s", flush=True)
    tables = page(folder, count_configurations(small=options.small))
    if options.small or options.device == "cpu":
        print(tables)
    else:
        write_part("one GPU", tables)
    return 0


def run(stage: Stage, end: float) -> str | None:
    """What the command prints; None if it had not ended by then, and was stopped with all its processes."""
    process = subprocess.Popen(
        [sys.executable, *stage.words], cwd=CHECKOUT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        printed, errors = process.communicate(timeout=max(1.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if process.returncode:
        raise UserError(f"{stage.name}: {errors.strip()}")
    return printed.strip()


def page(folder: Path, configurations: int) -> str:
    """The tables, each under its command's name."""
    benchmark = benchmark_page.read(folder / "training.json")
    names = [f"step of {model}" for model in NETWORK_NAMES]
    return "\n\n".join(
        (
            benchmark_page.caption(benchmark),
            benchmark_page.table(benchmark),
            f"`python -m tests.tools.gpu_benchmark`, {benchmark.device}, the least to the most of three tries:",
            *((folder / f"{name}.txt").read_text() for name in names),
            f"All {configurations} configurations of the report with one seed, measured once:",
            at_once.table(at_once.read_costs(folder / "report.json")),
        )
    )


if __name__ == "__main__":
    run_command_line(main, USAGE)
