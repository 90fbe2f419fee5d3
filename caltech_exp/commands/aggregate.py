"""`python reports/aggregate.py`: write a report from the results of a study."""

import gc
import os
import sys
import webbrowser
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pydantic import Field

from caltech_exp.cli import Options, UserError, read_options, run_command_line, usage
from caltech_exp.files import user_path
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import RESULT
from caltech_exp.study.study import STUDY
from caltech_exp.submission.request import split_names, split_table_names


class AggregateOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    out: str = Field("report", description="folder for the report with its figures and data")
    data: str = Field(
        "", description="the Caltech-101 folder, for figures 1 to 3; default: $CALTECH101_ROOT or the study's"
    )
    section: str = Field("", description="sections to show, separated by commas; default: all")
    table: str = Field("", description="tables or rows to show: table=scratch.lr or table=scratch.lr=5e-2")
    open: bool = Field(False, description="open the report in the browser")


USAGE = usage(
    "python reports/aggregate.py [option=value ...]\n\n"
    "Writes a report with measured beside reported numbers: OUT/report.md for GitHub, OUT/report.html for the\n"
    "browser (interactive curves and a list of all runs), OUT/tables/ as CSV and LaTeX, OUT/runs.csv with all\n"
    "runs and OUT/epochs.csv with all their epochs.\n\n"
    "  python reports/aggregate.py runs=runs out=report open=true",
    AggregateOptions,
)


DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Environment variables, one of which is set where a browser has a window. Elsewhere Python would start a browser
of text in the terminal and wait for it."""
KILLED = (
    "a process that reads results or draws figures was killed, probably for lack of memory; run the command again "
    "on a machine with more"
)


def main(argv: Sequence[str]) -> int:
    """Write the report; returns the exit status."""
    options = read_options(AggregateOptions, argv)
    runs, out = user_path(options.runs, "runs"), user_path(options.out, "out")
    data = str(user_path(options.data, "data")) if options.data else ""
    # pandas, scipy, jinja2 and bokeh are slow to import: not for a mistake on the command line.
    from caltech_exp.reporting.frames import read_study
    from caltech_exp.reporting.page import FIGURES, build_report
    from caltech_exp.reporting.plots.figure_cache import drawing_pool
    from caltech_exp.reporting.render.blocks import printable
    from caltech_exp.reporting.render.files import write_files, write_if_changed
    from caltech_exp.reporting.render.html import to_html
    from caltech_exp.reporting.render.markdown import to_markdown
    from caltech_exp.reporting.wording import count_line

    try:
        _require_study(runs)
        study = read_study(runs)
    except BrokenProcessPool:
        raise UserError(KILLED) from None
    except OSError as error:
        raise UserError(
            f"runs={options.runs} cannot be read ({error.strerror or error}); make it readable"
        ) from None
    selection = study.catalog.restrict(split_names("section", options.section), split_table_names(options.table))
    shown = study.restrict(selection)
    try:
        (out / FIGURES).mkdir(parents=True, exist_ok=True)
        with drawing_pool() as pool:
            report = build_report(shown, out, data, pool=pool)
        write_files(out, report.tables, study)
        write_if_changed(out / "report.md", to_markdown(report.blocks))
        write_if_changed(out / "report.html", to_html(report.blocks, shown, out))
    except BrokenProcessPool:
        raise UserError(KILLED) from None
    except OSError as error:
        raise UserError(
            f"out={options.out} cannot be written ({error.filename or out}: {error.strerror or error}); "
            "make room or give another out= folder"
        ) from None
    for name in ("report.md", "report.html"):
        print(printable(f"report: {out / name}"))
    asked = shown.runs[shown.runs["rows"] != ""]
    print(count_line(asked["state"]))
    if options.open:
        open_page(out / "report.html")
    return 0


def _require_study(runs: Path) -> None:
    """Raises UserError if the folder holds neither a study nor a result: nothing is written for such a folder."""
    if not runs.exists():
        raise UserError(f"{runs}: there is no such folder; give the folder that jobs/submit.py wrote into")
    has_result = any((run / RESULT).exists() for run in StudyFolder(runs).run_folders())
    if runs.is_dir() and not has_result and not (runs / STUDY).exists():
        raise UserError(f"{runs} holds no study; give the folder that jobs/submit.py wrote into")


def open_page(page: Path) -> None:
    """Open the page in the user's browser; without one, a line says where the page is."""
    has_display = sys.platform in ("darwin", "win32") or any(map(os.environ.get, DISPLAYS))
    if not (has_display and webbrowser.open(page.as_uri())):
        print(f"no browser can be opened here; the page is {page}")


if __name__ == "__main__":
    gc.disable()  # one pass over records that all stay in memory: collecting frees nothing
    run_command_line(main, USAGE)
