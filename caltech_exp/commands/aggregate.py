"""Collect the results of a study into OUT/report.md, report.html and figures: `python reports/aggregate.py`."""

import gc
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.cli import UserError, read_options, run_command_line, usage
from caltech_exp.files import user_path
from caltech_exp.reporting.collect import collect
from caltech_exp.reporting.counts import count_line
from caltech_exp.reporting.epoch_file import write_epochs
from caltech_exp.reporting.markdown import to_markdown
from caltech_exp.reporting.markup import printable
from caltech_exp.reporting.page import CACHE, FIGURES, make_report, open_gallery
from caltech_exp.reporting.run_file import every_outcome, write_runs
from caltech_exp.reporting.table_files import write_if_changed, write_tables
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import STUDY


class AggregateOptions(BaseModel):
    """What `reports/aggregate.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: str = Field("runs", description="folder of the study")
    out: str = Field("report", description="folder for the report, its figures and its data")
    data: str = Field(
        "", description="the Caltech-101 folder, for figures 1 to 3; left out: $CALTECH101_ROOT or the study's"
    )


USAGE = usage(
    "python reports/aggregate.py [runs=DIR] [out=DIR] [data=DIR]\n\n"
    "Writes the report's tables and figures, with measured beside reported numbers, to OUT/report.md (for\n"
    "GitHub) and OUT/report.html (for the browser, with curves to explore and a list of all runs), its tables to\n"
    "OUT/tables/ as CSV and LaTeX, all runs to OUT/runs.csv and all their epochs to OUT/epochs.csv.",
    AggregateOptions,
)


KILLED = (
    "a process that reads results or draws figures was killed, as happens without enough memory; give the same "
    "command again where there is more"
)


def main(argv: Sequence[str]) -> int:
    """Write the report; returns the exit status. Raises UserError for what the user can mend."""
    options = read_options(AggregateOptions, argv)
    runs, out = user_path(options.runs, "runs"), user_path(options.out, "out")
    data = str(user_path(options.data, "data")) if options.data else ""
    try:
        _require_runs(runs, out)
        collected = collect(runs, out / CACHE / "results")
    except BrokenProcessPool:
        raise UserError(KILLED) from None
    except OSError as error:
        raise UserError(
            f"runs={options.runs} cannot be read ({error.strerror or error}); make it readable"
        ) from None
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            gallery = open_gallery(out, pool)
            report = make_report(collected, gallery, data)
            write_tables(out / "tables", out / CACHE / "tables.json", report.grids)
            write_runs(out / "runs.csv", out / CACHE / "runs.json", collected)
            write_epochs(out / "epochs.csv", out / CACHE / "epochs.json", every_outcome(collected))
            from caltech_exp.reporting.html_page import (
                to_html,  # templates are imported only where the page is written
            )

            page = to_html(report.blocks, collected, out, gallery.finish)
        write_if_changed(out / "report.md", to_markdown(report.blocks))
        write_if_changed(out / "report.html", page)
    except BrokenProcessPool:
        raise UserError(KILLED) from None
    except OSError as error:
        place = error.filename or out
        raise UserError(
            f"out={options.out} cannot be written ({place}: {error.strerror or error}); "
            "make room or give another out= folder"
        ) from None
    for name in ("report.md", "report.html"):
        print(printable(f"report: {out / name}"))
    print(count_line(collected))
    return 0


def _require_runs(runs: Path, out: Path) -> None:
    """Raises UserError if the report in `out` has runs, and would be lost to that of a folder that has none."""
    nothing = not runs.is_file() and not (runs / STUDY).exists() and not any(StudyFolder(runs).run_folders())
    if nothing and _has_runs(out):
        what = "holds no study" if runs.exists() else "is not there"
        raise UserError(
            f"runs={runs} {what}, and the report in out={out} is of one; name the study's folder, or give another "
            "out="
        )


def _has_runs(out: Path) -> bool:
    """Whether there is a report in `out`, and any run in it."""
    try:
        with (out / "runs.csv").open("rb") as lines:
            return len(list(islice(lines, 2))) > 1
    except OSError:
        return False


if __name__ == "__main__":
    gc.disable()  # one pass over records that all stay: looking through them again and again frees nothing
    run_command_line(main, USAGE)
