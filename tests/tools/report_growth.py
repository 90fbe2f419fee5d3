"""What a report costs: `python tests/tools/report_growth.py [folder=DIR] [seeds=3,300]`.

Writes simulated studies of 40 x seeds runs (120 with 3, 12,000 with 300) and makes the report of each twice, first
from nothing and then with its figures there. Each report is a process, as a user starts it. Prints seconds,
processor seconds of it and its processes, and the peak memory of the largest. A study is written once: a second
benchmark in the same folder takes it as it is.
"""

import contextlib
import ctypes
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pandas as pd
from pydantic import Field

from caltech_exp.cli import Options, UserError, read_options, run_command_line
from caltech_exp.files import user_path
from caltech_exp.provenance import CHECKOUT
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import RESULT
from caltech_exp.study.study import STUDY
from caltech_exp.usage import usage
from tests.tools.simulate import main as simulate

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
AGGREGATE = CHECKOUT / "reports" / "aggregate.py"


class GrowthOptions(Options):
    folder: str = Field("build/growth", description="where to keep the studies and their reports")
    seeds: str = Field("3,300", description="seeds of the 40 configurations, a number for each study")


USAGE = usage("python tests/tools/report_growth.py [folder=DIR] [seeds=3,300]", GrowthOptions)


@dataclass(frozen=True)
class Cost:
    """Of one report: seconds, processor seconds of all its processes, peak memory of the largest in bytes."""

    seconds: float
    processor_seconds: float
    memory: int


def main(argv: Sequence[str]) -> int:
    """Print the table. Raises UserError if the folder holds another study, or a report fails."""
    options = read_options(GrowthOptions, argv)
    folder = user_path(options.folder, "folder")
    lines = []
    for seeds in options.seeds.split(","):
        if not seeds.isdecimal() or not int(seeds):
            raise UserError(f"seeds={options.seeds}: give numbers of seeds from 1, as in seeds=3,300")
        runs, out = folder / f"runs-{seeds}", folder / f"report-{seeds}"
        results = prepare_study(runs, int(seeds))
        shutil.rmtree(out, ignore_errors=True)
        for report in ("first", "again"):
            cost = make_report(runs, out)
            lines.append(
                {
                    "results": f"{results:,}",
                    "report": report,
                    "seconds": f"{cost.seconds:.1f}",
                    "processor seconds": f"{cost.processor_seconds:.1f}",
                    "peak memory, MiB": f"{cost.memory / 2**20:.0f}",
                }
            )
    sides = ("right", "left", "right", "right", "right")
    print(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True, colalign=sides))
    return 0


def prepare_study(runs: Path, seeds: int) -> int:
    """The number of results of the simulated study in a folder, which is written if it is not there."""
    if not (runs / STUDY).exists():
        simulate([f"out={runs}", f"seeds={seeds}"])
    folder = StudyFolder(runs)
    study = folder.study()
    if study is None or not study.data.simulated:
        raise UserError(f"{runs} holds a study that is not simulated; give another folder=")
    return sum((path / RESULT).exists() for path in folder.run_folders())


def make_report(runs: Path, out: Path) -> Cost:
    """Aggregate in a new process. Raises UserError if that fails."""
    # Processes that draw are children of a process that nobody waits for: they become this one's, to be counted.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    process = os.posix_spawn(
        sys.executable,
        [sys.executable, str(AGGREGATE), f"runs={runs}", f"out={out}"],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        raise UserError(f"aggregating {runs} ended with status {os.waitstatus_to_exitcode(status)}")
    costs = [used, *wait_for_all()]
    processor_seconds = sum(cost.ru_utime + cost.ru_stime for cost in costs)
    return Cost(seconds, processor_seconds, max(cost.ru_maxrss for cost in costs) * 1024)


def wait_for_all() -> Iterator[resource.struct_rusage]:
    """What every process left used."""
    with contextlib.suppress(ChildProcessError):
        while True:
            yield os.wait4(-1, 0)[2]


if __name__ == "__main__":
    run_command_line(main, USAGE)
