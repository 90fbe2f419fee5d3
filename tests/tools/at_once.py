"""The total time of short runs, 1, 2 and 4 at once, on what this machine has: `make benchmark`.

    python -m tests.tools.at_once DATA [runs=16] [tries=1] [counts=1,2,4] [out=FILE] [SETTING=VALUE ...]

Each is one task of a study in a temporary folder, on the first GPU or on all cores; further words go to
jobs/submit.py, as section=all seeds=1 does, with runs=40 as their number. A run that is not counted decodes the
images first, so that every task finds them. A task imports torch once. One at a time its runs share a process,
side by side each has its own. They share the cores: 1 run has all, 2 have half each, and no run has less than one.

Prints seconds from the first run's start to the last one's end, the same with the start of the task and of the
command, how many times faster that is than the first, and the energy that the GPU counted meanwhile. Figures
that FILE has are not measured again.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tabulate import tabulate

from caltech_exp.cli import UserError, run_command_line
from caltech_exp.files import usable_cores, write_atomically
from caltech_exp.machine import ask_nvml
from caltech_exp.provenance import CHECKOUT
from caltech_exp.study.results import RESULT
from tests.tools.page import spread

SETTINGS = ("table=resnet.batch_256", "weights=none", "epochs=2", "batch_size=4", "max_images=8", "precision=fp32")
AT_ONCE = "1,2,4"
NAMES = ("of_runs", "with_start")
OWN = ("runs", "tries", "counts", "out")

Cost = dict[str, float]
"""Seconds `of_runs` and `with_start`, `threads` of each run, and `joules` if a GPU counts them."""


def measure(data: Path, runs: int, at_once: int, words: Sequence[str], folder: Path) -> Cost:
    """What one task of so many runs takes. Raises UserError if a run has no result."""
    study = folder / "study"
    short = () if any(word.startswith("section=") for word in words) else SETTINGS
    chosen = {"seeds": f"seeds={runs}"} | {word.partition("=")[0]: word for word in (*short, *words)}
    command = [
        *(sys.executable, str(CHECKOUT / "jobs" / "submit.py"), *chosen.values(), f"data={data}", f"runs={study}"),
        *(f"runs_per_task={runs}", f"runs_at_once={at_once}", "profile=local", "wait=true"),
        *("profile.max_parallel=1", f"profile.cpus_per_task={usable_cores()}", f"packs={folder.parent / 'packs'}"),
    ]
    begun, joules = time.monotonic(), gpu_joules()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, joules_after = time.monotonic() - begun, gpu_joules()
    results = [json.loads(path.read_text()) for path in study.glob(f"*/{RESULT}")]
    if len(results) != runs:
        raise UserError(f"{len(results)} of {runs} runs have a result: {done.stderr.strip()}")
    starts = [datetime.fromisoformat(result["started"]) for result in results]
    ends = [
        start + timedelta(seconds=result["wall_seconds"]) for start, result in zip(starts, results, strict=True)
    ]
    cost = {"of_runs": (max(ends) - min(starts)).total_seconds(), "with_start": seconds}
    cost["threads"] = results[0]["threads"]
    return cost if joules is None or joules_after is None else {**cost, "joules": joules_after - joules}


def gpu_joules() -> float | None:
    """The energy counter of the first GPU; None without one."""
    return ask_nvml(
        lambda nvml: nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByIndex(0)) / 1000
    )


def read_costs(path: Path) -> dict[int, list[Cost]]:
    """What an earlier call measured, by the number of runs at once."""
    return {int(count): tries for count, tries in json.loads(path.read_text()).items()}


def table(costs: dict[int, list[Cost]]) -> str:
    """The least to the most of each figure; how many times as fast by the least."""
    lines = []
    for at_once, tries in costs.items():
        seconds, whole = ([cost[name] for cost in tries] for name in NAMES)
        first = next(iter(costs.values()))
        faster = [f"{min(cost[name] for cost in first) / min(cost[name] for cost in tries):.2f}" for name in NAMES]
        energy = spread([cost["joules"] for cost in tries]) if "joules" in tries[0] else ""
        threads = f"{tries[0]['threads']:.0f}"
        lines.append((f"{at_once}", threads, spread(seconds), faster[0], spread(whole), faster[1], energy))
    headers = (
        "at once",
        "threads each",
        "runs, s",
        "times as fast",
        "with the start, s",
        "times as fast",
        "energy, J",
    )
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True, colalign=["right"] * len(headers))


def main(argv: Sequence[str]) -> int:
    if not argv:
        raise UserError("python -m tests.tools.at_once takes DATA and words; give the Caltech-101 folder")
    own = dict(word.split("=", 1) for word in argv[1:] if word.partition("=")[0] in OWN)
    words = [word for word in argv[1:] if word.partition("=")[0] not in OWN]
    data, runs, tries = Path(argv[0]), int(own.get("runs", 16)), int(own.get("tries", 1))
    out = Path(own["out"]) if "out" in own else None
    begun = read_costs(out) if out and out.exists() else {}
    counts = [int(count) for count in own.get("counts", AT_ONCE).split(",")]
    costs: dict[int, list[Cost]] = {count: begun.get(count, []) for count in counts}
    print(f"{runs} short runs in one task, {usable_cores()} cores", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if any(len(each) < tries for each in costs.values()):
            first = [word for word in words if not word.startswith(("section=", "seeds=", "epochs="))]
            measure(data, 1, 1, [*first, "epochs=1"], Path(folder) / "warm-up")
        for number in range(tries):  # in turns, so that all meet the machine in the same states
            for at_once, each in costs.items():
                if len(each) <= number:
                    each.append(measure(data, runs, at_once, words, Path(folder) / f"{at_once}-{number}"))
                    if out:
                        write_atomically(out, json.dumps(costs))
    print(table(costs))
    return 0


if __name__ == "__main__":
    run_command_line(main, __doc__ or "")
