"""python reports/compare.py first=DIR second=DIR: compare two studies of the same runs, run by run."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This checkout, whichever version is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.commands.console import run

    run("compare")
