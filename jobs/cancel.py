"""python jobs/cancel.py [runs=DIR]: end the jobs of a study, on Slurm and on this machine, and no others."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This checkout, whichever one is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.cli import run_command_line
    from caltech_exp.commands.cancel import USAGE, main

    run_command_line(main, USAGE)
