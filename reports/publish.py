"""python reports/publish.py runs=DIR out=DIR: copy a study's results to where others may read them."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This checkout, whichever version is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.commands.console import run

    run("publish")
