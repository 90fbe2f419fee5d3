"""Processor time of a dry run of the whole report, 120 runs: `python -m tests.tools.dry_run_time DATA`."""

import os
import sys
import tempfile
from pathlib import Path

from caltech_exp.provenance import CHECKOUT
from tests.tools.measuring import measured

MOST_SECONDS = 0.5
TRIES = 5


def main(data: str) -> int:
    """Print the least time of several tries, which other programs disturb least; 1 if it is too long."""
    with tempfile.TemporaryDirectory() as folder:
        words = (
            str(CHECKOUT / "jobs/submit.py"), "section=all", "seeds=3", "dry_run=true", "profile=local",
            "profile.device=cpu", "last_batch=keep", f"data={Path(data).resolve()}", f"runs={folder}/runs",
        )  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        tries = [measured(words, environment) for _ in range(TRIES)]
    best = min(tries, key=lambda attempt: attempt.processor_seconds)
    assert sum("-s" in line.split(" ")[0] for line in best.printed.splitlines()) == 120
    print(f"dry run of 120 runs: {best}; at most {MOST_SECONDS} s of processor")
    return int(best.processor_seconds > MOST_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
