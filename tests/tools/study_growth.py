"""How the cost of a study grows with its runs: `python tests/tools/study_growth.py [folder=DIR] [seeds=3,30,300]`.

For each number of seeds (40 x seeds runs: 120 with 3, 12,000 with 300) it makes a dry run of the whole report, and
reads a simulated study: its status and its report, each from nothing and then by their caches. Every command is a
process, as a user starts it. Prints seconds, processor seconds of all its processes and the peak memory of the
largest, the least and the most of several tries, and how fast they grow. A study is written once: a second
measurement in the same folder takes it as it is.
"""

import math
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import Field
from tabulate import tabulate

from caltech_exp.cli import Options, UserError, read_options, run_command_line
from caltech_exp.files import usable_cores, user_path, utc_now
from caltech_exp.machine import processor_name
from caltech_exp.standin import write_stand_in
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results_cache import CACHE
from caltech_exp.study.study import STUDY
from caltech_exp.usage import usage
from tests.tools.measuring import Measured, measured
from tests.tools.page import spread, write_part
from tests.tools.simulate import main as simulate

CONFIGURATIONS = 40
FIGURES = {"seconds": "seconds", "processor seconds": "processor_seconds", "peak memory, MB": "peak_mb"}


class GrowthOptions(Options):
    folder: str = Field("build/growth", description="where to keep the studies and their reports")
    seeds: str = Field("3,30,300", description="seeds of the 40 configurations, a number for each study")
    tries: int = Field(3, ge=1, description="how often to measure each command")
    write: bool = Field(False, description="whether to write the table into docs/performance.md")


USAGE = usage(
    "python tests/tools/study_growth.py [folder=DIR] [seeds=3,30,300] [tries=3] [write=true]", GrowthOptions
)


@dataclass(frozen=True)
class Step:
    """A command that is measured; `removed` is what earlier commands left, which it shall not find."""

    name: str
    words: tuple[str, ...]
    removed: Path | None = None


def main(argv: Sequence[str]) -> int:
    """Print the table. Raises UserError if the folder holds another study, or a command fails."""
    options = read_options(GrowthOptions, argv)
    folder = user_path(options.folder, "folder")
    write_stand_in(folder / "stand-in")
    costs: dict[str, dict[int, list[Measured]]] = {}
    for seeds in read_seeds(options.seeds):
        runs = folder / f"runs-{seeds}"
        prepare_study(runs, seeds)
        attempts = [steps(folder, runs, seeds) for _ in range(options.tries)]
        for step in (step for attempt in attempts for step in attempt):
            if step.removed:
                shutil.rmtree(step.removed, ignore_errors=True)
            cost = measured(step.words, os.environ)
            costs.setdefault(step.name, {}).setdefault(CONFIGURATIONS * seeds, []).append(cost)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("pandas", "pydantic"))
    machine = f"{processor_name()}, {usable_cores()} cores, Python {platform.python_version()}, {libraries}"
    command = " ".join(("python tests/tools/study_growth.py", *(word for word in argv if word != "write=true")))
    powers = [line for name, sizes in costs.items() for line in growth(name, sizes)]
    caption = f"`{command}` on {machine}, {utc_now()[:10]}; the least to the most of {options.tries} tries:"
    text = "\n".join((caption, "", table(costs), "", *powers))
    print(text)
    if options.write:
        write_part("growth of a study", text)
    return 0


def read_seeds(text: str) -> list[int]:
    if not all(word.isdecimal() and int(word) for word in text.split(",")):
        raise UserError(f"seeds={text}: give numbers of seeds from 1, as in seeds=3,300")
    return sorted(map(int, text.split(",")))


def prepare_study(runs: Path, seeds: int) -> None:
    """Write a simulated study into a folder, unless it is there."""
    if not (runs / STUDY).exists():
        simulate([f"out={runs}", f"seeds={seeds}"])
    study = StudyFolder(runs).study()
    if study is None or not study.data.simulated:
        raise UserError(f"{runs} holds a study that is not simulated; give another folder=")


def steps(folder: Path, runs: Path, seeds: int) -> list[Step]:
    """The commands in order: each second one finds the cache of the first."""
    out = folder / f"report-{seeds}"
    status = ("jobs/status.py", f"runs={runs}")
    report = ("reports/aggregate.py", f"runs={runs}", f"out={out}")
    dry_run = (
        "jobs/submit.py", "section=all", f"seeds={seeds}", "dry_run=true", "profile=local", "profile.device=cpu",
        "last_batch=keep", f"data={folder / 'stand-in'}", f"runs={folder / 'no runs'}",
    )  # fmt: skip
    return [
        Step("dry run", dry_run),
        Step("status, first", status, removed=(runs / CACHE).parent),
        Step("status, again", status),
        Step("report, first", report, removed=out),
        Step("report, again", report),
    ]


def table(costs: dict[str, dict[int, list[Measured]]]) -> str:
    lines = [
        (name, f"{runs:,}", *(spread([getattr(cost, field) for cost in tries]) for field in FIGURES.values()))
        for name, sizes in costs.items()
        for runs, tries in sizes.items()
    ]
    sides = ("left", *["right"] * (1 + len(FIGURES)))
    headers = ("command", "runs", *FIGURES)
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True, colalign=sides)


def growth(name: str, sizes: dict[int, list[Measured]]) -> Iterator[str]:
    """How processor time and memory grow between the two largest studies, by the least of the tries."""
    if len(sizes) < 2:
        return
    small, large = sorted(sizes)[-2:]

    def power(field: str) -> float:
        least = [min(getattr(cost, field) for cost in sizes[runs]) for runs in (small, large)]
        return math.log(least[1] / least[0]) / math.log(large / small)

    yield (
        f"- {name}: from {small:,} to {large:,} runs, processor time grows as the runs to the power of "
        f"{power('processor_seconds'):.2f}, memory to that of {power('peak_mb'):.2f}."
    )


if __name__ == "__main__":
    run_command_line(main, USAGE)
