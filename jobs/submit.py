"""python jobs/submit.py section=transfer: expand the section's tables into Slurm arrays."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # This checkout, whichever one is installed; and no file beside this one in place of a module of Python's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from caltech_exp.cli import run_command_line
    from caltech_exp.commands.submit import main
    from caltech_exp.submission.request import USAGE

    run_command_line(main, USAGE)
