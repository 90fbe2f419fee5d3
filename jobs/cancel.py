"""python jobs/cancel.py [runs=DIR]: cancel the jobs of a study, on Slurm and on this machine, and no others."""

import sys

if __name__ == "__main__":
    try:
        from pathlib import Path

        # This checkout, whichever version is installed, and no file beside this one in place of Python's modules.
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
        from caltech_exp.commands.console import run

        run("cancel")
    except KeyboardInterrupt:  # while `run` is loaded
        print("interrupted", file=sys.stderr)
        sys.exit(130)
