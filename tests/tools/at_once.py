"""The total time of short runs, 1, 2 and 4 at once, on what this machine has: `make benchmark`.

    python -m tests.tools.at_once DATA [runs=16] [SETTING=VALUE ...]

Each is one task of a study in a temporary folder, on the first GPU or on all cores; further words go to
jobs/submit.py. Prints seconds from the first run's start to the last one's end, and how many times faster that is
than one at a time.
"""

import json
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from caltech_exp.files import usable_cores
from caltech_exp.provenance import CHECKOUT
from caltech_exp.study.results import RESULT

SETTINGS = ("table=resnet.batch_256", "weights=none", "epochs=2", "batch_size=4", "max_images=8", "precision=fp32")
AT_ONCE = (1, 2, 4)


def seconds(data: Path, runs: int, at_once: int, words: list[str], folder: Path) -> float:
    """From the first start to the last end of the runs. Raises RuntimeError if one has no result."""
    study = folder / f"at once {at_once}"
    chosen = {word.partition("=")[0]: word for word in (*SETTINGS, *words)}
    command = [
        *(sys.executable, str(CHECKOUT / "jobs" / "submit.py"), *chosen.values(), f"data={data}", f"runs={study}"),
        *(f"seeds={runs}", f"runs_per_task={runs}", f"runs_at_once={at_once}", "profile=local", "wait=true"),
        *("profile.max_parallel=1", f"profile.cpus_per_task={usable_cores()}", f"packs={folder / 'packs'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = [json.loads(path.read_text()) for path in study.glob(f"*/{RESULT}")]
    if len(results) != runs:
        raise RuntimeError(f"{len(results)} of {runs} runs have a result: {done.stderr.strip()}")
    starts = [datetime.fromisoformat(result["started"]) for result in results]
    ends = [
        start + timedelta(seconds=result["wall_seconds"]) for start, result in zip(starts, results, strict=True)
    ]
    return (max(ends) - min(starts)).total_seconds()


def main(argv: list[str]) -> None:
    data, *words = argv
    count = next((int(word.removeprefix("runs=")) for word in words if word.startswith("runs=")), 16)
    words = [word for word in words if not word.startswith("runs=")]
    print(f"{count} short runs in one task, {usable_cores()} cores")
    with tempfile.TemporaryDirectory() as folder:
        first = 0.0
        for at_once in AT_ONCE:
            taken = seconds(Path(data), count, at_once, words, Path(folder))
            first = first or taken
            print(f"{at_once} at once: {taken:6.1f} s, {first / taken:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
