"""One screen on how a study stands: `python jobs/status.py [runs=DIR] [watch=true]`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This checkout, whichever one is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.cli import run_command_line
    from caltech_exp.commands.status import USAGE, main

    run_command_line(main, USAGE)
