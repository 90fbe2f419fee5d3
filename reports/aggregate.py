"""Collect the results of a study into OUT/report.md, report.html and figures: `python reports/aggregate.py`."""

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    gc.disable()  # one pass over records that all stay: looking through them again and again frees nothing
    # This checkout, whichever one is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.cli import run_command_line
    from caltech_exp.commands.aggregate import USAGE, main

    run_command_line(main, USAGE)
