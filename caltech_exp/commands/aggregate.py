"""`python reports/aggregate.py`: write a report from the results of a study."""

import gc
import os
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from caltech_exp.cli import Options, UserError, one_line, read_options, run_command_line
from caltech_exp.files import folder_path, user_path
from caltech_exp.study.plan import RunFilter
from caltech_exp.usage import usage

if TYPE_CHECKING:
    from caltech_exp.reporting.frames import StudyFrames

PAGES = ("report.html", "report.md")
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Environment variables, one of which is set where a browser has a window. Elsewhere Python would start a browser
of text in the terminal and wait for it."""


class AggregateOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    out: str = Field("report", description="folder for the report with its figures and data")
    section: str = Field("", description="only these sections, with commas; default: everything")
    table: str = Field(
        "",
        description="only these tables, section.table, or rows of them, scratch.lr=5e-2; several with commas",
    )
    data: str = Field(
        "", description="the Caltech-101 folder, for figures 1 to 3; default: $CALTECH101_ROOT or the study's"
    )
    open: bool = Field(False, description="open the report in the browser")


USAGE = usage(
    "python reports/aggregate.py [option=value ...]\n\n"
    "Writes a report with measured beside reported numbers: OUT/report.html for the browser, OUT/report.md for\n"
    "GitHub, OUT/tables/ as CSV and LaTeX, OUT/figures/ as PNG and SVG, OUT/runs.csv and OUT/epochs.csv.\n\n"
    "  python reports/aggregate.py runs=runs out=report open=true\n"
    "  python reports/aggregate.py table=scratch.lr,transfer.lr out=rates",
    AggregateOptions,
)


def main(argv: Sequence[str]) -> int:
    """Write the report and say how far the study agrees; returns the exit status."""
    options = read_options(AggregateOptions, argv)
    runs, out = folder_path(options.runs, "runs"), folder_path(options.out, "out")
    data = str(user_path(options.data, "data")) if options.data else ""
    run_filter = RunFilter.parse(options.section, options.table)
    if not runs.exists():
        raise UserError(f"{runs}: there is no such folder; give the folder that jobs/submit.py wrote into")
    from caltech_exp.reporting.frames import read_study  # pandas is slow to import

    with _one_line_errors(f"runs={options.runs} cannot be read", "make it readable"):
        study = read_study(runs)
    catalog = study.catalog.restrict(run_filter.sections, run_filter.tables)
    if catalog is not study.catalog:
        study = study.restrict(catalog)
    with _one_line_errors(f"out={options.out} cannot be written", "make room or give another out= folder"):
        write_report(study, out, data)
    for name in PAGES:
        print(one_line(f"report: {out / name}"))
    for line in summary(study):
        print(line)
    if options.open:
        open_page(out / PAGES[0])
    return 0


@contextmanager
def _one_line_errors(problem: str, remedy: str) -> Iterator[None]:
    """Turn what the block cannot read or write, and the end of a process that it started, into a UserError."""
    try:
        yield
    except BrokenProcessPool:
        raise UserError(
            "a process that reads results or draws figures was killed, probably for lack of memory; run the "
            "command again on a machine with more"
        ) from None
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{problem} ({file}{error.strerror or error}); {remedy}") from None


def write_report(study: "StudyFrames", out: Path, data: str) -> None:
    """Write the pages, figures, tables and CSV files of the report into `out`. Raises OSError.

    data  the data set's folder, for figures 1 to 3; default: $CALTECH101_ROOT or the study's
    """
    from caltech_exp.reporting.page import FIGURES, build_report
    from caltech_exp.reporting.plots.figure_cache import drawing_pool
    from caltech_exp.reporting.render.files import write_files, write_if_changed
    from caltech_exp.reporting.render.html import to_html
    from caltech_exp.reporting.render.markdown import to_markdown

    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    with drawing_pool() as pool:
        report = build_report(study, out, data, pool=pool)
    write_files(out, report.tables, study)
    for name, text in zip(PAGES, (to_html(report.blocks, study, out), to_markdown(report.blocks)), strict=True):
        write_if_changed(out / name, text)


def summary(study: "StudyFrames") -> list[str]:
    """How many runs are finished, and how many rows agree with the report, in plain text."""
    from caltech_exp.reporting.comparison import all_rows, compare_row, compare_rows
    from caltech_exp.reporting.sections.agreement import other_weights_sentence, verdict_sentence
    from caltech_exp.reporting.wording import count_line

    rows = all_rows(study)
    lines = [f"{count_line(study.requested['state'])}."] if rows else []
    lines += [verdict_sentence(compare_rows(rows))] if any(map(compare_row, rows)) else []
    return [*lines, *filter(None, [other_weights_sentence(study)])]


def open_page(page: Path) -> None:
    """Open the page in the user's browser; without one, a line says where the page is."""
    has_display = sys.platform in ("darwin", "win32") or any(map(os.environ.get, DISPLAYS))
    if not (has_display and webbrowser.open(page.as_uri())):
        print(one_line(f"no browser can be opened here; the page is {page}"))


if __name__ == "__main__":
    gc.disable()  # as in console.run
    run_command_line(main, USAGE)
