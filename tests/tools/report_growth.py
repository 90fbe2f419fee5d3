"""How the report grows: `python tests/tools/report_growth.py [folder=DIR] [seeds=300]`.

Writes a simulated study of 40 x seeds runs (12,000 with 300), makes its report in a fresh output folder, then
again after one new result, then after none, each as a process of its own as a user starts it. Prints seconds, peak
memory of the largest process, and how many times as fast the second report is. The study is written once: a second
benchmark in the same folder takes it as it is.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import Field

from caltech_exp.cli import Options, UserError, read_options, run_command_line, usage
from caltech_exp.files import user_path
from caltech_exp.provenance import CHECKOUT
from caltech_exp.records import write_record
from caltech_exp.reporting.markup import table
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import RESULT, Result, read_result
from caltech_exp.study.study import STUDY
from tests.tools.simulate import main as simulate

AGGREGATE = CHECKOUT / "reports" / "aggregate.py"


class GrowthOptions(Options):
    folder: str = Field("build/growth", description="where to keep the study and its report")
    seeds: int = Field(300, ge=1, le=100_000, description="seeds of the 40 configurations")
    rounds: int = Field(3, ge=1, description="how often to repeat the reports after the first; the median counts")


USAGE = usage("python tests/tools/report_growth.py [folder=DIR] [seeds=300] [rounds=3]", GrowthOptions)


@dataclass(frozen=True)
class Measured:
    """One process: seconds from its start to its end, processor seconds, peak resident memory in bytes."""

    wall: float
    processor: float
    memory: int


def main(argv: Sequence[str]) -> int:
    """Print the table. Raises UserError if the folder holds another study, or a report fails."""
    options = read_options(GrowthOptions, argv)
    folder = user_path(options.folder, "folder")
    runs, out = folder / f"runs-{options.seeds}", folder / f"report-{options.seeds}"
    if not (runs / STUDY).exists():
        simulate([f"out={runs}", f"seeds={options.seeds}"])
    study = StudyFolder(runs).study()
    if study is None or not study.data.simulated:
        raise UserError(f"{runs} holds a study that is not simulated; give another folder=")
    files = sum(1 for path in StudyFolder(runs).run_folders() if (path / RESULT).exists())
    shutil.rmtree(out, ignore_errors=True)
    first = _report(runs, out)
    again, same = [], []
    for round_ in range(options.rounds):
        _replace_one(runs, round_)
        again.append(_report(runs, out))
        same.append(_report(runs, out))
    lines = {"first report": first, "after one new result": _median(again), "after none": _median(same)}
    cells = [
        (
            what,
            f"{one.wall:.2f}",
            f"{one.processor:.2f}",
            f"{one.memory / 2**20:.0f}",
            f"{first.wall / one.wall:.1f}",
        )
        for what, one in lines.items()
    ]
    headings = (f"{files:,} results", "seconds", "processor seconds", "peak memory, MiB", "times as fast")
    print(table(headings, cells, numbers=(1, 2, 3, 4)))
    return 0


def _report(runs: Path, out: Path) -> Measured:
    """Aggregate in a new process. Raises UserError if that fails."""
    start = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        [sys.executable, str(AGGREGATE), f"runs={runs}", f"out={out}"],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage_ = os.wait4(process, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise UserError(f"aggregating {runs} ended with status {os.waitstatus_to_exitcode(status)}")
    return Measured(wall, usage_.ru_utime + usage_.ru_stime, usage_.ru_maxrss * 1024)


def _replace_one(runs: Path, number: int) -> None:
    """A new result in place of one: its curve is its old one backwards, but for the last epoch."""
    folder = list(StudyFolder(runs).run_folders())[number]
    result = read_result(folder)
    if not isinstance(result, Result):
        raise UserError(f"{folder} holds no result; delete {runs} and start again")
    last = result.epochs[-1]
    epochs = (*reversed(result.epochs[:-1]), last)
    numbered = tuple(epoch.model_copy(update={"epoch": place}) for place, epoch in enumerate(epochs, start=1))
    write_record(folder, RESULT, result.model_copy(update={"epochs": numbered}))


def _median(measured: Sequence[Measured]) -> Measured:
    return sorted(measured, key=lambda one: one.wall)[len(measured) // 2]


if __name__ == "__main__":
    run_command_line(main, USAGE)
