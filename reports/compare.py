"""python reports/compare.py: two studies of the same runs, paired run by run."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This checkout, whichever one is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.cli import run_command_line
    from caltech_exp.commands.compare import USAGE, main

    run_command_line(main, USAGE)
