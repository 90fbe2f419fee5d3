"""python jobs/list.py: show the studies below a folder."""

import sys

if __name__ == "__main__":
    try:
        from pathlib import Path

        # This checkout, whichever version is installed, and no file beside this one in place of Python's modules.
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
        from caltech_exp.commands.console import run

        run("list")
    except KeyboardInterrupt:  # while `run` is loaded
        print("interrupted", file=sys.stderr)
        sys.exit(130)
