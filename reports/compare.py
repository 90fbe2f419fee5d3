"""python reports/compare.py first=DIR second=DIR: compare two studies of the same runs, run by run."""

import sys

if __name__ == "__main__":
    try:
        from pathlib import Path

        # This checkout, whichever version is installed, and no file beside this one in place of Python's modules.
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
        from caltech_exp.commands.console import run

        run("compare")
    except KeyboardInterrupt:  # while `run` is loaded
        print("interrupted", file=sys.stderr)
        sys.exit(130)
